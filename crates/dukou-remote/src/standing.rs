//! Whether a replica is fit to be asked, from what was heard of it: probes, answers, losses. Pure.
//!
//! A lost connection ends it until a probe is answered again. An answer that says that the server
//! itself is at fault ends it for a second, and for twice as long each time it happens again soon.

use std::time::{Duration, Instant};

/// How long a first fault puts it out.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// What the last probe said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    Unheard,
    Ready,
    Failing(String),
}

/// The standing of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    probe: Probe,
    out_until: Option<Instant>,
    strikes: u32,
    fault: String,
    /// Why it may not be asked although it is well: another signature.
    unfit: Option<String>,
}

impl Standing {
    /// A probe was answered well.
    pub fn ready(&mut self) {
        self.probe = Probe::Ready;
    }

    /// A probe was not answered, or with "not ready"; or a connection was lost.
    pub fn failing(&mut self, why: impl Into<String>) {
        self.probe = Probe::Failing(why.into());
    }

    /// It answered that it is at fault itself.
    pub fn fault(&mut self, why: impl Into<String>, now: Instant) {
        let out = (FIRST * 2_u32.saturating_pow(self.strikes.min(10))).min(LONGEST);
        self.strikes += 1;
        self.out_until = Some(now + out);
        self.fault = why.into();
    }

    /// It answered well: what was before is forgotten once it stayed well for as long as it was out.
    pub fn answered(&mut self, now: Instant) {
        if self.strikes > 0 && self.out_until.is_none_or(|until| now >= until + FIRST) {
            self.strikes = 0;
        }
    }

    /// It serves something else than the others, or the same again.
    pub fn set_unfit(&mut self, why: Option<String>) {
        self.unfit = why;
    }

    /// Whether it serves something else than the others.
    pub const fn is_unfit(&self) -> bool {
        self.unfit.is_some()
    }

    /// Whether requests may go there.
    pub fn is_up(&self, now: Instant) -> bool {
        self.why_not(now).is_none()
    }

    /// Why they may not.
    pub fn why_not(&self, now: Instant) -> Option<&str> {
        match &self.probe {
            Probe::Unheard => return Some("not asked yet"),
            Probe::Failing(why) => return Some(why),
            Probe::Ready => {}
        }
        if let Some(why) = &self.unfit {
            return Some(why);
        }
        self.out_until.filter(|until| now < *until).map(|_| &*self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_ends_with_the_next_good_probe() {
        let now = Instant::now();
        let mut standing = Standing::default();
        assert!(!standing.is_up(now), "nobody has heard of it");
        standing.ready();
        assert!(standing.is_up(now));
        standing.failing("connection refused");
        assert_eq!(standing.why_not(now), Some("connection refused"));
        standing.ready();
        assert!(standing.is_up(now));
    }

    #[test]
    fn faults_put_it_out_for_longer_each_time_and_are_forgotten() {
        let now = Instant::now();
        let mut standing = Standing::default();
        standing.ready();
        standing.fault("500", now);
        standing.ready();
        assert_eq!(standing.why_not(now), Some("500"), "a probe does not excuse it");
        assert!(standing.is_up(now + FIRST));
        standing.fault("500", now + FIRST);
        assert!(!standing.is_up(now + FIRST * 2));
        assert!(standing.is_up(now + FIRST * 3));
        (0..40).for_each(|_| standing.fault("500", now));
        assert!(standing.is_up(now + LONGEST));
        standing.answered(now + LONGEST);
        standing.fault("500", now + LONGEST);
        assert!(!standing.is_up(now + LONGEST + FIRST), "it was well for too short a time");
        standing.answered(now + LONGEST * 3);
        standing.fault("500", now + LONGEST * 3);
        assert!(standing.is_up(now + LONGEST * 3 + FIRST));
    }

    #[test]
    fn one_that_serves_something_else_is_out_however_well_it_is() {
        let now = Instant::now();
        let mut standing = Standing::default();
        standing.ready();
        standing.set_unfit(Some("another signature".into()));
        assert_eq!(standing.why_not(now), Some("another signature"));
        standing.set_unfit(None);
        assert!(standing.is_up(now));
    }
}
