//! What all threads of the process share: the table being served, the counters, the end.
//!
//! Serving reads it, the local API changes it; neither waits for the other.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;

use crate::{
    access_log::AccessLog, artifact::KeySource, drain::Drain, penalty::Penalties, record::Recorder,
    security::SecurityLog, serving::Serving, state::State, tap::Tap, told::Gauges,
};

/// The process, as its rooms see it.
pub struct Engine {
    /// The table that requests are answered from; none before the first.
    pub serving: ArcSwapOption<Serving>,
    /// The exact counters.
    pub state: Arc<State>,
    /// Where requests are written down.
    pub access_log: Arc<AccessLog>,
    /// Where refusals are counted and written down.
    pub security: SecurityLog,
    /// Who has shown bad keys lately.
    pub penalties: Penalties,
    /// Feeds counters and access log.
    pub recorder: Recorder,
    /// Answered requests that wait for the monitor.
    pub tap: Tap,
    /// Numbers that control tells, for `/metrics`.
    pub gauges: Gauges,
    /// Whether the process is ending.
    pub drain: Drain,
    /// Worker threads that answer requests.
    pub threads: usize,
    /// Where the last good table and the compiled cache are kept.
    pub state_dir: PathBuf,
    /// ONNX Runtime's shared library.
    pub runtime: Option<PathBuf>,
    /// Where the encryption keys come from.
    pub keys: KeySource,
}

impl Engine {
    /// A process that serves nothing yet.
    pub fn new(threads: usize, state_dir: PathBuf, runtime: Option<PathBuf>) -> Self {
        let state = Arc::new(State::new(threads));
        let access_log = Arc::new(AccessLog::default());
        Self {
            serving: ArcSwapOption::empty(),
            recorder: Recorder::new(Arc::clone(&state), Arc::clone(&access_log)),
            state,
            access_log,
            security: SecurityLog::default(),
            penalties: Penalties::default(),
            tap: Tap::default(),
            gauges: Gauges::default(),
            drain: Drain::default(),
            threads,
            state_dir,
            runtime,
            keys: KeySource::new(None),
        }
    }

    /// The same, with encryption keys.
    #[must_use]
    pub fn with_keys(self, keys: KeySource) -> Self {
        Self { keys, ..self }
    }
}
