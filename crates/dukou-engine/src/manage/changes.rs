//! The list of changes, as it is kept: what differs from the table that control put.

use std::collections::{BTreeMap, BTreeSet};

use dukou_types::{ModelName, Version};
use serde::{Deserialize, Serialize};

use crate::table::{ServedModel, ServingTable};

/// What a client changed while a table is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// Models that are not to be served.
    pub unloaded: BTreeSet<ModelName>,
    /// Versions of models that are not to be served.
    pub unloaded_versions: BTreeMap<ModelName, BTreeSet<Version>>,
    /// Models of a model store, in place of the table's where it has them too.
    pub registered: Vec<ServedModel>,
    /// Where requests go that name no version.
    pub defaults: BTreeMap<ModelName, Version>,
    /// How many instances run a version; 0: none.
    pub workers: BTreeMap<ModelName, BTreeMap<Version, u64>>,
    /// Aliases besides the table's.
    pub labels: BTreeMap<ModelName, BTreeMap<Version, Version>>,
}

impl Changes {
    /// Whether nothing differs from the table.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every model that there is: the table's, then those that it does not have.
    pub fn known<'c>(&'c self, held: &'c ServingTable) -> impl Iterator<Item = &'c ServedModel> {
        let own = |name: &ModelName| self.registered.iter().find(|model| model.name == *name);
        let table = held.models.iter().map(move |model| own(&model.name).unwrap_or(model));
        table.chain(self.registered.iter().filter(|model| of(held, &model.name).is_none()))
    }

    /// The model with this name.
    pub fn find<'c>(&'c self, held: &'c ServingTable, name: &ModelName) -> Option<&'c ServedModel> {
        self.known(held).find(|model| model.name == *name)
    }

    /// Whether a client registered it.
    pub fn is_registered(&self, name: &ModelName) -> bool {
        self.registered.iter().any(|model| model.name == *name)
    }

    /// The list for another table: a model that was unloaded stays so, and everything else that was said
    /// of a model is over where the table says something new of it.
    #[must_use]
    pub fn rebased(&self, old: &ServingTable, new: &ServingTable) -> Self {
        let mut rebased = self.clone();
        let same = |name: &ModelName| of(new, name) == of(old, name);
        rebased.registered.retain(|model| same(&model.name));
        let still =
            |name: &ModelName| same(name) && (of(new, name).is_some() || self.is_registered(name));
        rebased.unloaded.retain(|name| {
            of(new, name).is_some() || rebased.registered.iter().any(|model| model.name == *name)
        });
        rebased.unloaded_versions.retain(|name, _| still(name));
        rebased.defaults.retain(|name, _| still(name));
        rebased.workers.retain(|name, _| still(name));
        rebased.labels.retain(|name, _| still(name));
        rebased
    }

    /// Forgets what was said of a model, but for its being registered.
    pub(super) fn forget(&mut self, name: &ModelName) {
        self.unloaded.remove(name);
        self.unloaded_versions.remove(name);
        self.defaults.remove(name);
        self.workers.remove(name);
        self.labels.remove(name);
    }
}

/// The table's model with this name.
pub(super) fn of<'t>(table: &'t ServingTable, name: &ModelName) -> Option<&'t ServedModel> {
    table.models.iter().find(|model| model.name == *name)
}
