//! An update: from a look at the tag to the pointer that moved, or to why it did not.

use std::{thread, time::Instant};

use dukou_types::{Digest, ErrorCode, Failure, Version};
use serde_json::json;

use super::{Agent, Course};
use crate::{
    fetch::{Fetch, Traffic},
    files::now,
    login::{Login, client},
    manifest::Candidate,
    memory::{Memory, Update},
    plan::{Facts, Step, plan},
    registry::Registry,
    settings::Follow,
    slots::Slot,
    store::Beside,
};

/// Of a version's digest, so many digits name it where it has no number.
const SHORT: usize = 12;

/// What is followed, and where it is asked.
struct Source<'a> {
    registry: Registry,
    follow: &'a Follow,
}

impl Agent {
    /// One look at the registry, and what follows from it.
    pub(super) fn look(&self, follow: &Follow, course: &mut Course, memory: &mut Memory) {
        let source = match self.registry(follow) {
            Ok(registry) => Source { registry, follow },
            Err(failure) => return self.polled(memory, Some(&failure)),
        };
        let followed = match source.registry.tag(&follow.tag) {
            Ok(Some(digest)) => digest,
            Ok(None) => {
                let message = format!("`{}` has no tag `{}`", follow.repository, follow.tag);
                return self
                    .polled(memory, Some(&Failure::new(ErrorCode::RemoteNotFound, message)));
            }
            Err(failure) => return self.polled(memory, Some(&failure)),
        };
        self.polled(memory, None);
        loop {
            let facts = Facts {
                serving: course.serving.clone(),
                followed: Some(followed.clone()),
                refused: memory.refused.iter().map(|refused| refused.digest.clone()).collect(),
                fetched: course.fetched.as_ref().map(|(digest, ..)| digest.clone()),
            };
            let (digest, outcome) = match plan(&facts) {
                Step::Rest | Step::Shun(_) => return,
                Step::Fetch(digest) => {
                    let mut traffic = Traffic::default();
                    match self.fetch(&source, &digest, course.serving.as_ref(), &mut traffic) {
                        Ok(beside) => {
                            course.fetched = Some((digest, beside, traffic));
                            continue;
                        }
                        Err(failure) => (digest, Err((failure, traffic))),
                    }
                }
                Step::Try(digest) => {
                    let (beside, traffic) = match course.fetched.take() {
                        Some((_, beside, traffic)) => (beside, traffic),
                        None => return,
                    };
                    course.self_tests += 1;
                    let tried = self.install(&source.registry, &digest, &beside);
                    (digest, tried.map(|()| traffic).map_err(|failure| (failure, traffic)))
                }
            };
            self.finish(digest, outcome, course, memory);
            return;
        }
    }

    fn finish(
        &self,
        digest: Digest,
        outcome: Result<Traffic, (Failure, Traffic)>,
        course: &mut Course,
        memory: &mut Memory,
    ) {
        let (failure, traffic) = match outcome {
            Ok(traffic) => (None, traffic),
            Err((failure, traffic)) => (Some(failure), traffic),
        };
        let code = failure.as_ref().map(|failure| failure.code.as_str().to_owned());
        // What fails again as it did before is no news.
        let again = code.is_some()
            && memory
                .last_update
                .as_ref()
                .is_some_and(|last| last.digest == digest && last.code == code);
        memory.last_update = Some(Update {
            digest: digest.clone(),
            time: now(),
            code,
            message: failure.as_ref().map(|failure| failure.message.to_string()),
            moved_bytes: traffic.moved,
            present_bytes: traffic.present,
        });
        if again {
            return self.remember(memory);
        }
        let event = match &failure {
            None => {
                memory.installed += 1;
                course.serving = Some(digest.clone());
                self.device.log(&format!("{digest} serves; {} bytes came for it", traffic.moved));
                json!({"installed": digest, "moved_bytes": traffic.moved})
            }
            Some(failure) => {
                memory.failed += 1;
                if is_final(failure.code) {
                    memory.refuse(&digest, failure);
                }
                self.device.log(&format!("{digest} is not taken: {failure}"));
                json!({"refused": digest, "code": failure.code.as_str(), "message": failure.message})
            }
        };
        self.remember(memory);
        self.record(course, memory, event);
        // What was fetched and did not hold, and what the slot held before, is nobody's now. What broke
        // off on the way stays: the next look goes on there.
        if failure.as_ref().is_none_or(|failure| is_final(failure.code)) {
            self.tidy(course.serving.as_ref());
        }
        self.report();
    }

    /// Fetches on a thread that everything else goes before.
    fn fetch(
        &self,
        source: &Source<'_>,
        digest: &Digest,
        serving: Option<&Digest>,
        traffic: &mut Traffic,
    ) -> Result<Beside, Failure> {
        let wait = |time| self.wait(Instant::now() + time);
        let fetch = Fetch {
            registry: &source.registry,
            store: &self.store,
            bytes_per_s: source.follow.bytes_per_s,
            wait: &wait,
        };
        let meekly = || {
            dukou_sys::go_last();
            let beside = fetch.documents(digest, traffic)?;
            self.list_with(digest, &beside)?;
            // Nothing that an unsigned manifest names is worth fetching.
            self.device.check_signature(digest)?;
            self.make_room(fetch.lacking(digest)?, serving, digest, &beside)?;
            fetch.layers(digest, traffic)?;
            Ok(beside)
        };
        thread::scope(|scope| {
            let fetching = thread::Builder::new().name("fetch".into()).spawn_scoped(scope, meekly);
            match fetching.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(Failure::new(
                    ErrorCode::EngineInternal,
                    "fetching met a fault of ours; the log has it",
                )),
                Err(error) => Err(Failure::new(
                    ErrorCode::EdgeDisk,
                    format!("no thread to fetch with: {error}"),
                )),
            }
        })
    }

    /// Has the engine try a version, and then moves the pointer to it.
    fn install(
        &self,
        registry: &Registry,
        digest: &Digest,
        beside: &Beside,
    ) -> Result<(), Failure> {
        self.list_with(digest, beside)?;
        // A registry that is gone by now costs the version its number, not the update.
        let number = registry.number(digest).unwrap_or(None);
        let candidate = Candidate { digest: digest.clone(), number };
        let sequence = self.slots.all().map(|slot| slot.sequence).max().unwrap_or(0) + 1;
        let slot = Slot {
            format: 1,
            digest: digest.clone(),
            version: label(&candidate)?,
            labels: self.device.labels(digest)?,
            sequence,
            installed: now(),
        };
        self.device.serve(&slot)?;
        self.slots.commit(&slot).map(|_| ())
    }

    /// Refuses an update that does not fit; the idle slot's version makes room where that helps.
    fn make_room(
        &self,
        lacking: u64,
        serving: Option<&Digest>,
        candidate: &Digest,
        beside: &Beside,
    ) -> Result<(), Failure> {
        if self.fits(lacking).is_none() {
            return Ok(());
        }
        if serving.is_some() {
            self.slots.clear_other()?;
            let mut kept = self.kept();
            kept.push((candidate.clone(), beside.clone()));
            self.store.list(&kept)?;
            self.store.collect(&kept)?;
        }
        match self.fits(lacking) {
            None => Ok(()),
            Some((room, of)) => Err(Failure::new(
                ErrorCode::EdgeNoRoom,
                format!("{candidate} needs {lacking} bytes more, and {of} has room for {room}"),
            )),
        }
    }

    /// None where so many bytes fit; else how many would, and of what.
    fn fits(&self, lacking: u64) -> Option<(u64, &'static str)> {
        let disk = self.store.free().saturating_sub(self.settings.spare_bytes);
        if lacking > disk {
            return Some((disk, "the disk"));
        }
        let most = self.settings.store_bytes;
        let own = most.saturating_sub(self.store.size());
        (most > 0 && lacking > own).then_some((own, "the store, by `store_bytes`,"))
    }

    /// The versions of both slots, with what lies beside them; those that can be read.
    fn kept(&self) -> Vec<(Digest, Beside)> {
        let slots = self.slots.all().map(|slot| slot.digest);
        slots
            .filter_map(|digest| self.store.beside(&digest).ok().map(|beside| (digest, beside)))
            .collect()
    }

    /// Lists both slots' versions and one more, so that the engine finds it.
    fn list_with(&self, digest: &Digest, beside: &Beside) -> Result<(), Failure> {
        let mut versions = self.kept();
        versions.retain(|(known, _)| known != digest);
        versions.push((digest.clone(), beside.clone()));
        self.store.list(&versions)
    }

    /// Lists and keeps what the slots name, and nothing else.
    pub(super) fn tidy(&self, serving: Option<&Digest>) {
        let kept = self.kept();
        // Where what serves cannot be read, nothing is taken away: somebody may want to look.
        if serving.is_some_and(|serving| kept.iter().all(|(known, _)| known != serving)) {
            return;
        }
        let outcome = self.store.list(&kept).and_then(|()| self.store.collect(&kept));
        if let Err(failure) = outcome {
            self.device.log(&format!("the store is not tidied: {failure}"));
        }
    }

    fn registry(&self, follow: &Follow) -> Result<Registry, Failure> {
        let client = client(&follow.registry, &self.place.authorities())?;
        Ok(Registry::new(follow, client, Login::find(&self.place, follow)?))
    }

    fn polled(&self, memory: &mut Memory, failure: Option<&Failure>) {
        let before = memory.last_poll.as_ref().and_then(|poll| poll.code.clone());
        memory.polled(failure);
        if let Some(failure) = failure
            && before.as_deref() != Some(failure.code.as_str())
        {
            self.device.log(&format!("the registry cannot be asked: {failure}"));
        }
        self.remember(memory);
    }
}

/// Whether a failure is the version's own, so that trying it again would give the same.
fn is_final(code: ErrorCode) -> bool {
    let word = code.as_str();
    // A signature or a key may come later, and a blob that came wrong may come right.
    ["table.", "formats.", "deploy."].iter().any(|room| word.starts_with(room))
        || matches!(code, ErrorCode::TrustBadSignature | ErrorCode::TrustBadCiphertext)
}

fn label(candidate: &Candidate) -> Result<Version, Failure> {
    let text = match candidate.number {
        Some(number) => number.to_string(),
        None => candidate.digest.hex().chars().take(SHORT).collect(),
    };
    Version::parse(&text).map_err(|text| {
        Failure::new(ErrorCode::FormatsCorrupt, format!("`{text}` cannot be a version's label"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_versions_own_fault_is_not_tried_again() {
        for code in [
            ErrorCode::TableGoldenMismatch,
            ErrorCode::TrustBadSignature,
            ErrorCode::FormatsCorrupt,
            ErrorCode::TableLoadFailed,
        ] {
            assert!(is_final(code), "{code}");
        }
        for code in [
            ErrorCode::RemoteUnreachable,
            ErrorCode::PackageDigestMismatch,
            ErrorCode::EdgeNoRoom,
            ErrorCode::TrustUnsigned,
            ErrorCode::TrustNoEncryptionKey,
            ErrorCode::EngineOutOfMemory,
        ] {
            assert!(!is_final(code), "{code}");
        }
    }

    #[test]
    fn a_version_has_its_number_or_its_digest() {
        let digest = Digest::parse(&format!("sha256:{:064x}", 0xabc)).unwrap();
        let candidate = Candidate { digest, number: Some(7) };
        assert_eq!(label(&candidate).unwrap().as_str(), "7");
        let named = label(&Candidate { number: None, ..candidate }).unwrap();
        assert_eq!(named.as_str(), "000000000000");
    }
}
