//! A whole list of what is to be served, as TensorFlow Serving's clients send it: what is not on it goes.

use std::collections::BTreeSet;

use dukou_types::{ErrorCode, Failure, ModelName, Version};
use dukou_wire::{Outcome, Wanted, Wanting};

use super::{
    apply::number,
    decide::{Draft, served},
    store::ModelStore,
};
use crate::table::{ServedModel, Source};

/// Has this list served and nothing else.
///
/// # Errors
/// `wire.invalid-field` for a model that is listed twice or labels that are none; `request.unknown-model`
/// and `request.unknown-version`; `manage.not-in-store` for a folder that is not the model's.
pub(super) fn reload(draft: &mut Draft<'_>, wanted: &[Wanted]) -> Result<Outcome, Failure> {
    let mut listed = BTreeSet::new();
    for one in wanted {
        if !listed.insert(&one.model) {
            let message = format!("the list has `{}` twice", one.model);
            return Err(Failure::new(ErrorCode::WireInvalidField, message));
        }
        draft.load(&one.model)?;
        draft.next.defaults.remove(&one.model);
        let model = draft.known(&one.model)?;
        let model = placed(draft, one, model)?;
        let all: BTreeSet<Version> = model.versions.iter().map(|v| v.version.clone()).collect();
        let stays = chosen(one, &all)?;
        let gone: BTreeSet<Version> = all.difference(&stays).cloned().collect();
        if !gone.is_empty() {
            draft.next.unloaded_versions.insert(one.model.clone(), gone);
        }
        label(draft, one, &stays)?;
    }
    let rest: Vec<ModelName> = draft
        .next
        .known(draft.held)
        .map(|model| model.name.clone())
        .filter(|name| !listed.contains(name))
        .collect();
    for name in rest {
        draft.unload(&name)?;
    }
    Ok(Outcome::Reloaded)
}

/// The model in the folder that the list names; where it names none, as it is known.
fn placed(draft: &mut Draft<'_>, one: &Wanted, model: ServedModel) -> Result<ServedModel, Failure> {
    let Some(location) = one.location.as_deref().filter(|said| !said.is_empty()) else {
        return Ok(model);
    };
    let said = location.trim_end_matches('/');
    let lies_there = |version: &crate::table::ServedVersion| match &version.source {
        Source::File(file) => {
            file.starts_with(said) || file.parent().is_some_and(|folder| folder.ends_with(said))
        }
        _ => false,
    };
    if model.versions.iter().any(lies_there) {
        return Ok(model);
    }
    // Another folder of the store: the name stands for that from now on.
    let Some(repository) = &draft.held.repository else {
        let message = format!(
            "`{}` does not lie in `{location}`, and the server has no model store",
            one.model
        );
        return Err(Failure::new(ErrorCode::ManageNoStore, message));
    };
    let absolute = if said.starts_with('/') { format!("file://{said}") } else { said.to_owned() };
    let found = ModelStore(repository).find(&absolute)?;
    let model = served(&one.model, &found, repository);
    draft.keep(model.clone());
    Ok(model)
}

/// The versions that are to be served.
fn chosen(one: &Wanted, all: &BTreeSet<Version>) -> Result<BTreeSet<Version>, Failure> {
    match &one.versions {
        Wanting::All => Ok(all.clone()),
        Wanting::Latest(count) => {
            let mut by_number: Vec<&Version> = all.iter().collect();
            by_number.sort_by_key(|version| (number(version), version.as_str()));
            Ok(by_number.into_iter().rev().take((*count).max(1)).cloned().collect())
        }
        Wanting::Only(only) => {
            if let Some(missing) = only.iter().find(|version| !all.contains(*version)) {
                let message = format!("`{}` has no version `{missing}`", one.model);
                return Err(Failure::new(ErrorCode::RequestUnknownVersion, message));
            }
            Ok(only.iter().cloned().collect())
        }
    }
}

fn label(draft: &mut Draft<'_>, one: &Wanted, stays: &BTreeSet<Version>) -> Result<(), Failure> {
    let labels = &mut draft.next.labels;
    labels.remove(&one.model);
    for (alias, version) in &one.labels {
        if !stays.contains(version) || stays.contains(alias) {
            let message = format!(
                "label `{alias}` of `{}` is for version `{version}`: it must be a word of its own, for a \
                 version that is served",
                one.model
            );
            return Err(Failure::new(ErrorCode::WireInvalidField, message));
        }
        labels.entry(one.model.clone()).or_default().insert(alias.clone(), version.clone());
    }
    Ok(())
}
