//! The serving table as a document: the whole of what the engine's behaviour depends on.
//!
//! These types mirror `python/dukou/deploy/table.py` field by field, and the golden tables under
//! `conformance/tables/` hold both to it. Nothing here has a default: a missing field, an unknown
//! field or a value out of its range is `deploy.invalid` with the field's path.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use dukou_types::{Arm, ErrorCode, Failure, ModelName, Revision, Version};
use serde::{Deserialize, Serialize};

/// Everything that the engine does, but for its listeners' sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingTable {
    /// Always 1.
    pub format: u64,
    /// The name of this table; answers carry it.
    pub revision: Revision,
    /// Later tables have larger numbers; an older one is refused.
    pub sequence: u64,
    /// What is allowed on each inherited socket.
    pub listeners: Vec<Listener>,
    /// Whose keys are good on listeners with [`Access::Keys`].
    pub principals: Vec<PrincipalKey>,
    /// What the process holds at once.
    pub limits: ServerLimits,
    /// Whose artifacts are loaded.
    pub trust: Trust,
    /// What is written down about requests.
    pub observability: Observability,
    /// Where models may be registered from while the table is served; null: nowhere.
    #[serde(deserialize_with = "Option::deserialize")]
    pub repository: Option<Repository>,
    /// What is served.
    pub models: Vec<ServedModel>,
}

/// What is allowed on one inherited socket, by the name that the supervisor gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The name in `LISTEN_FDNAMES`.
    pub name: ListenerName,
    /// What is spoken there.
    pub dialects: Vec<Dialect>,
    /// Who may speak.
    pub access: Access,
    /// `Host` names answered to besides loopback's.
    pub hosts: Vec<String>,
    /// The certificate; none: what is said travels in clear.
    #[serde(deserialize_with = "Option::deserialize")]
    pub tls: Option<TlsFiles>,
    /// Networks that may connect; empty: whoever is not denied.
    pub allow: Vec<String>,
    /// Networks that may not connect, before `allow`.
    pub deny: Vec<String>,
}

/// The name of a listener; the same form as a model's name.
pub type ListenerName = ModelName;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// The Open Inference Protocol, V2, over HTTP.
    V2,
    /// TensorFlow Serving's protocol over HTTP, and KServe's V1.
    TensorFlow,
    /// A small Keras server's, over HTTP.
    Keras,
    /// The Open Inference Protocol, V2, over gRPC.
    #[serde(rename = "v2-grpc")]
    V2Grpc,
    /// TensorFlow Serving's protocol over gRPC.
    #[serde(rename = "tensorflow-grpc")]
    TensorFlowGrpc,
    /// TorchServe's inference and management, over HTTP.
    TorchServe,
    /// The same over gRPC.
    #[serde(rename = "torchserve-grpc")]
    TorchServeGrpc,
}

impl Dialect {
    /// Every dialect; the position is its index in counters.
    pub const ALL: [Self; 7] = [
        Self::V2,
        Self::TensorFlow,
        Self::Keras,
        Self::V2Grpc,
        Self::TensorFlowGrpc,
        Self::TorchServe,
        Self::TorchServeGrpc,
    ];

    /// As it is written in tables, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::TensorFlow => "tensorflow",
            Self::Keras => "keras",
            Self::V2Grpc => "v2-grpc",
            Self::TensorFlowGrpc => "tensorflow-grpc",
            Self::TorchServe => "torchserve",
            Self::TorchServeGrpc => "torchserve-grpc",
        }
    }

    /// Its position in [`Dialect::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl From<dukou_wire::Dialect> for Dialect {
    fn from(spoken: dukou_wire::Dialect) -> Self {
        match spoken {
            dukou_wire::Dialect::V2 => Self::V2,
            dukou_wire::Dialect::TensorFlow => Self::TensorFlow,
            dukou_wire::Dialect::Keras => Self::Keras,
            dukou_wire::Dialect::V2Grpc => Self::V2Grpc,
            dukou_wire::Dialect::TensorFlowGrpc => Self::TensorFlowGrpc,
            dukou_wire::Dialect::TorchServe => Self::TorchServe,
            dukou_wire::Dialect::TorchServeGrpc => Self::TorchServeGrpc,
        }
    }
}

/// What the process holds at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerLimits {
    /// Connections.
    pub connections: u64,
    /// Bytes of one request's body.
    pub body_bytes: u64,
    /// Nesting of JSON.
    pub json_depth: u64,
    /// How long a client may take for its head.
    pub header_ms: u64,
    /// How long requests in flight may take after SIGTERM.
    pub drain_ms: u64,
}

/// Whose artifacts are loaded. Bare files are the user's own word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Whether an artifact without a good signature is refused.
    pub require_signature: bool,
    /// Public keys whose signatures count.
    pub keys: Vec<TrustedKey>,
}

/// A public key whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// sha256 of the SubjectPublicKeyInfo, hex.
    pub id: String,
    /// The key.
    pub pem: String,
}

/// What is written down about requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observability {
    /// File for one JSON line a request; `-` for stdout; null for none.
    #[serde(deserialize_with = "Option::deserialize")]
    pub access_log: Option<String>,
    /// File for one JSON line a refusal, or a burst of them; null for none.
    #[serde(deserialize_with = "Option::deserialize")]
    pub security_log: Option<String>,
}

/// Where models may be registered from while the table is served, and how those are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Folders whose files and folders are models.
    pub folders: Vec<PathBuf>,
    /// How they are run.
    pub backend: Backend,
    /// Caps of a batch.
    pub batching: Batching,
    /// What each may hold at once.
    pub limits: ModelLimits,
}

/// A model with the versions that are served and where its traffic goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServedModel {
    /// Its name in requests.
    pub name: ModelName,
    /// The versions held ready.
    pub versions: Vec<ServedVersion>,
    /// Alias → version.
    pub aliases: BTreeMap<Version, Version>,
    /// Where requests without a version go.
    pub split: Vec<Weight>,
    /// Caps of a batch.
    pub batching: Batching,
    /// What it may hold at once.
    pub limits: ModelLimits,
    /// Class names, where known.
    pub labels: Vec<String>,
    /// A version that answers some requests too, unseen, so that the answers can be compared.
    #[serde(deserialize_with = "Option::deserialize")]
    pub shadow: Option<Shadow>,
    /// Which answered requests are kept for the monitor.
    #[serde(deserialize_with = "Option::deserialize")]
    pub capture: Option<Capture>,
    /// How many answers are kept for whoever asks the same again; null: none.
    #[serde(deserialize_with = "Option::deserialize")]
    pub cache: Option<Caching>,
}

/// How many answers are kept for whoever asks the same again, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caching {
    /// Bytes of questions and answers together.
    pub max_bytes: u64,
    /// How long an answer is good; null: for as long as its version is served and there is room.
    #[serde(deserialize_with = "Option::deserialize")]
    pub ttl_ms: Option<u64>,
}

/// A version that answers a share of the split's requests too, after their callers have their answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// The version.
    pub version: Version,
    /// Of a million requests that another version answered, so many.
    pub share: u64,
}

/// Which answered requests are kept for the monitor, and how much of them at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// Of a million answered requests, so many.
    pub share: u64,
    /// Bytes of this model's tensors that wait to be fetched; what comes when they are full is lost.
    pub buffer_bytes: u64,
}

/// One version that the engine holds ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServedVersion {
    /// Its label.
    pub version: Version,
    /// Where it comes from.
    pub source: Source,
    /// How it is run; null where this process does not run it: a remote, a graph.
    #[serde(deserialize_with = "Option::deserialize")]
    pub backend: Option<Backend>,
    /// What a version that does not reproduce its golden samples does to the table.
    pub golden: GoldenMode,
}

/// How a version is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// What runs it.
    pub kind: BackendKind,
    /// Runs that can go on at once.
    pub instances: u64,
    /// Threads inside one run.
    pub threads: u64,
    /// Execution providers in order of preference; the last is the CPU.
    pub providers: Vec<Provider>,
    /// Map weights once per process from the compiled cache; false: a session of the plain file.
    pub share_weights: bool,
}

/// A way to run a model that ONNX Runtime may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// By ONNX Runtime's name.
    pub name: String,
    /// Its own settings, by its own names.
    pub options: BTreeMap<String, String>,
}

/// What runs a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// ONNX Runtime in this process.
    Onnx,
}

/// Caps of a batch. An idle instance takes what is queued at once; `delay_us` waits for more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batching {
    /// Rows of one run; 1 turns batching off.
    pub max_rows: u64,
    /// Bytes of input of one run.
    pub max_bytes: u64,
    /// How long an idle instance waits for more.
    pub delay_us: u64,
}

/// What one model may hold at once; more is refused at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelLimits {
    /// Requests that wait.
    pub queue: u64,
    /// Requests admitted and not yet answered.
    pub concurrency: u64,
    /// Deadline of a request that names none.
    pub deadline_ms: u64,
}

/// What golden samples that differ do to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GoldenMode {
    /// Refuse it.
    Require,
    /// Serve it, and say so.
    Alarm,
    /// They are not replayed.
    Off,
}

/// One arm of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// The version.
    pub version: Version,
    /// The arm's name, under which its requests are counted.
    pub arm: Arm,
    /// Its share of the sum of weights.
    pub weight: u64,
}

/// A table that says something it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {problem}")]
pub struct InvalidTable {
    /// The path of the field, as `models[0].backend.instances`; `.` for the document itself.
    pub field: String,
    /// What it holds and what it may hold.
    pub problem: String,
}

impl From<InvalidTable> for Failure {
    fn from(invalid: InvalidTable) -> Self {
        Self::new(ErrorCode::DeployInvalid, format!("the serving table is not valid: {invalid}"))
    }
}

impl ServingTable {
    /// Reads a table and checks all of it.
    ///
    /// # Errors
    /// The first field that is missing, unknown, of another type or out of its range.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidTable> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let table: Self = serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| invalid(error.path(), said(error.inner())))?;
        reader.end().map_err(|error| invalid(".", error))?;
        table.check()?;
        Ok(table)
    }

    /// Checks all that the types do not say.
    ///
    /// # Errors
    /// The first field that is out of its range, or names what is not there.
    pub fn check(&self) -> Result<(), InvalidTable> {
        check::table(self)
    }
}

/// What is wrong with a field, without the line and column: the path says where. What is no JSON at all
/// has no path and keeps them.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(place) if error.is_data() => text[..place].to_owned(),
        _ => text,
    }
}

fn invalid(field: impl fmt::Display, problem: impl fmt::Display) -> InvalidTable {
    InvalidTable { field: field.to_string(), problem: problem.to_string() }
}

#[path = "table_access.rs"]
mod access;
#[path = "table_check.rs"]
mod check;
#[path = "table_check_graph.rs"]
mod check_graph;
#[path = "table_source.rs"]
mod source;

pub use access::{Access, Grant, PrincipalKey, Rate, Role, TlsFiles};
pub use source::{
    Combine, EnsembleNode, GraphSource, ModelNode, Node, RemoteSource, Source, SwitchNode, Wiring,
};

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
