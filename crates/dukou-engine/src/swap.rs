//! From one table to the next, with nobody noticing.
//!
//! A table is put in place whole or not at all: only what it adds is loaded, on threads of its own, and
//! only when all of that is ready does the pointer change. What the new table no longer names answers
//! what it has begun and is then freed. One table at a time: a second waits for its turn, and finds
//! then that it is stale, or the same, or new.

use std::{collections::HashMap, io, net::SocketAddr, path::PathBuf, sync::Arc};

use dukou_types::{ErrorCode, Failure, ModelName, Revision, Version};
use dukou_wire::{Change, Outcome};
use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    announce::{announce_golden, announce_refusal},
    assemble::{assemble, is_new},
    describe::ready,
    engine::Engine,
    events::{self, Event, Level},
    load::{self, Loader, NotLoaded, Replay},
    manage::{Applied, Changes, ChangesFile, Decision, decide},
    plan::{Plan, recheck},
    retire::retire,
    room,
    serving::{GoldenState, Loaded, Serving},
    side_by_side::on_threads,
    standalone::{Folder, Surroundings},
    table::{Access, GoldenMode, Listener, ServedModel, ServedVersion, ServingTable, Source},
    table_file::TableFile,
};

/// Every version of a table, ready.
pub type Ready = HashMap<(ModelName, Version), Arc<Loaded>>;

/// Puts tables in place, one at a time.
pub struct Swap {
    engine: Arc<Engine>,
    loader: Loader,
    turn: Mutex<()>,
    /// Where the last good table is kept; none: nowhere.
    file: Option<TableFile>,
    /// Where what clients changed is kept.
    changes_file: Option<ChangesFile>,
}

/// What a table that is in place answers (`PUT /table`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The table's revision.
    pub revision: Revision,
    /// The table's sequence.
    pub sequence: u64,
    /// What was loaded for it.
    pub loaded: Vec<Added>,
    /// How many versions it no longer names.
    pub retired: usize,
}

/// A version that was loaded for a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Added {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: Version,
    /// From opening to ready.
    pub load_ms: u64,
    /// Where its weights are.
    pub residency: &'static str,
}

/// Why a table was not taken. The one before it serves on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The table itself.
    #[error(transparent)]
    Table(#[from] Failure),
    /// One of its versions.
    #[error(transparent)]
    Version(#[from] NotLoaded),
}

impl Refused {
    /// The cause.
    pub const fn failure(&self) -> &Failure {
        match self {
            Self::Table(failure) => failure,
            Self::Version(not_loaded) => &not_loaded.failure,
        }
    }
}

/// Where a table comes from: what is asked of it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// Put by the control plane, or a folder's.
    Put,
    /// The same table, with what a client changed.
    Changed,
    /// At start: golden samples are replayed after readiness and no log file keeps it from serving, so
    /// that a restart never becomes an outage.
    Start,
}

/// The table that an engine begins with.
#[derive(Clone, Debug)]
pub enum First {
    /// A serving folder's, to be resolved.
    Folder(Folder, Surroundings),
    /// The one in this file.
    File(PathBuf),
    /// The last good one, where there is one.
    Last,
}

impl Swap {
    /// What puts tables in place in this engine.
    pub fn new(engine: Arc<Engine>) -> Arc<Self> {
        let loader = Loader {
            runtime: engine.runtime.clone(),
            compiled_dir: engine.state_dir.as_ref().map(|folder| folder.join("compiled")),
            workers: engine.threads,
            plugins: engine.plugins.clone(),
            keys: engine.keys.clone(),
        };
        let file = engine.state_dir.as_deref().map(TableFile::in_folder);
        let changes_file = engine.state_dir.as_deref().map(ChangesFile::in_folder);
        let swap = Arc::new(Self { engine, loader, turn: Mutex::new(()), file, changes_file });
        swap.engine.manager.set(&swap);
        swap
    }

    /// The engine that it swaps in.
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Why the last good table could not be kept on disk; none where it was, or there is none.
    pub fn unsaved(&self) -> Option<String> {
        self.file.as_ref()?.problem()
    }

    /// Reads a table and puts it in place.
    ///
    /// # Errors
    /// `deploy.invalid`, and as [`Swap::put`].
    pub fn put_text(&self, text: &[u8]) -> Result<Receipt, Refused> {
        match ServingTable::parse(text) {
            Ok(table) => self.put(table),
            Err(invalid) => {
                let refused = Failure::from(invalid).into();
                announce_refusal(&refused);
                Err(refused)
            }
        }
    }

    /// Puts a table in place; returns when it serves. May take seconds: not for a thread that answers.
    ///
    /// # Errors
    /// `table.stale`, or what its versions said; the table before it serves on.
    pub fn put(&self, table: ServingTable) -> Result<Receipt, Refused> {
        let _turn = self.turn.lock();
        let before = self.engine.serving.load_full();
        let changes = before.map_or_else(Arc::default, |before| {
            Arc::new(before.changes.rebased(&before.held, &table))
        });
        let outcome = self.exchange(Arc::new(table), changes, Occasion::Put, &|_| true);
        if let Err(refused) = &outcome {
            announce_refusal(refused);
        }
        outcome
    }

    /// What a change comes to, without making it.
    ///
    /// # Errors
    /// As [`decide`]; `server.not-ready` before the first table.
    pub fn consider(&self, change: &Change) -> Result<Decision, Failure> {
        let serving = self.engine.serving.load_full();
        let serving = ready(serving.as_deref())?;
        decide(&serving.changes, change, &serving.held)
    }

    /// Makes a change that a client asks for; returns when it is served. May take seconds.
    ///
    /// # Errors
    /// As [`Swap::consider`], and why a model could not be loaded, with the status 500. What was served
    /// is served on, as it was.
    pub fn manage(&self, change: &Change) -> Result<Outcome, Failure> {
        let _turn = self.turn.lock();
        let Decision { next, outcome, touched } = self.consider(change)?;
        let held = self.engine.serving.load_full().map(|serving| Arc::clone(&serving.held));
        let held =
            held.ok_or_else(|| Failure::new(ErrorCode::ServerNotReady, "there is no table"))?;
        let looked_at = |model: &ModelName| touched.contains(model);
        match self.exchange(held, Arc::new(next), Occasion::Changed, &looked_at) {
            Ok(_) => Ok(outcome),
            Err(Refused::Table(failure)) => Err(failure),
            Err(Refused::Version(NotLoaded { model, version, failure })) => {
                let message = match change {
                    Change::Register(_) | Change::Scale { .. } => format!(
                        "Failed to start workers for model {model} version: {version}: {}",
                        failure.message
                    ),
                    _ => format!(
                        "failed to load '{model}', no version is available: version {version}: {}",
                        failure.message
                    ),
                };
                // Not the asker's mistake, whatever it is of the file's.
                let failed = Failure::new(failure.code, message).with_status(500);
                Err(match failure.detail {
                    Some(detail) => failed.with_detail(detail),
                    None => failed,
                })
            }
        }
    }

    /// Loads the table that the engine begins with: the file named, or the last good one. Returns when
    /// it serves; golden samples follow on a thread of their own. What cannot be loaded is said and
    /// leaves the engine without a table; gives whether it has one, or was to have none. A folder is
    /// held to its golden samples before: whoever starts it goes on with the one before where it fails.
    pub fn start(self: &Arc<Self>, first: First) -> bool {
        let _turn = self.turn.lock();
        let occasion = match &first {
            First::Folder(..) => Occasion::Put,
            First::File(_) | First::Last => Occasion::Start,
        };
        // A table that is named is a new word, and what was changed of another is over.
        let remembered = match (&first, &self.changes_file) {
            (First::Last, Some(file)) => file.read(),
            _ => Changes::default(),
        };
        let table = match first {
            First::Folder(folder, surroundings) => folder.table(&surroundings).map(Some),
            First::File(path) => TableFile::at(path).read().map(Some),
            First::Last => self.file.as_ref().map_or(Ok(None), TableFile::read_if_there),
        };
        let outcome = match table {
            Ok(None) => return true,
            Ok(Some(table)) => self.begin(Arc::new(table), remembered, occasion),
            Err(failure) => Err(failure.into()),
        };
        match &outcome {
            Ok(()) => self.replay_after_readiness(),
            Err(refused) => announce_refusal(refused),
        }
        outcome.is_ok()
    }

    /// Serves a table as clients had changed it. What they registered may be gone meanwhile: then the
    /// table alone is served, for a restart never becomes an outage.
    fn begin(
        &self,
        table: Arc<ServingTable>,
        changes: Changes,
        occasion: Occasion,
    ) -> Result<(), Refused> {
        if !changes.is_empty() {
            let changed = Arc::new(changes);
            match self.exchange(Arc::clone(&table), changed, occasion, &|_| true) {
                Ok(_) => return Ok(()),
                Err(refused) => events::log_failure(
                    Level::Error,
                    "what clients had changed cannot be served again, and the table is as it was put",
                    refused.failure(),
                ),
            }
        }
        self.exchange(table, Arc::default(), occasion, &|_| true).map(|_| ())
    }

    /// Puts in place what `changes` make of the table that is `held`.
    fn exchange(
        &self,
        held: Arc<ServingTable>,
        changes: Arc<Changes>,
        occasion: Occasion,
        looked_at: &dyn Fn(&ModelName) -> bool,
    ) -> Result<Receipt, Refused> {
        if self.engine.drain.has_begun() {
            return Err(
                Failure::new(ErrorCode::ServerDraining, "the engine is shutting down").into()
            );
        }
        let before = self.engine.serving.load_full();
        if let Some(before) = &before {
            refuse_stale(before, &held)?;
        }
        refuse_unguarded(&self.engine.exposed, &held)?;
        let Applied { table, absent } = changes.apply(&held);
        let plan = Plan::new(&table, before.as_deref(), looked_at);
        if let Some(before) = &before
            && plan.added.is_empty()
            && *before.held == *held
            && *before.changes == *changes
        {
            return Ok(receipt(&table, &[], 0));
        }
        let versions = self.make_ready(&table, &plan, before.as_deref(), occasion)?;
        let find = |model: &ModelName, version: &Version| {
            versions.get(&(model.clone(), version.clone())).cloned()
        };
        let serving =
            Serving::compile(Arc::clone(&table), find, before.as_deref(), &self.engine.state)?
                .made_of(Arc::clone(&held), Arc::clone(&changes), absent);
        self.open_logs(&table, occasion)?;

        serving.apply_settings();
        let serving = Arc::new(serving);
        self.engine.serving.store(Some(Arc::clone(&serving)));
        events::emit(&Event::Serving {
            revision: &table.revision,
            models: table.models.iter().map(|model| model.name.as_str()).collect(),
        });
        if let (Some(file), Occasion::Put | Occasion::Start) = (&self.file, occasion) {
            file.write(&held);
        }
        if let Some(file) = &self.changes_file
            && before.as_ref().is_none_or(|before| before.changes != changes)
        {
            file.write(&changes);
        }

        for (model, version) in &plan.added {
            if let Some(loaded) = find(&model.name, &version.version) {
                let passed_over = loaded.facts.passed_over.iter().map(|p| &*p.provider);
                self.engine.state.fell_back(&model.name, &version.version, passed_over);
            }
        }
        let made = plan.graphs.iter().map(|(model, version, _)| (*model, *version));
        let added: Vec<Added> =
            plan.added
                .iter()
                .copied()
                .chain(made.filter(|(model, version)| {
                    is_new(before.as_deref(), &versions, model, version)
                }))
                .filter_map(|(m, v)| {
                    versions.get(&(m.name.clone(), v.version.clone())).map(|loaded| added(loaded))
                })
                .collect();
        let retired = before.map_or(0, |before| retire(before, &serving, &self.engine.state));
        events::log(
            Level::Info,
            format_args!(
                "serving revision `{}`: {} versions, {} loaded, {retired} retired",
                table.revision,
                versions.len(),
                added.len()
            ),
        );
        for loaded in versions.values() {
            announce_golden(loaded);
        }
        Ok(receipt(&table, &added, retired))
    }

    /// Every version of the table, ready: those that stay, and those that it adds.
    fn make_ready(
        &self,
        table: &ServingTable,
        plan: &Plan<'_>,
        before: Option<&Serving>,
        occasion: Occasion,
    ) -> Result<Ready, Refused> {
        let trust = &table.trust;
        if !trust.keys.is_empty() {
            // A key that is none is the table's fault, whether or not a version needs it today.
            load::policy(trust)?;
        }
        let replay = match occasion {
            Occasion::Put | Occasion::Changed => Replay::Now,
            Occasion::Start => Replay::Later,
        };
        room::refuse_what_cannot_fit(self.engine.container.memory, &plan.added, &self.loader)?;
        let threads = self.loader.workers.max(1);
        let loaded = on_threads(threads, &plan.added, |(model, version)| {
            let ready = match &version.source {
                // Its callers have been given a revision: none below it again.
                Source::Remote(source) => {
                    let floor = before.and_then(|before| given(before, model));
                    load::load_remote(model, version, source, floor)
                }
                _ => self.loader.load(model, version, trust, replay),
            };
            ready.map_err(|failure| not_loaded(model, version, failure))
        })?;
        // A version that stays was opened under the trust of another table.
        let trust_changed = before.is_some_and(|before| before.document.trust != *trust);
        on_threads(threads, &plan.kept, |(model, version, kept)| {
            recheck(version, kept, trust_changed.then_some(trust))
                .map_err(|failure| not_loaded(model, version, failure))
        })?;
        let key = |loaded: &Loaded| (loaded.model.clone(), loaded.version.clone());
        let added = loaded.into_iter().map(|loaded| (key(&loaded), Arc::new(loaded)));
        let kept = plan.kept.iter().map(|(_, _, kept)| (key(kept), Arc::clone(kept)));
        let mut versions = added.chain(kept).collect();
        assemble(plan, before, &mut versions)?;
        Ok(versions)
    }

    fn open_logs(&self, table: &ServingTable, occasion: Occasion) -> Result<(), Failure> {
        let said = &table.observability;
        let (access, security) = (said.access_log.as_deref(), said.security_log.as_deref());
        opened("access_log", access, self.engine.access_log.open(access), occasion)?;
        opened("security_log", security, self.engine.security.open(security), occasion)
    }

    fn replay_after_readiness(self: &Arc<Self>) {
        let swap = Arc::clone(self);
        let replay = move || {
            let Some(serving) = swap.engine.serving.load_full() else { return };
            for loaded in serving.versions() {
                if *loaded.golden.lock() != GoldenState::Pending {
                    continue;
                }
                if let Err(failure) = load::replay_beside(loaded, GoldenMode::Alarm) {
                    *loaded.golden.lock() = GoldenState::Differs(failure);
                }
                announce_golden(loaded);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("golden".into()).spawn(replay) {
            events::log(Level::Error, format_args!("golden samples are not replayed: {error}"));
        }
    }
}

fn opened(
    field: &str,
    target: Option<&str>,
    outcome: io::Result<()>,
    occasion: Occasion,
) -> Result<(), Failure> {
    let Err(error) = outcome else { return Ok(()) };
    let failure = Failure::new(
        ErrorCode::DeployInvalid,
        format!(
            "the serving table is not valid: `observability.{field}`: `{}` cannot be opened ({error})",
            target.unwrap_or_default()
        ),
    );
    match occasion {
        Occasion::Put | Occasion::Changed => Err(failure),
        Occasion::Start => {
            events::log_failure(Level::Error, "what comes is not logged", &failure);
            Ok(())
        }
    }
}

/// A listener that other machines reach is not one for whoever is on this machine.
fn refuse_unguarded(
    exposed: &[(ModelName, SocketAddr)],
    table: &ServingTable,
) -> Result<(), Failure> {
    let unguarded = exposed.iter().find(|(name, _)| {
        let loopback = |l: &&Listener| l.name == *name && l.access == Access::Loopback;
        table.listeners.iter().any(|listener| loopback(&listener))
    });
    let Some((name, address)) = unguarded else { return Ok(()) };
    Err(Failure::new(
        ErrorCode::AccessOffLoopback,
        format!(
            "listener `{name}` can be reached from other machines at `{address}`, and the table lets \
             in whoever asks there as if they were on this one"
        ),
    ))
}

fn refuse_stale(before: &Serving, table: &ServingTable) -> Result<(), Failure> {
    let (served, came) = (before.document.sequence, table.sequence);
    if came >= served {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::TableStale,
        format!(
            "revision `{}` has sequence {came}, but `{}` with sequence {served} is being served",
            table.revision, before.document.revision
        ),
    ))
}

/// The revision that callers of a remote model have been given.
fn given(before: &Serving, model: &ServedModel) -> Option<u64> {
    let old = before.model(model.name.as_str())?;
    old.versions.iter().filter_map(|lane| lane.version.way.remote()?.current()).max()
}

fn not_loaded(model: &ServedModel, version: &ServedVersion, failure: Failure) -> NotLoaded {
    NotLoaded { model: model.name.clone(), version: version.version.clone(), failure }
}

fn added(loaded: &Loaded) -> Added {
    Added {
        model: loaded.model.clone(),
        version: loaded.version.clone(),
        load_ms: u64::try_from(loaded.facts.load.as_millis()).unwrap_or(u64::MAX),
        residency: loaded.facts.residency,
    }
}

fn receipt(table: &ServingTable, loaded: &[Added], retired: usize) -> Receipt {
    Receipt {
        revision: table.revision.clone(),
        sequence: table.sequence,
        loaded: loaded.to_vec(),
        retired,
    }
}
