//! Where a version comes from: a file, an artifact, other servers, or a graph of other models.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use dukou_types::{DeclaredSignature, Digest, ModelName, Version};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

/// Where a version comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSource", into = "RawSource")]
pub enum Source {
    /// A bare ONNX file: its signature is read from the session, nothing is verified.
    File(PathBuf),
    /// A packaged version in an OCI image layout.
    Artifact {
        /// Digest of the version's manifest.
        digest: Digest,
        /// The layout's folder.
        store: PathBuf,
    },
    /// Other servers that answer it.
    Remote(RemoteSource),
    /// Other models of the same table.
    Graph(GraphSource),
}

impl Source {
    /// Whether this process runs it: what a backend is needed for.
    pub const fn is_run_here(&self) -> bool {
        matches!(self, Self::File(_) | Self::Artifact { .. })
    }
}

/// Other servers that answer a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteSource {
    /// What they speak, by its name.
    pub dialect: String,
    /// What the model takes and gives; null: they are asked for it.
    #[serde(deserialize_with = "Option::deserialize")]
    pub signature: Option<DeclaredSignature>,
    /// Its name there.
    pub model: ModelName,
    /// The version or alias that is asked for there; null: whichever they choose.
    #[serde(deserialize_with = "Option::deserialize")]
    pub version: Option<Version>,
    /// Their base addresses.
    pub replicas: Vec<String>,
    /// The file of the key that is shown to them; null for none.
    #[serde(deserialize_with = "Option::deserialize")]
    pub key_file: Option<PathBuf>,
    /// The certificates, PEM, that theirs are checked against; null where all speak in clear.
    #[serde(deserialize_with = "Option::deserialize")]
    pub ca_file: Option<PathBuf>,
    /// How often they are looked at.
    pub health_ms: u64,
    /// Of a hundred requests, so many may be asked once more of another.
    pub retry_percent: u64,
}

impl RemoteSource {
    /// The files that it names, by field.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let files = [("key_file", &self.key_file), ("ca_file", &self.ca_file)];
        files.into_iter().filter_map(|(field, file)| Some((field, file.as_deref()?)))
    }
}

/// A graph of other models of the same table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphSource {
    /// What is done.
    pub nodes: Vec<Node>,
    /// What of it is answered.
    pub outputs: Wiring,
}

/// Where tensors come from: all from one node, or each by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Wiring {
    /// All of this node's outputs.
    Node(String),
    /// Name → reference.
    Each(BTreeMap<String, String>),
}

/// One step of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Node {
    /// A model answers.
    Model(ModelNode),
    /// Several outputs become one.
    Ensemble(EnsembleNode),
    /// One of several models answers.
    Switch(SwitchNode),
}

/// A model answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelNode {
    /// What the node is called.
    pub name: String,
    /// The model.
    pub model: ModelName,
    /// Its version or alias; null: its split's.
    #[serde(deserialize_with = "Option::deserialize")]
    pub version: Option<Version>,
    /// Where its inputs come from; null: the graph's inputs of the same names.
    #[serde(deserialize_with = "Option::deserialize")]
    pub inputs: Option<Wiring>,
}

/// Several outputs become one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleNode {
    /// What the node is called.
    pub name: String,
    /// References to the outputs.
    pub ensemble: Vec<String>,
    /// How.
    pub combine: Combine,
    /// How much each counts; null: all alike.
    #[serde(deserialize_with = "Option::deserialize")]
    pub weights: Option<Vec<u64>>,
}

/// How several outputs become one, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// The weighted mean.
    Mean,
    /// What most say, by weight; of those that are even, what the first of them says.
    Vote,
}

/// One of several models answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchNode {
    /// What the node is called.
    pub name: String,
    /// The reference by whose value it is chosen.
    pub switch: String,
    /// Value → model.
    pub cases: BTreeMap<String, ModelName>,
    /// For every other value; null: it is refused.
    #[serde(deserialize_with = "Option::deserialize")]
    pub otherwise: Option<ModelName>,
    /// Where their inputs come from; null: the graph's inputs of the same names.
    #[serde(deserialize_with = "Option::deserialize")]
    pub inputs: Option<Wiring>,
}

impl Node {
    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Model(node) => &node.name,
            Self::Ensemble(node) => &node.name,
            Self::Switch(node) => &node.name,
        }
    }

    /// The models that may answer in it.
    pub fn models(&self) -> Vec<&ModelName> {
        match self {
            Self::Model(node) => vec![&node.model],
            Self::Ensemble(_) => Vec::new(),
            Self::Switch(node) => node.cases.values().chain(&node.otherwise).collect(),
        }
    }
}

/// Which kind a node is says the key that only it has: errors are then of that kind.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = Value::deserialize(deserializer)?;
        let read = if node.get("ensemble").is_some() {
            serde_json::from_value(node).map(Self::Ensemble)
        } else if node.get("switch").is_some() {
            serde_json::from_value(node).map(Self::Switch)
        } else {
            serde_json::from_value(node).map(Self::Model)
        };
        read.map_err(D::Error::custom)
    }
}

/// A source before it is known which.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remote: Option<RemoteSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    graph: Option<GraphSource>,
}

impl RawSource {
    const EMPTY: Self = Self { file: None, artifact: None, store: None, remote: None, graph: None };
}

impl TryFrom<RawSource> for Source {
    type Error = &'static str;
    fn try_from(raw: RawSource) -> Result<Self, Self::Error> {
        match raw {
            RawSource {
                file: Some(file),
                artifact: None,
                store: None,
                remote: None,
                graph: None,
            } => Ok(Self::File(file.into())),
            RawSource {
                file: None,
                artifact: Some(digest),
                store: Some(store),
                remote: None,
                graph: None,
            } => Ok(Self::Artifact { digest, store: store.into() }),
            RawSource {
                file: None,
                artifact: None,
                store: None,
                remote: Some(remote),
                graph: None,
            } => Ok(Self::Remote(remote)),
            RawSource {
                file: None,
                artifact: None,
                store: None,
                remote: None,
                graph: Some(graph),
            } => Ok(Self::Graph(graph)),
            _ => Err("a source is one of `file`, `artifact` with `store`, `remote`, `graph`"),
        }
    }
}

impl From<Source> for RawSource {
    fn from(source: Source) -> Self {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        match source {
            Source::File(file) => Self { file: Some(text(file)), ..Self::EMPTY },
            Source::Artifact { digest, store } => {
                Self { artifact: Some(digest), store: Some(text(store)), ..Self::EMPTY }
            }
            Source::Remote(remote) => Self { remote: Some(remote), ..Self::EMPTY },
            Source::Graph(graph) => Self { graph: Some(graph), ..Self::EMPTY },
        }
    }
}
