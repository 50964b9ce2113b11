//! What is served: a table, and the changes that clients made to it. A pure function of both.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dukou_types::{Arm, ErrorCode, Failure, ModelName, Version};

use super::changes::Changes;
use crate::table::{Node, ServedModel, ServingTable, Source, Weight};

/// What is served, and what is known and not served.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The table that is served.
    pub table: Arc<ServingTable>,
    /// Models that are known and not served.
    pub absent: BTreeMap<ModelName, Absent>,
}

/// A model that is known and not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The model, as it would be served.
    pub model: ServedModel,
    /// Why it is not.
    pub why: Why,
}

/// Why a model is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A client unloaded it.
    Unloaded,
    /// It was scaled to no instances.
    NoWorkers,
    /// It is made of a model that is not served.
    Lacks(ModelName),
}

impl Why {
    /// In a few words, as a repository lists it.
    pub fn reason(&self) -> String {
        match self {
            Self::Unloaded => "unloaded".to_owned(),
            Self::NoWorkers => "no workers".to_owned(),
            Self::Lacks(model) => format!("made of `{model}`, which is not served"),
        }
    }

    /// What a request for it hears.
    pub fn failure(&self, name: &ModelName) -> Failure {
        match self {
            Self::Unloaded => Failure::new(
                ErrorCode::RequestUnknownModel,
                format!("no model `{name}` is served: it was unloaded"),
            ),
            Self::NoWorkers => Failure::new(
                ErrorCode::ServerNoWorker,
                format!("`{name}` was scaled to no instances"),
            ),
            Self::Lacks(model) => Failure::new(
                ErrorCode::RequestUnknownModel,
                format!("no model `{name}` is served: it is made of `{model}`, which was unloaded"),
            ),
        }
    }
}

/// The arm of a split that a client decided.
const MAIN: &str = "main";

impl Changes {
    /// What is to be served.
    pub fn apply(&self, held: &Arc<ServingTable>) -> Applied {
        let mut absent = BTreeMap::new();
        if self.is_empty() {
            return Applied { table: Arc::clone(held), absent };
        }
        let mut served = Vec::new();
        for model in self.known(held) {
            match self.of_model(model) {
                Ok(changed) => served.push(changed),
                Err(why) => {
                    absent.insert(model.name.clone(), Absent { model: model.clone(), why });
                }
            }
        }
        // What is made of something that is gone goes too, and so on.
        while let Some((place, lacks)) = lacking(&served) {
            let model = served.remove(place);
            let why = Why::Lacks(lacks);
            absent.insert(model.name.clone(), Absent { model, why });
        }
        let table = ServingTable { models: served, ..ServingTable::clone(held) };
        Applied { table: Arc::new(table), absent }
    }

    /// One model as it is to be served.
    pub(super) fn of_model(&self, model: &ServedModel) -> Result<ServedModel, Why> {
        let name = &model.name;
        if self.unloaded.contains(name) {
            return Err(Why::Unloaded);
        }
        let mut changed = model.clone();
        if let Some(gone) = self.unloaded_versions.get(name) {
            changed.versions.retain(|version| !gone.contains(&version.version));
            if changed.versions.is_empty() {
                return Err(Why::Unloaded);
            }
        }
        if let Some(workers) = self.workers.get(name) {
            changed.versions.retain(|version| workers.get(&version.version) != Some(&0));
            if changed.versions.is_empty() {
                return Err(Why::NoWorkers);
            }
            for version in &mut changed.versions {
                if let (Some(&instances), Some(backend)) =
                    (workers.get(&version.version), &mut version.backend)
                {
                    backend.instances = instances;
                }
            }
        }
        if let Some(labels) = self.labels.get(name) {
            changed.aliases.extend(labels.iter().map(|(l, v)| (l.clone(), v.clone())));
        }
        let stays: BTreeSet<Version> =
            changed.versions.iter().map(|version| version.version.clone()).collect();
        changed.aliases.retain(|alias, version| stays.contains(version) && !stays.contains(alias));
        if changed.shadow.as_ref().is_some_and(|shadow| !stays.contains(&shadow.version)) {
            changed.shadow = None;
        }
        let default = self.defaults.get(name).filter(|default| stays.contains(*default));
        changed.split.retain(|weight| stays.contains(&weight.version));
        let anywhere = changed.split.iter().any(|weight| weight.weight > 0);
        let alone = match default {
            Some(default) => Some(default.clone()),
            None if anywhere => None,
            None => newest(&stays).cloned(),
        };
        if let Some(version) = alone
            && let Ok(arm) = Arm::parse(MAIN)
        {
            changed.split = vec![Weight { version, arm, weight: 1 }];
        }
        Ok(changed)
    }
}

/// The version with the largest number; of those that are none, the last.
pub(super) fn newest<'v>(versions: impl IntoIterator<Item = &'v Version>) -> Option<&'v Version> {
    versions.into_iter().max_by_key(|version| (number(version), version.as_str()))
}

/// A version's number, where it is one.
pub(super) fn number(version: &Version) -> Option<u64> {
    version.as_str().parse().ok()
}

/// A graph that asks something that is not there, and what.
fn lacking(served: &[ServedModel]) -> Option<(usize, ModelName)> {
    let there = |name: &ModelName, version: Option<&Version>| {
        let model = served.iter().find(|model| model.name == *name);
        model.is_some_and(|model| {
            version.is_none_or(|label| {
                model.aliases.contains_key(label)
                    || model.versions.iter().any(|version| version.version == *label)
            })
        })
    };
    served.iter().enumerate().find_map(|(place, model)| {
        let nodes = model.versions.iter().filter_map(|version| match &version.source {
            Source::Graph(graph) => Some(&graph.nodes),
            _ => None,
        });
        let missing = nodes.flatten().find_map(|node| match node {
            Node::Model(node) => {
                (!there(&node.model, node.version.as_ref())).then(|| node.model.clone())
            }
            other => other.models().into_iter().find(|name| !there(name, None)).cloned(),
        });
        Some((place, missing?))
    })
}
