//! The exact counters (`spec/state.md`): what rollout decisions are made from.
//!
//! One [`ArmCounters`] stands behind each (model, version, digest, arm, revision). It outlives the table
//! that made it: a retired arm is frozen into a plain row, so that what was counted stays counted for
//! the epoch.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use dukou_types::{Arm, Digest, ErrorCode, ModelName, Revision, Version};
use parking_lot::Mutex;

use crate::{
    counters::{ArmCounters, Totals, zeros},
    table::Dialect,
};

/// Frozen rows that are kept by revision; older ones are folded into the revision `earlier`.
const FROZEN_ROWS: usize = 4096;

/// Whose counters they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArmKey {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: Version,
    /// Its manifest's digest; none for a bare file.
    pub digest: Option<Digest>,
    /// The arm of the split, or `direct` for requests that named the version themselves.
    pub arm: Arm,
    /// The table's revision.
    pub revision: Revision,
}

/// Numbers that go up and down.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Connections that are open.
    pub connections: AtomicUsize,
    /// Requests admitted and not yet answered.
    pub in_flight: AtomicUsize,
}

/// All counters of an epoch.
#[derive(Debug)]
pub struct State {
    /// Unique to this run of the engine.
    pub epoch: String,
    /// What goes up and down.
    pub gauges: Gauges,
    started: Instant,
    shards: usize,
    arms: Mutex<Arms>,
    refused: [[AtomicU64; ErrorCode::ALL.len()]; Dialect::ALL.len()],
    fallbacks: Mutex<Fallbacks>,
}

/// How often a version was loaded without a provider that it asked for.
pub type Fallbacks = BTreeMap<(ModelName, Version, String), u64>;

#[derive(Debug, Default)]
struct Arms {
    live: BTreeMap<ArmKey, Arc<ArmCounters>>,
    frozen: BTreeMap<ArmKey, Totals>,
    /// The keys of `frozen`, the oldest first.
    order: VecDeque<ArmKey>,
    /// What was once frozen, whatever its revision.
    earlier: BTreeMap<ArmKey, Totals>,
}

impl State {
    /// A new epoch, for an engine with this many threads that answer requests.
    pub fn new(threads: usize) -> Self {
        let nanoseconds = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        // A clock that stands still between two starts must not give the same epoch twice.
        let epoch = (nanoseconds as u64) ^ (u64::from(std::process::id()) << 44);
        Self {
            epoch: format!("{epoch:016x}"),
            gauges: Gauges::default(),
            started: Instant::now(),
            shards: threads.clamp(1, 16).next_power_of_two(),
            arms: Mutex::default(),
            refused: [const { zeros() }; Dialect::ALL.len()],
            fallbacks: Mutex::default(),
        }
    }

    /// How long this epoch has lasted.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The counters of an arm: those that are there, or new ones. Called while a table is compiled.
    pub fn arm(&self, key: &ArmKey) -> Arc<ArmCounters> {
        let mut arms = self.arms.lock();
        if let Some(counters) = arms.live.get(key) {
            return Arc::clone(counters);
        }
        let counters = Arc::new(ArmCounters::new(self.shards));
        arms.live.insert(key.clone(), Arc::clone(&counters));
        counters
    }

    /// Counts a request that failed before a version was chosen.
    pub fn refused(&self, dialect: Dialect, code: ErrorCode) {
        self.refused[dialect.index()][code as usize].fetch_add(1, Relaxed);
    }

    /// Counts a version that was loaded without providers that it asked for.
    pub fn fell_back<'a>(
        &self,
        model: &ModelName,
        version: &Version,
        providers: impl Iterator<Item = &'a str>,
    ) {
        let mut fallbacks = self.fallbacks.lock();
        for provider in providers {
            *fallbacks.entry((model.clone(), version.clone(), provider.to_owned())).or_default() +=
                1;
        }
    }

    /// How often versions were loaded without providers that they asked for.
    pub fn fallbacks(&self) -> Fallbacks {
        self.fallbacks.lock().clone()
    }

    /// What was refused before a version was chosen, those that are not zero.
    pub fn refusals(&self) -> Vec<(Dialect, ErrorCode, u64)> {
        let mut refusals = Vec::new();
        for dialect in Dialect::ALL {
            for &code in ErrorCode::ALL {
                let count = self.refused[dialect.index()][code as usize].load(Relaxed);
                if count > 0 {
                    refusals.push((dialect, code, count));
                }
            }
        }
        refusals
    }

    /// Freezes arms that no table and no request holds any more. Called after a table retired.
    pub fn freeze(&self) {
        let mut arms = self.arms.lock();
        let Arms { live, frozen, order, earlier } = &mut *arms;
        live.retain(|key, counters| {
            // Only this map hands out counters, under this lock: what nobody else holds stays so, and
            // `get_mut` sees all that its last holder counted.
            if Arc::get_mut(counters).is_none() {
                return true;
            }
            let totals = counters.totals();
            if !totals.is_empty() {
                let row = frozen.entry(key.clone()).or_insert_with(|| {
                    order.push_back(key.clone());
                    Totals::default()
                });
                row.merge(&totals);
            }
            false
        });
        while order.len() > FROZEN_ROWS {
            let Some(key) = order.pop_front() else { return };
            let (Some(totals), Ok(revision)) = (frozen.remove(&key), Revision::parse("earlier"))
            else {
                return;
            };
            earlier.entry(ArmKey { revision, ..key }).or_default().merge(&totals);
        }
    }

    /// Every arm with what it counted in this epoch, ordered by its key.
    pub fn arms(&self) -> BTreeMap<ArmKey, Totals> {
        let arms = self.arms.lock();
        let mut rows: BTreeMap<ArmKey, Totals> = BTreeMap::new();
        for (key, counters) in &arms.live {
            rows.entry(key.clone()).or_default().merge(&counters.totals());
        }
        for (key, totals) in arms.frozen.iter().chain(&arms.earlier) {
            rows.entry(key.clone()).or_default().merge(totals);
        }
        rows
    }

    /// What every version counted: where callers got its answers, and where it was a shadow.
    pub fn by_version(&self) -> (ByVersion, ByVersion) {
        let (mut answered, mut shadows) = (ByVersion::new(), ByVersion::new());
        for (key, totals) in self.arms() {
            let version = (key.model.as_str().to_owned(), key.version.as_str().to_owned());
            let versions = if key.arm.as_str() == "shadow" { &mut shadows } else { &mut answered };
            versions.entry(version).or_default().merge(&totals);
        }
        (answered, shadows)
    }
}

/// What was counted, by model and version, whatever the arm and revision.
pub type ByVersion = BTreeMap<(String, String), Totals>;

/// The resident set of this process in bytes; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// The part of it that no file can give back; 0 where the system does not say.
pub fn anonymous_bytes() -> u64 {
    status_bytes("RssAnon:")
}

fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
