//! Which revision callers are given: a pure machine of what the replicas were seen to serve.
//!
//! No caller sees revision N after N + 1. The gate holds one current revision; it only ever rises.
//! While fewer than half of the healthy replicas have a later one, requests go to those on the current
//! one alone; then it rises, and who lags is out until it follows. Servers whose revision is no number
//! of ours are let through: they promise nothing that could be held.

/// The revision that a server says it serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serves {
    /// It has not said yet.
    #[default]
    Unheard,
    /// None, or none that can be compared.
    Foreign,
    /// `r7` is 7.
    Revision(u64),
}

impl Serves {
    /// What a `dukou-revision` says; none where the header is missing.
    pub fn parse(header: Option<&str>) -> Self {
        let number = header.and_then(|text| text.strip_prefix('r')).filter(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        number.and_then(|digits| digits.parse().ok()).map_or(Self::Foreign, Self::Revision)
    }

    /// The number.
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::Revision(number) => Some(number),
            Self::Unheard | Self::Foreign => None,
        }
    }
}

/// One replica, as the gate sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether requests could go there.
    pub healthy: bool,
    /// What it serves.
    pub serves: Serves,
}

/// The gate of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    current: Option<u64>,
}

impl Gate {
    /// A gate that never goes below `floor`.
    pub const fn above(floor: Option<u64>) -> Self {
        Self { current: floor }
    }

    /// The revision that callers are given; none before one was seen.
    pub const fn current(self) -> Option<u64> {
        self.current
    }

    /// Looks at the replicas and rises where it is time to.
    pub fn settle(&mut self, replicas: &[Seen]) {
        let healthy = || replicas.iter().filter(|seen| seen.healthy);
        let numbers = || healthy().filter_map(|seen| seen.serves.number());
        let Some(highest) = numbers().max() else { return };
        let Some(current) = self.current else {
            // At the start nobody has been given anything: the latest, so that nobody need wait for it.
            self.current = Some(highest);
            return;
        };
        let later = || numbers().filter(|number| *number > current);
        let all = numbers().count();
        // The latest that at least half of them have reached or passed.
        let reached = later()
            .filter(|candidate| 2 * numbers().filter(|number| number >= candidate).count() >= all);
        let next = match reached.max() {
            Some(next) => Some(next),
            // Nobody is left on the current one: the nearest later one.
            None if numbers().all(|number| number != current) => later().min(),
            None => None,
        };
        if let Some(next) = next {
            self.current = Some(next);
        }
    }

    /// Whether a request may go to a server that serves this.
    pub fn admits(self, serves: Serves) -> bool {
        match (self.current, serves) {
            (None, _) | (_, Serves::Foreign) => true,
            (Some(current), Serves::Revision(number)) => number == current,
            (Some(_), Serves::Unheard) => false,
        }
    }

    /// Whether an answer of this revision may be given to a caller now.
    pub fn delivers(self, serves: Serves) -> bool {
        // An answer that says nothing of its revision is of a server that has none.
        matches!(serves, Serves::Unheard) || self.admits(serves)
    }
}

#[cfg(test)]
#[path = "gate_test.rs"]
mod tests;
