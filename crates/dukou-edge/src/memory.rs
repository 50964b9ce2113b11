//! What an agent remembers from one start to the next: what failed here, what came, what it counted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dukou_types::{Digest, Failure};
use serde::{Deserialize, Serialize};

use crate::files::{now, replace};

/// Versions that are remembered as refused; older ones are forgotten, and would be tried again.
const REFUSED: usize = 32;

/// The file `state/agent.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Versions that failed here and are not tried again, the newest last.
    #[serde(default)]
    pub refused: Vec<Refused>,
    /// The last time that the registry was asked.
    #[serde(default)]
    pub last_poll: Option<Happened>,
    /// The last update that was begun.
    #[serde(default)]
    pub last_update: Option<Update>,
    /// Updates that were put in place.
    #[serde(default)]
    pub installed: u64,
    /// Updates that failed.
    #[serde(default)]
    pub failed: u64,
    /// Records that were dropped because nobody took them in time.
    #[serde(default)]
    pub dropped: u64,
    #[serde(skip)]
    path: PathBuf,
}

/// A version that failed here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub digest: Digest,
    /// The failure's code.
    pub code: String,
    /// Its sentence.
    pub message: String,
    /// When, in seconds since 1970.
    pub time: u64,
}

/// Something that happened, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When, in seconds since 1970.
    pub time: u64,
    /// The failure's code; none where it went well.
    pub code: Option<String>,
    /// Its sentence.
    pub message: Option<String>,
}

/// An update, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// To which version.
    pub digest: Digest,
    /// When it ended, in seconds since 1970.
    pub time: u64,
    /// The failure's code; none where it was put in place.
    pub code: Option<String>,
    /// Its sentence.
    pub message: Option<String>,
    /// Bytes that travelled for it, in this try.
    pub moved_bytes: u64,
    /// Bytes that were there already.
    pub present_bytes: u64,
}

impl Memory {
    /// Reads it; an empty one where there is none, or it cannot be read.
    pub fn read(state: &Path) -> Self {
        let path = state.join("agent.json");
        let read = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { path, ..read.unwrap_or_default() }
    }

    /// Writes it. Where the disk is full serving and updating go on: what is lost is memory alone.
    pub fn write(&self) -> std::io::Result<()> {
        replace(&self.path, &serde_json::to_vec_pretty(self).unwrap_or_default())
    }

    /// Remembers a version that failed here.
    pub fn refuse(&mut self, digest: &Digest, failure: &Failure) {
        self.refused.retain(|known| known.digest != *digest);
        self.refused.push(Refused {
            digest: digest.clone(),
            code: failure.code.as_str().to_owned(),
            message: failure.message.to_string(),
            time: now(),
        });
        let surplus = self.refused.len().saturating_sub(REFUSED);
        self.refused.drain(..surplus);
    }

    /// Remembers how asking the registry went.
    pub fn polled(&mut self, failure: Option<&Failure>) {
        self.last_poll = Some(Happened {
            time: now(),
            code: failure.map(|failure| failure.code.as_str().to_owned()),
            message: failure.map(|failure| failure.message.to_string()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dukou_types::ErrorCode;

    #[test]
    fn it_is_there_again_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::read(folder.path());
        assert!(memory.refused.is_empty());
        let failure = Failure::new(ErrorCode::TableGoldenMismatch, "differs");
        for index in 0..40 {
            let digest = Digest::parse(&format!("sha256:{index:064x}")).unwrap();
            memory.refuse(&digest, &failure);
            memory.refuse(&digest, &failure);
        }
        memory.write().unwrap();
        let read = Memory::read(folder.path());
        assert_eq!(read, memory);
        assert_eq!(read.refused.len(), REFUSED);
        assert!(read.refused[31].digest.as_str().ends_with("27"));
        fs::write(folder.path().join("agent.json"), b"{\"refus").unwrap();
        assert!(Memory::read(folder.path()).refused.is_empty());
    }
}
