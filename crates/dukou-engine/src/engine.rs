//! What all threads of the process share: the table being served, the counters, the end.
//!
//! Serving reads it, the local API changes it; neither waits for the other.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;
use dukou_types::ModelName;

use crate::{
    access_log::AccessLog, artifact::KeySource, container::Container, drain::Drain,
    manage::Manager, penalty::Penalties, record::Recorder, security::SecurityLog, serving::Serving,
    state::State, tap::Tap, told::Gauges,
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
    /// The way from the doors to whatever puts tables in place.
    pub manager: Manager,
    /// Whether the process is ending.
    pub drain: Drain,
    /// Worker threads that answer requests.
    pub threads: usize,
    /// Where the last good table and the compiled cache are kept; none: nowhere.
    pub state_dir: Option<PathBuf>,
    /// ONNX Runtime's shared library.
    pub runtime: Option<PathBuf>,
    /// Libraries that bring execution providers of their own.
    pub plugins: Vec<PathBuf>,
    /// Where the encryption keys come from.
    pub keys: KeySource,
    /// What the container gives.
    pub container: Container,
    /// Listeners that other machines reach, by name, where this process opened them itself: nobody
    /// else has asked who may come in.
    pub exposed: Vec<(ModelName, SocketAddr)>,
}

impl Engine {
    /// A process that serves nothing yet.
    pub fn new(
        threads: usize,
        state_dir: impl Into<Option<PathBuf>>,
        runtime: Option<PathBuf>,
    ) -> Self {
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
            manager: Manager::default(),
            drain: Drain::default(),
            threads,
            state_dir: state_dir.into(),
            runtime,
            plugins: Vec::new(),
            keys: KeySource::new(None),
            container: Container::default(),
            exposed: Vec::new(),
        }
    }

    /// The same, with libraries that bring execution providers of their own.
    #[must_use]
    pub fn with_plugins(self, plugins: Vec<PathBuf>) -> Self {
        Self { plugins, ..self }
    }

    /// The same, with encryption keys.
    #[must_use]
    pub fn with_keys(self, keys: KeySource) -> Self {
        Self { keys, ..self }
    }

    /// The same, within what a container gives.
    #[must_use]
    pub fn within(self, container: Container) -> Self {
        Self { container, ..self }
    }

    /// The same, with listeners of its own that other machines reach.
    #[must_use]
    pub fn with_exposed(self, exposed: Vec<(ModelName, SocketAddr)>) -> Self {
        Self { exposed, ..self }
    }
}
