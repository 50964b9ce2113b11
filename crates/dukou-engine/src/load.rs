//! From a table's version to one that is ready: opened, rehearsed, held to its golden samples.
//!
//! Runs on threads of its own beside serving, at normal priority: threads inherit niceness, and a pool
//! made by a meek loader would serve meekly for ever.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use dukou_batch::{Batcher, Mode, Settings, SystemClock};
use dukou_exec::Execute;
use dukou_ort::{GraphSource, OpenSpec, OrtModel, PassedOver, Provider, Runtime};
use dukou_remote::{Remote, Spec};
use dukou_sys::FileBytes;
use dukou_types::{
    DeclaredSignature, Digest, ErrorCode, Failure, ModelName, Signature, TensorSpec, Version,
};
use dukou_wire::Peer;
use parking_lot::Mutex;

use crate::{
    artifact::{KeySource, Store, TrustPolicy},
    events::{self, Level},
    golden::Golden,
    origin::Origin,
    rehearse::{self, Caps},
    serving::{Facts, GoldenState, Loaded},
    table::{
        Batching, GoldenMode, ModelLimits, RemoteSource, ServedModel, ServedVersion, Source, Trust,
    },
    way::Way,
};

/// Opens versions.
#[derive(Clone, Debug)]
pub struct Loader {
    /// ONNX Runtime's library; `ORT_DYLIB_PATH` where absent.
    pub runtime: Option<PathBuf>,
    /// Libraries that bring execution providers of their own.
    pub plugins: Vec<PathBuf>,
    /// The folder of the compiled cache; without one no weights are shared.
    pub compiled_dir: Option<PathBuf>,
    /// Threads that answer requests: an inline version has a queue for each.
    pub workers: usize,
    /// Where the encryption keys come from.
    pub keys: KeySource,
}

/// What to do about golden samples while loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Replay them now.
    Now,
    /// Leave them for after readiness: the engine has just been started.
    Later,
}

/// An opened version before anything was asked of it.
struct Opened {
    model: OrtModel,
    packaged: Option<Packaged>,
}

/// What a packaged version brings besides its graph.
struct Packaged {
    digest: Digest,
    signature: Signature,
    golden: Option<Arc<FileBytes>>,
}

impl Loader {
    /// Makes a version ready. May take seconds. A panic on the way is a failure of this version alone.
    ///
    /// # Errors
    /// `engine.internal` for a panic, otherwise what opening it, its packaged sample or (where the table requires them) its golden samples said.
    pub fn load(
        &self,
        model: &ServedModel,
        version: &ServedVersion,
        trust: &Trust,
        replay: Replay,
    ) -> Result<Loaded, Failure> {
        let load = || self.load_here(model, version, trust, replay);
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| {
            Err(Failure::new(
                ErrorCode::EngineInternal,
                "loading met a fault of ours; the log has it",
            ))
        })
    }

    fn load_here(
        &self,
        model: &ServedModel,
        version: &ServedVersion,
        trust: &Trust,
        replay: Replay,
    ) -> Result<Loaded, Failure> {
        let started = Instant::now();
        let origin = Origin::of(version);
        let Opened { model: mut execute, packaged } = self.open(version, trust)?;
        let about = format!("model `{}` version `{}`", model.name, version.version);
        for note in execute.notes() {
            events::log(Level::Info, format_args!("{about}: {note}"));
        }
        for PassedOver { provider, reason } in execute.passed_over() {
            let words = format_args!("{about} does not run on `{provider}`: {reason}");
            events::log(Level::Warn, words);
        }
        if let Some(packaged) = &packaged {
            same_interface(&packaged.signature, execute.signature())?;
        }
        let (digest, blob) = packaged.map_or((None, None), |p| (Some(p.digest), p.golden));
        let golden =
            blob.as_deref().map(|blob| Golden::parse(blob, execute.signature())).transpose()?;
        let golden = golden.map(|golden| golden.on(execute.providers().first()));

        let sample = golden.as_ref().and_then(|golden| Some(&golden.samples.first()?.inputs));
        let caps =
            Caps { rows: size(model.batching.max_rows), bytes: size(model.batching.max_bytes) };
        let rehearsal = rehearse::rehearse(&execute, sample, caps)?;
        execute.set_batchable(rehearsal.batchable);
        if let Some(note) = &rehearsal.note {
            events::log(Level::Info, format_args!("{about}: {note}"));
        }

        let state = match (&golden, version.golden, replay) {
            (None, ..) => GoldenState::Absent,
            (Some(_), GoldenMode::Off, _) => GoldenState::Off,
            (Some(_), _, Replay::Later) => GoldenState::Pending,
            (Some(golden), mode, Replay::Now) => {
                settle(golden.replay(|request| rehearse::answer(&execute, 0, request)), mode)?
            }
        };
        // A version that could not be measured may be slow: it must not stand in the workers' way.
        let mode = rehearsal.run.map_or(Mode::Pooled, |run| Mode::for_run(run, self.workers));
        let mut signature = execute.signature().clone();
        signature.batchable = rehearsal.batchable;
        let residency = execute.residency().as_str();
        let (providers, passed_over) = (execute.providers().into(), execute.passed_over().into());
        let execute: Arc<dyn Execute> = Arc::new(execute);
        let batcher = Batcher::new(
            Arc::clone(&execute),
            Arc::new(SystemClock),
            rehearsal.batchable,
            mode,
            settings(&model.batching, &model.limits),
        )?;
        Ok(Loaded {
            model: model.name.clone(),
            version: version.version.clone(),
            digest,
            identity: next_identity(),
            since: SystemTime::now(),
            signature: Arc::new(signature),
            facts: Facts {
                load: started.elapsed(),
                run: rehearsal.run,
                batchable: rehearsal.batchable,
                inline: batcher.is_inline(),
                residency,
                providers,
                passed_over,
            },
            way: Way::Local { execute, batcher },
            golden: Mutex::new(state),
            samples: blob,
            origin,
        })
    }

    fn open(&self, version: &ServedVersion, trust: &Trust) -> Result<Opened, Failure> {
        let runtime = Runtime::load(self.runtime.as_deref())?;
        self.plugins.iter().for_each(|plugin| runtime.add_plugin(plugin));
        let mut compiled_dir = self.compiled_dir.clone();
        let mut encrypted = false;
        let (source, packaged) = match &version.source {
            Source::File(path) => (GraphSource::File(path.clone()), None),
            Source::Artifact { digest, store } => {
                let verified =
                    Store::open(store)?.open_version(digest, &policy(trust)?, &self.keys)?;
                if verified.encrypted {
                    // The compiled cache is on a disk, and so would be a core.
                    compiled_dir = None;
                    encrypted = true;
                    keep_memory_private()?;
                }
                let source = GraphSource::Verified {
                    digest: verified.digest.clone(),
                    graph: verified.graph,
                    external: verified.external,
                };
                let (digest, signature) = (verified.digest, verified.signature);
                (source, Some(Packaged { digest, signature, golden: verified.golden }))
            }
            Source::Remote(_) | Source::Graph(_) => return Err(not_here()),
        };
        let backend = version.backend.as_ref().ok_or_else(not_here)?;
        let model = runtime.open(OpenSpec {
            source,
            instances: size(backend.instances),
            threads: size(backend.threads),
            providers: backend
                .providers
                .iter()
                .map(|provider| Provider {
                    name: provider.name.clone(),
                    options: provider.options.clone().into_iter().collect(),
                })
                .collect(),
            encrypted,
            share_weights: backend.share_weights,
            compiled_dir,
        })?;
        Ok(Opened { model, packaged })
    }
}

/// A number that no other load of this process has.
fn next_identity() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Relaxed)
}

/// A table that was checked never asks for this.
fn not_here() -> Failure {
    Failure::new(ErrorCode::EngineInternal, "the version is not one that this process runs")
}

/// How long a remote model's replicas may take until one of them answers.
const REPLICAS: Duration = Duration::from_secs(10);

/// Looks at the replicas of a remote model and learns its signature from them.
///
/// `floor` is the revision that its callers were given before.
///
/// # Errors
/// `replica.*`, and `deploy.invalid` for a file that is no use.
pub fn load_remote(
    model: &ServedModel,
    version: &ServedVersion,
    source: &RemoteSource,
    floor: Option<u64>,
) -> Result<Loaded, Failure> {
    let started = Instant::now();
    let peer = Peer::parse(&source.dialect).ok_or_else(|| {
        let message = format!("`{}` is no dialect", source.dialect);
        Failure::new(ErrorCode::DeployInvalid, message)
    })?;
    let spec = Spec {
        peer,
        signature: source.signature.as_ref().map(DeclaredSignature::signature),
        model: source.model.as_str().to_owned(),
        version: source.version.as_ref().map(|version| version.as_str().to_owned()),
        replicas: source.replicas.clone(),
        key_file: source.key_file.clone(),
        ca_file: source.ca_file.clone(),
        health: Duration::from_millis(source.health_ms),
        retry_percent: u32::try_from(source.retry_percent).unwrap_or(100),
    };
    let remote = Remote::open(&spec, floor, REPLICAS)?;
    Ok(elsewhere(model, version, Arc::clone(remote.signature()), Way::Remote(remote), started))
}

/// A version that is not run here: nothing is opened, rehearsed or replayed.
pub fn elsewhere(
    model: &ServedModel,
    version: &ServedVersion,
    signature: Arc<Signature>,
    way: Way,
    started: Instant,
) -> Loaded {
    let residency = if way.is_graph() { "graph" } else { "remote" };
    Loaded {
        identity: next_identity(),
        since: SystemTime::now(),
        model: model.name.clone(),
        version: version.version.clone(),
        digest: None,
        signature,
        facts: Facts {
            load: started.elapsed(),
            run: None,
            batchable: false,
            inline: false,
            residency,
            providers: Box::default(),
            passed_over: Box::default(),
        },
        way,
        golden: Mutex::new(GoldenState::Absent),
        samples: None,
        origin: Origin::of(version),
    }
}

/// From the first encrypted version on nobody reads this process's memory: no core, no debugger.
fn keep_memory_private() -> Result<(), Failure> {
    dukou_sys::forbid_dumps().map_err(|error| {
        Failure::new(
            ErrorCode::EngineInternal,
            format!("cores cannot be forbidden, and the version is encrypted: {error}"),
        )
    })
}

/// Holds what a manifest says of a version to what its graph is: clients believe the one, the runtime
/// runs the other.
fn same_interface(declared: &Signature, graph: &Signature) -> Result<(), Failure> {
    for (side, declared, graph) in [
        ("inputs", &declared.inputs, &graph.inputs),
        ("outputs", &declared.outputs, &graph.outputs),
    ] {
        let print = |specs: &[TensorSpec]| {
            let each =
                specs.iter().map(|s| format!("`{}` {} {:?}", s.name, s.dtype, s.wire_shape()));
            each.collect::<Vec<_>>().join(", ")
        };
        let same = |(a, b): (&TensorSpec, &TensorSpec)| {
            (&a.name, a.dtype, a.shape.len()) == (&b.name, b.dtype, b.shape.len())
        };
        if declared.len() != graph.len() || !declared.iter().zip(graph).all(same) {
            return Err(Failure::new(
                ErrorCode::FormatsCorrupt,
                format!(
                    "the manifest gives the {side} as {}, the graph as {}",
                    print(declared),
                    print(graph)
                ),
            ));
        }
    }
    Ok(())
}

/// Whose signatures count, from a table.
///
/// # Errors
/// `deploy.invalid`: a key is not one, or not the one that its id says.
pub fn policy(trust: &Trust) -> Result<TrustPolicy, Failure> {
    let keys = trust.keys.iter().map(|key| (key.id.as_str(), key.pem.as_str()));
    TrustPolicy::new(trust.require_signature, keys)
}

/// Checks again that an artifact may be served, under a table that trusts differently.
///
/// # Errors
/// What the store said of it.
pub fn verify(version: &ServedVersion, trust: &Trust) -> Result<(), Failure> {
    match &version.source {
        Source::File(_) | Source::Remote(_) | Source::Graph(_) => Ok(()),
        Source::Artifact { digest, store } => {
            Store::open(store)?.check_version(digest, &policy(trust)?)
        }
    }
}

/// Replays the golden samples of a version that serves already, between its requests.
///
/// # Errors
/// Where the table requires them: `table.golden-mismatch`, or what reading them said.
pub fn replay_beside(loaded: &Loaded, mode: GoldenMode) -> Result<(), Failure> {
    let Some(blob) = &loaded.samples else { return Ok(()) };
    let outcome = Golden::parse(blob, &loaded.signature)
        .map(|golden| golden.on(loaded.facts.providers.first()))
        .and_then(|golden| replay_on(loaded, &golden));
    let state = settle(outcome, mode)?;
    *loaded.golden.lock() = state;
    Ok(())
}

fn replay_on(loaded: &Loaded, golden: &Golden) -> Result<usize, Failure> {
    let Way::Local { batcher, .. } = &loaded.way else { return Err(not_here()) };
    golden.replay(|request| {
        batcher.with_instance(|execute, instance| rehearse::answer(execute, instance, request))
    })
}

/// What the outcome of a replay makes of a version.
fn settle(outcome: Result<usize, Failure>, mode: GoldenMode) -> Result<GoldenState, Failure> {
    match outcome {
        Ok(count) => Ok(GoldenState::Reproduced(count)),
        Err(failure) if mode == GoldenMode::Require => Err(failure),
        Err(failure) => Ok(GoldenState::Differs(failure)),
    }
}

/// What the batcher is told of a table's model.
pub fn settings(batching: &Batching, limits: &ModelLimits) -> Settings {
    Settings {
        max_rows: size(batching.max_rows),
        max_bytes: size(batching.max_bytes),
        delay: Duration::from_micros(batching.delay_us),
        queue: size(limits.queue),
    }
}

/// A table's number as a size; what is larger than memory is as good as no limit.
pub fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A version that could not be made ready, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model `{model}` version `{version}`: {failure}")]
pub struct NotLoaded {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: Version,
    /// Why.
    pub failure: Failure,
}
