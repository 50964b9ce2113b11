//! The compiled table: everything decided once, so that a request decides nothing.
//!
//! A request loads the current [`Serving`] once, takes a [`Lane`] from it and keeps that lane to its
//! end: whatever is swapped meanwhile, the version that answered, the headers that name it and the
//! counters that count it are one.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, SystemTime},
};

use dukou_ort::PassedOver;
use dukou_sys::FileBytes;
use dukou_types::{Arm, Digest, ErrorCode, Failure, ModelName, Revision, Signature, Version};
use http::HeaderValue;
use parking_lot::Mutex;

use crate::{
    cache::Cache,
    counters::ArmCounters,
    keys::Keys,
    load::{settings, size},
    manage::{Absent, Changes},
    network::Network,
    origin::Origin,
    state::{ArmKey, State},
    table::{Access, Dialect, Listener, ServedModel, ServingTable},
    tls::Certificate,
    way::Way,
};

/// A table that is being served. Immutable; swapped whole.
#[derive(Debug)]
pub struct Serving {
    /// The document that it was compiled from.
    pub document: Arc<ServingTable>,
    /// The document that control put, before what clients changed.
    pub held: Arc<ServingTable>,
    /// What clients changed.
    pub changes: Arc<Changes>,
    /// Models that are known and not served.
    pub absent: BTreeMap<ModelName, Absent>,
    /// What the process holds at once.
    pub limits: Limits,
    /// The models in the table's order.
    pub models: Vec<Arc<Model>>,
    pub(crate) by_name: HashMap<Box<str>, usize>,
    pub(crate) policies: HashMap<Box<str>, Arc<ListenerPolicy>>,
    /// Whether any listener stands in for another server; most tables have none.
    pub(crate) stands_in: bool,
    /// Whose keys are good.
    pub keys: Keys,
    /// The revision, as a header has it.
    pub revision_header: HeaderValue,
}

/// What the process holds at once, in the units that the rooms use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Bytes of one request's body.
    pub body_bytes: usize,
    /// Nesting of JSON.
    pub json_depth: usize,
    /// How long a client may take for its head.
    pub header: Duration,
    /// How long requests in flight may take after SIGTERM.
    pub drain: Duration,
}

/// What is allowed on one inherited socket.
#[derive(Debug)]
pub struct ListenerPolicy {
    /// The name that the supervisor gave it.
    pub name: Arc<str>,
    /// What is spoken there.
    pub dialects: Vec<Dialect>,
    /// Who is asked first what a path means; none: in the usual order.
    pub first: Option<dukou_wire::Dialect>,
    /// Who may speak.
    pub access: Access,
    /// `Host` names answered to besides loopback's, in lower case.
    pub hosts: Vec<Box<str>>,
    /// The certificate; none where it speaks in clear.
    pub tls: Option<Arc<Certificate>>,
    /// Networks that may connect; empty: whoever is not denied.
    pub allow: Vec<Network>,
    /// Networks that may not.
    pub deny: Vec<Network>,
}

impl ListenerPolicy {
    /// Compiles a listener's; one that was there before keeps its certificate, whose files may be
    /// between two renewals just now.
    fn compile(listener: &Listener, before: Option<&Self>) -> Result<Self, Failure> {
        let networks = |texts: &[String]| texts.iter().filter_map(|t| Network::parse(t)).collect();
        let kept = before.and_then(|policy| policy.tls.as_ref());
        let tls = match (&listener.tls, kept) {
            (None, _) => None,
            (Some(files), Some(kept)) if kept.files() == files => Some(Arc::clone(kept)),
            (Some(files), _) => Some(Arc::new(Certificate::load(files)?)),
        };
        Ok(Self {
            name: listener.name.as_str().into(),
            dialects: listener.dialects.clone(),
            first: first_dialect(&listener.dialects),
            access: listener.access,
            hosts: listener.hosts.iter().map(|host| host.to_lowercase().into()).collect(),
            tls,
            allow: networks(&listener.allow),
            deny: networks(&listener.deny),
        })
    }
}

/// The first dialect that a listener names, where that is another one than in the usual order.
fn first_dialect(dialects: &[Dialect]) -> Option<dukou_wire::Dialect> {
    let said = *dialects.first()?;
    let mut usual = dukou_wire::Dialect::REST.iter().copied().enumerate();
    let (place, first) = usual.find(|&(_, known)| Dialect::from(known) == said)?;
    (place > 0).then_some(first)
}

/// A model with the lanes that its requests can take.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: ModelName,
    /// What it may hold at once.
    pub limits: ModelLimits,
    /// Requests admitted and not yet answered, over all versions. Carried over from table to table.
    pub in_flight: Arc<AtomicUsize>,
    /// Class names, where known.
    pub labels: Arc<[Box<str>]>,
    /// One lane a version, in the table's order: what requests that name a version take. Their arm
    /// is `direct`: they chose for themselves and are no evidence of the split.
    pub versions: Vec<Arc<Lane>>,
    /// One lane an arm of the split, with the sum of weights up to and including it.
    pub(crate) split: Vec<(u64, Arc<Lane>)>,
    /// Version or alias → position in `versions`.
    pub(crate) labelled: HashMap<Box<str>, usize>,
    /// The version that answers some requests too, unseen.
    pub(crate) shadow: Option<Arc<Shadow>>,
    /// Which answered requests the tap keeps.
    pub(crate) capture: Option<Capture>,
    /// Answers that are known. Carried over from table to table while its settings stay.
    pub(crate) cache: Option<Arc<Cache>>,
}

/// A version that answers some requests too, unseen, and how often.
#[derive(Debug)]
pub struct Shadow {
    /// The version, under the arm `shadow`.
    pub lane: Arc<Lane>,
    /// The draws of requests that are copied: those below.
    pub(crate) below: u64,
    /// Copies that are being answered.
    pub(crate) in_flight: AtomicUsize,
}

/// Which answered requests the tap keeps.
#[derive(Clone, Copy, Debug)]
pub struct Capture {
    /// The draws of requests that are kept: those below.
    pub(crate) below: u64,
    /// Bytes of this model's tensors that may wait.
    pub(crate) buffer_bytes: usize,
}

/// What one model may hold at once, in the units that the rooms use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Requests that wait.
    pub queue: usize,
    /// Requests admitted and not yet answered.
    pub concurrency: usize,
    /// Deadline of a request that names none.
    pub deadline: Duration,
}

/// Where a request goes: a version, under the name of an arm.
#[derive(Debug)]
pub struct Lane {
    /// The version that answers.
    pub version: Arc<Loaded>,
    /// The arm.
    pub arm: Arm,
    /// The table's revision.
    pub revision: Revision,
    /// What the record adds to.
    pub counters: Arc<ArmCounters>,
    /// The value of `dukou-version`.
    pub version_header: HeaderValue,
    /// The value of `dukou-revision`.
    pub revision_header: HeaderValue,
    /// The model's cache, where it has one.
    pub cache: Option<Arc<Cache>>,
}

impl Serving {
    /// The model with this name.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.by_name.get(name).map(|&index| &self.models[index])
    }

    /// What is allowed on the listener with this name; none where the table does not name it.
    pub fn listener(&self, name: &str) -> Option<&Arc<ListenerPolicy>> {
        self.policies.get(name)
    }

    /// The table's revision.
    pub fn revision(&self) -> &Revision {
        &self.document.revision
    }
}

impl Model {
    /// The lane of the split that a draw falls to; `draw` may be any number, evenly distributed.
    pub fn draw(&self, draw: u64) -> &Arc<Lane> {
        let total = self.split.last().map_or(1, |(sum, _)| *sum);
        // The high half of the product maps a draw onto 0..total evenly, without a division.
        let point = ((u128::from(draw) * u128::from(total)) >> 64) as u64;
        let index = self.split.partition_point(|(sum, _)| *sum <= point);
        &self.split[index.min(self.split.len() - 1)].1
    }

    /// The lane of a version or alias named by the request.
    pub fn labelled(&self, label: &str) -> Option<&Arc<Lane>> {
        self.labelled.get(label).map(|&index| &self.versions[index])
    }
}

/// A version that is ready: opened, warmed, measured, proved. Shared by every table that names it
/// and every request that it answers; freed when the last of them lets go.
pub struct Loaded {
    /// The model's name.
    pub model: ModelName,
    /// The version's label.
    pub version: Version,
    /// Its manifest's digest; none for a bare file.
    pub digest: Option<Digest>,
    /// A number of this process's that no other load has: what answers are kept under. The same version
    /// loaded again is another one, for it may be run otherwise and a bare file may have changed.
    pub identity: u64,
    /// Since when it has been ready.
    pub since: SystemTime,
    /// What it takes and gives; `batchable` as it was proved here.
    pub signature: Arc<Signature>,
    /// What was seen while it was loaded.
    pub facts: Facts,
    /// How it answers.
    pub way: Way,
    /// What became of its golden samples.
    pub golden: Mutex<GoldenState>,
    /// The packaged golden samples, to be replayed; none for a bare file.
    pub(crate) samples: Option<Arc<FileBytes>>,
    /// What it was made from.
    pub(crate) origin: Origin,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("model", &self.model)
            .field("version", &self.version)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// What was seen while a version was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// From opening to ready.
    pub load: Duration,
    /// The typical run of one sample; none where no sample could be made.
    pub run: Option<Duration>,
    /// Whether requests may ride together.
    pub batchable: bool,
    /// Whether the arrival that finds an idle instance runs it on its own thread.
    pub inline: bool,
    /// Where its weights are: `plain`, `mapped`, `packed`; `remote` or `graph` where it has none here.
    pub residency: &'static str,
    /// The execution providers that its sessions have; the last is the CPU. None where it is not run here.
    pub providers: Box<[String]>,
    /// Those that were asked for and do not run it.
    pub passed_over: Box<[PassedOver]>,
}

/// What became of a version's golden samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoldenState {
    /// It has none.
    Absent,
    /// The table says not to replay them.
    Off,
    /// Not replayed yet: the engine has just been started.
    Pending,
    /// This many were reproduced.
    Reproduced(usize),
    /// They differ.
    Differs(Failure),
}

impl GoldenState {
    /// As `GET /models` says it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Off => "off",
            Self::Pending => "pending",
            Self::Reproduced(_) => "reproduced",
            Self::Differs(_) => "differs",
        }
    }
}

/// The arm of requests that name a version themselves: they are no evidence of the split.
const DIRECT: &str = "direct";
/// The arm of copies that a shadow answers: nobody waits for them.
const SHADOW: &str = "shadow";

impl Serving {
    /// Compiles a table whose versions are all ready.
    ///
    /// `loaded` finds a version of the table; `before` is the table being served, whose counts of what
    /// is in flight go on.
    ///
    /// # Errors
    /// `access.bad-certificate`. A version of the table that `loaded` does not have: the caller's mistake.
    pub fn compile(
        document: Arc<ServingTable>,
        loaded: impl Fn(&ModelName, &Version) -> Option<Arc<Loaded>>,
        before: Option<&Self>,
        state: &State,
    ) -> Result<Self, Failure> {
        let models = document.models.iter().map(|served| {
            let before = before.and_then(|before| before.model(served.name.as_str()));
            let kept = before.and_then(|before| before.cache.as_ref());
            let cache = served.cache.as_ref().map(|cache| Cache::carried_over(cache, kept));
            let cache = cache.transpose()?;
            let lanes = Lanes { document: &document, served, loaded: &loaded, state, cache };
            Ok(Arc::new(lanes.model(before.map(Arc::as_ref))?))
        });
        let models = models.collect::<Result<Vec<_>, Failure>>()?;
        let policies = document.listeners.iter().map(|listener| {
            let name = listener.name.as_str();
            let before = before.and_then(|before| before.listener(name));
            let policy = ListenerPolicy::compile(listener, before.map(Arc::as_ref))?;
            Ok((name.into(), Arc::new(policy)))
        });
        let policies: HashMap<_, Arc<ListenerPolicy>> = policies.collect::<Result<_, Failure>>()?;
        let limits = &document.limits;
        Ok(Self {
            stands_in: policies.values().any(|policy| policy.first.is_some()),
            limits: Limits {
                connections: size(limits.connections),
                body_bytes: size(limits.body_bytes),
                json_depth: size(limits.json_depth),
                header: Duration::from_millis(limits.header_ms),
                drain: Duration::from_millis(limits.drain_ms),
            },
            by_name: models.iter().enumerate().map(|(i, m)| (m.name.as_str().into(), i)).collect(),
            models,
            policies,
            revision_header: HeaderValue::from_str(document.revision.as_str()).map_err(internal)?,
            keys: Keys::compile(&document.principals, before.map(|before| &before.keys)),
            held: Arc::clone(&document),
            changes: Arc::default(),
            absent: BTreeMap::new(),
            document,
        })
    }

    /// The same, as what clients made of the table that control put.
    #[must_use]
    pub fn made_of(
        self,
        held: Arc<ServingTable>,
        changes: Arc<Changes>,
        absent: BTreeMap<ModelName, Absent>,
    ) -> Self {
        Self { held, changes, absent, ..self }
    }

    /// Every version that this table holds ready, in its order.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<Loaded>> {
        self.models.iter().flat_map(|model| &model.versions).map(|lane| &lane.version)
    }

    /// Puts this table's caps in place of those of the table before. Called as it is swapped in: a
    /// version that stayed may have been given others.
    pub(crate) fn apply_settings(&self) {
        for (model, served) in self.models.iter().zip(&self.document.models) {
            for lane in &model.versions {
                lane.version.way.set(settings(&served.batching, &served.limits));
            }
        }
    }
}

/// Makes the lanes of one model.
struct Lanes<'a, F> {
    document: &'a ServingTable,
    served: &'a ServedModel,
    loaded: &'a F,
    state: &'a State,
    cache: Option<Arc<Cache>>,
}

impl<F: Fn(&ModelName, &Version) -> Option<Arc<Loaded>>> Lanes<'_, F> {
    fn model(&self, before: Option<&Model>) -> Result<Model, Failure> {
        let served = self.served;
        let direct = Arm::parse(DIRECT).map_err(internal)?;
        let versions = served.versions.iter().map(|version| self.lane(&version.version, &direct));
        let mut sum = 0;
        let split = served.split.iter().filter(|weight| weight.weight > 0).map(|weight| {
            sum += weight.weight;
            Ok((sum, self.lane(&weight.version, &weight.arm)?))
        });
        let positions: HashMap<&Version, usize> =
            served.versions.iter().enumerate().map(|(i, v)| (&v.version, i)).collect();
        let labels = positions.iter().map(|(version, &position)| (*version, position)).chain(
            served.aliases.iter().filter_map(|(alias, v)| Some((alias, *positions.get(v)?))),
        );
        Ok(Model {
            name: served.name.clone(),
            limits: ModelLimits {
                queue: size(served.limits.queue),
                concurrency: size(served.limits.concurrency),
                deadline: Duration::from_millis(served.limits.deadline_ms),
            },
            in_flight: before.map(|before| Arc::clone(&before.in_flight)).unwrap_or_default(),
            labels: served.labels.iter().map(|label| label.as_str().into()).collect(),
            versions: versions.collect::<Result<_, _>>()?,
            split: split.collect::<Result<_, Failure>>()?,
            labelled: labels.map(|(label, i)| (label.as_str().into(), i)).collect(),
            shadow: match &served.shadow {
                None => None,
                Some(shadow) => Some(Arc::new(Shadow {
                    lane: self.lane(&shadow.version, &Arm::parse(SHADOW).map_err(internal)?)?,
                    below: part_of_draws(shadow.share),
                    in_flight: AtomicUsize::new(0),
                })),
            },
            capture: served.capture.as_ref().map(|capture| Capture {
                below: part_of_draws(capture.share),
                buffer_bytes: size(capture.buffer_bytes),
            }),
            cache: self.cache.clone(),
        })
    }

    fn lane(&self, version: &Version, arm: &Arm) -> Result<Arc<Lane>, Failure> {
        let loaded = (self.loaded)(&self.served.name, version).ok_or_else(|| {
            internal(format!("version `{version}` of `{}` is not ready", self.served.name))
        })?;
        let revision = &self.document.revision;
        let key = ArmKey {
            model: self.served.name.clone(),
            version: version.clone(),
            digest: loaded.digest.clone(),
            arm: arm.clone(),
            revision: revision.clone(),
        };
        Ok(Arc::new(Lane {
            counters: self.state.arm(&key),
            version: loaded,
            arm: arm.clone(),
            version_header: HeaderValue::from_str(version.as_str()).map_err(internal)?,
            revision_header: HeaderValue::from_str(revision.as_str()).map_err(internal)?,
            revision: revision.clone(),
            cache: self.cache.clone(),
        }))
    }
}

/// So many of a million, of all numbers that a draw may be.
fn part_of_draws(share: u64) -> u64 {
    u64::try_from(u128::from(u64::MAX) * u128::from(share) / 1_000_000).unwrap_or(u64::MAX)
}

fn internal(what: impl fmt::Display) -> Failure {
    Failure::new(ErrorCode::EngineInternal, "the table could not be compiled")
        .with_detail(what.to_string())
}
