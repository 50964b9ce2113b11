//! What a change comes to, on paper: the list of changes after it, or why it cannot be.
//!
//! Nothing is loaded here; only the model store's folders are looked into.

use std::collections::BTreeSet;

use dukou_types::{Arm, ErrorCode, Failure, ModelName, Version};
use dukou_wire::{Change, Outcome, Registration};

use super::{
    apply::{Why, newest, number},
    changes::{Changes, of},
    reload,
    store::{Found, ModelStore},
};
use crate::{
    origin::is_same_file,
    table::{GoldenMode, Repository, ServedModel, ServedVersion, ServingTable, Source, Weight},
};

/// Instances that a table may ask for.
const MOST_WORKERS: u64 = 256;
/// The longest that a batch may wait, in microseconds.
const LONGEST_DELAY_US: u64 = 1_000_000;
/// The most rows of a batch.
const MOST_ROWS: u64 = 65_536;

/// What a change comes to.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The list of changes after it.
    pub next: Changes,
    /// What its asker hears once that is served.
    pub outcome: Outcome,
    /// The models whose files are looked at again.
    pub touched: BTreeSet<ModelName>,
}

/// Decides.
///
/// # Errors
/// `request.unknown-*`, `manage.*`, `wire.invalid-field`, `deploy.invalid` for a table that would be none.
pub fn decide(
    changes: &Changes,
    change: &Change,
    held: &std::sync::Arc<ServingTable>,
) -> Result<Decision, Failure> {
    let mut draft = Draft { next: changes.clone(), held, touched: BTreeSet::new() };
    let mut with_dependents = false;
    let outcome = match change {
        Change::Load { model } => draft.load(model)?,
        Change::Unload { model, dependents } => {
            with_dependents = *dependents;
            draft.unload(model)?
        }
        Change::Register(registration) => draft.register(registration)?,
        Change::Scale { model, version, workers, .. } => {
            draft.scale(model, version.as_ref(), *workers)?
        }
        Change::SetDefault { model, version } => draft.set_default(model, version)?,
        Change::Unregister { model, version } => draft.unregister(model, version.as_ref())?,
        Change::Reload(wanted) => {
            // Who says all that is to be served means that the rest goes.
            with_dependents = true;
            reload::reload(&mut draft, wanted)?
        }
    };
    let Draft { next, touched, .. } = draft;
    let applied = next.apply(held);
    if !with_dependents {
        let before = changes.apply(held).absent;
        let new = applied.absent.iter().find(|(name, _)| !before.contains_key(*name));
        if let Some((name, Why::Lacks(model))) = new.map(|(name, absent)| (name, &absent.why)) {
            let message = format!("`{name}` is made of `{model}`, and would go with it");
            return Err(Failure::new(ErrorCode::ManageInUse, message));
        }
    }
    applied.table.check()?;
    Ok(Decision { next, outcome, touched })
}

/// A list of changes that is being made.
pub(super) struct Draft<'h> {
    pub(super) next: Changes,
    pub(super) held: &'h ServingTable,
    pub(super) touched: BTreeSet<ModelName>,
}

impl Draft<'_> {
    fn store(&self) -> Option<ModelStore<'_>> {
        self.held.repository.as_ref().map(ModelStore)
    }

    /// The model with this name, loaded or not.
    pub(super) fn known(&self, name: &ModelName) -> Result<ServedModel, Failure> {
        self.next.find(self.held, name).cloned().ok_or_else(|| {
            let message = format!("no model `{name}` is known");
            Failure::new(ErrorCode::RequestUnknownModel, message)
        })
    }

    /// The model as it is served, or would be if it had workers.
    fn current(&self, name: &ModelName) -> Result<ServedModel, Failure> {
        let model = self.known(name)?;
        match self.next.of_model(&model) {
            Ok(current) => Ok(current),
            Err(Why::NoWorkers) => {
                let mut awake = self.next.clone();
                awake.workers.remove(name);
                awake.of_model(&model).map_err(|why| why.failure(name))
            }
            Err(why) => Err(why.failure(name)),
        }
    }

    /// Has a model served: one that was unloaded, or one of the store. What its folder has of new versions
    /// is found.
    pub(super) fn load(&mut self, name: &ModelName) -> Result<Outcome, Failure> {
        self.touched.insert(name.clone());
        if let Ok(model) = self.known(name) {
            self.next.unloaded.remove(name);
            self.next.unloaded_versions.remove(name);
            if let Some(workers) = self.next.workers.get_mut(name) {
                workers.retain(|_, instances| *instances > 0);
            }
            if let Some(newer) = self.refreshed(&model) {
                self.keep(newer);
            }
        } else {
            let found = self.store().and_then(|store| store.find(name.as_str()).ok());
            let (Some(found), Some(repository)) = (found, &self.held.repository) else {
                let message = format!(
                    "failed to load '{name}', failed to poll from model repository: no model of this name \
                     is known, or lies in a model store"
                );
                return Err(Failure::new(ErrorCode::RequestUnknownModel, message));
            };
            self.keep(served(name, &found, repository));
        }
        Ok(Outcome::Loaded { model: name.clone() })
    }

    pub(super) fn unload(&mut self, name: &ModelName) -> Result<Outcome, Failure> {
        if self.next.find(self.held, name).is_none() {
            let message = format!("failed to unload '{name}', no model of this name is known");
            return Err(Failure::new(ErrorCode::RequestUnknownModel, message));
        }
        self.next.unloaded.insert(name.clone());
        Ok(Outcome::Unloaded { model: name.clone() })
    }

    fn register(&mut self, asked: &Registration) -> Result<Outcome, Failure> {
        let repository = self.held.repository.as_ref().ok_or_else(|| {
            let message = format!(
                "Model not found at: {}: the server was started without a model store",
                asked.location
            );
            Failure::new(ErrorCode::ManageNoStore, message)
        })?;
        let found = ModelStore(repository).find(&asked.location)?;
        let Some(name) = asked.model.as_ref() else {
            let message = format!("no model can be called as `{}` is", asked.location);
            return Err(Failure::new(ErrorCode::RequestUnknownModel, message));
        };
        self.touched.insert(name.clone());
        let mut model = served(name, &found, repository);
        if let Some(rows) = asked.batch_rows {
            model.batching.max_rows = rows.min(MOST_ROWS);
            // A batch of one waits for nobody.
            let delay = asked.batch_delay_ms.filter(|_| rows > 1).unwrap_or(0);
            model.batching.delay_us = delay.saturating_mul(1000).min(LONGEST_DELAY_US);
        }
        if let Some(known) = self.next.find(self.held, name) {
            let unloaded = self.next.unloaded.contains(name);
            let own = self.next.is_registered(name);
            let same = same_files(known, &model);
            let new = |version: &ServedVersion| {
                known.versions.iter().all(|there| there.version != version.version)
            };
            if !(unloaded && same || own && (unloaded || model.versions.iter().any(new))) {
                let version = newest(model.versions.iter().map(|version| &version.version));
                let message = format!(
                    "Model version {} is already registered for model {name}",
                    version.map_or("", |version| version.as_str())
                );
                return Err(Failure::new(ErrorCode::ManageAlreadyRegistered, message));
            }
            if !own {
                // The table's own model, by its own file.
                model = known.clone();
            }
        }
        self.next.forget(name);
        if of(self.held, name) != Some(&model) {
            self.keep(model.clone());
        }
        let versions = model.versions.iter().map(|version| version.version.clone());
        if let Some(workers) = asked.workers {
            for version in versions.collect::<Vec<_>>() {
                self.set_workers(name, &version, workers)?;
            }
        }
        let default = default_of(&model);
        let workers = asked.workers.unwrap_or_else(|| instances(&model, default.as_ref()));
        let version = default.ok_or_else(|| no_version(name))?;
        Ok(Outcome::Registered { model: name.clone(), version, workers })
    }

    fn scale(
        &mut self,
        name: &ModelName,
        version: Option<&Version>,
        workers: u64,
    ) -> Result<Outcome, Failure> {
        self.touched.insert(name.clone());
        let current = self.current(name)?;
        let versions: Vec<Version> = match version {
            Some(version) => vec![self.version_of(name, version)?],
            None => current
                .split
                .iter()
                .filter(|weight| weight.weight > 0)
                .map(|weight| weight.version.clone())
                .collect(),
        };
        let run_here = |version: &ServedVersion| version.backend.is_some();
        if !current.versions.iter().all(run_here) {
            let message = format!("`{name}` is not run by this process: there is nothing to scale");
            return Err(Failure::new(ErrorCode::WireInvalidField, message));
        }
        let others = current.versions.iter().any(|there| !versions.contains(&there.version));
        let is_default = |version: &Version| default_of(&current).as_ref() == Some(version);
        if workers == 0 && others && versions.iter().any(is_default) {
            return Err(self.is_default(name, "scale", &versions));
        }
        for version in &versions {
            self.set_workers(name, version, workers)?;
        }
        Ok(Outcome::Scaled { model: name.clone(), version: version.cloned(), workers })
    }

    fn set_workers(
        &mut self,
        name: &ModelName,
        version: &Version,
        workers: u64,
    ) -> Result<(), Failure> {
        if workers > MOST_WORKERS {
            let message = format!("{workers} workers are wanted, and {MOST_WORKERS} are the most");
            return Err(Failure::new(ErrorCode::WireInvalidField, message));
        }
        self.next.workers.entry(name.clone()).or_default().insert(version.clone(), workers);
        Ok(())
    }

    fn set_default(&mut self, name: &ModelName, version: &Version) -> Result<Outcome, Failure> {
        let current = self.current(name)?;
        let version = self.version_of(name, version)?;
        let arms = current.split.iter().filter(|weight| weight.weight > 0);
        let arms: BTreeSet<&Version> = arms.map(|weight| &weight.version).collect();
        if arms.len() > 1 {
            let message =
                format!("a rollout divides the requests of `{name}` between its versions");
            return Err(Failure::new(ErrorCode::ManageInUse, message));
        }
        self.next.defaults.insert(name.clone(), version.clone());
        Ok(Outcome::DefaultSet { model: name.clone(), version })
    }

    fn unregister(
        &mut self,
        name: &ModelName,
        version: Option<&Version>,
    ) -> Result<Outcome, Failure> {
        let current = self.current(name)?;
        let version = match version {
            Some(version) => self.version_of(name, version)?,
            None => default_of(&current).ok_or_else(|| no_version(name))?,
        };
        let others = current.versions.iter().any(|there| there.version != version);
        if others && current.split.iter().any(|w| w.weight > 0 && w.version == version) {
            return Err(self.is_default(name, "remove", &[version]));
        }
        if others {
            self.next.unloaded_versions.entry(name.clone()).or_default().insert(version);
        } else {
            self.next.forget(name);
            self.next.registered.retain(|model| model.name != *name);
            if of(self.held, name).is_some() {
                self.next.unloaded.insert(name.clone());
            }
        }
        Ok(Outcome::Unregistered { model: name.clone() })
    }

    /// A version of a model that is not unloaded, by its label or an alias.
    fn version_of(&self, name: &ModelName, said: &Version) -> Result<Version, Failure> {
        let current = self.current(name)?;
        let label = current.aliases.get(said).unwrap_or(said);
        let model = self.known(name)?;
        let gone = self.next.unloaded_versions.get(name);
        let there = model.versions.iter().map(|version| &version.version);
        let stays = there.filter(|version| gone.is_none_or(|gone| !gone.contains(*version)));
        let called = |label: &str| stays.clone().find(|version| version.as_str() == label);
        let found = called(label.as_str()).or_else(|| called(label.number()?));
        found.cloned().ok_or_else(|| {
            let known: Vec<&str> = stays.map(Version::as_str).collect();
            Failure::new(
                ErrorCode::RequestUnknownVersion,
                format!("`{name}` has no version `{said}`; its versions are {}", known.join(", ")),
            )
        })
    }

    #[cold]
    fn is_default(&self, name: &ModelName, what: &str, versions: &[Version]) -> Failure {
        let labels: Vec<&str> = versions.iter().map(Version::as_str).collect();
        let message = format!(
            "Cannot {what} default version for model {name}: {} answers what names none, and there are \
             other versions",
            labels.join(", ")
        );
        Failure::new(ErrorCode::ManageIsDefault, message)
    }

    /// Puts a model on the list of registered ones.
    pub(super) fn keep(&mut self, model: ServedModel) {
        self.next.registered.retain(|there| there.name != model.name);
        self.next.registered.push(model);
    }

    /// A model of the store with the versions that were laid beside its others since; none where there
    /// are none.
    pub(super) fn refreshed(&self, model: &ServedModel) -> Option<ServedModel> {
        let repository = self.held.repository.as_ref()?;
        let found = ModelStore(repository).find(model.name.as_str()).ok()?;
        let now = served(&model.name, &found, repository);
        let is_there = |old: &ServedVersion| {
            now.versions.iter().any(|new| same_file(&old.source, &new.source))
        };
        let newest = newest(model.versions.iter().map(|version| &version.version));
        let newest = newest.and_then(number)?;
        let new: Vec<ServedVersion> = now
            .versions
            .iter()
            .filter(|version| number(&version.version).is_some_and(|number| number > newest))
            .cloned()
            .collect();
        if new.is_empty() || !model.versions.iter().any(is_there) {
            return None;
        }
        // As its others are run, where it has any.
        let backend = model.versions.last().and_then(|version| version.backend.clone());
        let new = new.into_iter().map(|version| ServedVersion {
            backend: backend.clone().or(version.backend),
            ..version
        });
        let versions = model.versions.iter().cloned().chain(new).collect();
        Some(ServedModel { versions, split: now.split, ..model.clone() })
    }
}

/// A model of the store as it is served.
pub(super) fn served(name: &ModelName, found: &Found, repository: &Repository) -> ServedModel {
    let versions: Vec<ServedVersion> = found
        .versions
        .iter()
        .map(|(version, file)| ServedVersion {
            version: version.clone(),
            source: Source::File(file.clone()),
            backend: Some(repository.backend.clone()),
            golden: GoldenMode::Off,
        })
        .collect();
    let default = newest(versions.iter().map(|version| &version.version)).cloned();
    let arm = Arm::parse("main").ok();
    let split = default.zip(arm).map(|(version, arm)| Weight { version, arm, weight: 1 });
    ServedModel {
        name: name.clone(),
        versions,
        aliases: std::collections::BTreeMap::new(),
        split: split.into_iter().collect(),
        batching: repository.batching.clone(),
        limits: repository.limits.clone(),
        labels: Vec::new(),
        shadow: None,
        capture: None,
        cache: None,
    }
}

/// Where most of a model's requests go that name no version.
pub(super) fn default_of(model: &ServedModel) -> Option<Version> {
    model.split.iter().max_by_key(|weight| weight.weight).map(|weight| weight.version.clone())
}

/// Instances of a version.
fn instances(model: &ServedModel, version: Option<&Version>) -> u64 {
    let found = model.versions.iter().find(|there| Some(&there.version) == version);
    found.and_then(|there| there.backend.as_ref()).map_or(0, |backend| backend.instances)
}

fn same_files(first: &ServedModel, second: &ServedModel) -> bool {
    first.versions.len() == second.versions.len()
        && first
            .versions
            .iter()
            .all(|a| second.versions.iter().any(|b| same_file(&a.source, &b.source)))
}

fn same_file(first: &Source, second: &Source) -> bool {
    match (first, second) {
        (Source::File(first), Source::File(second)) => is_same_file(first, second),
        _ => false,
    }
}

#[cold]
fn no_version(name: &ModelName) -> Failure {
    Failure::new(ErrorCode::RequestUnknownVersion, format!("`{name}` has no version"))
}

#[cfg(test)]
#[path = "decide_test.rs"]
mod tests;
