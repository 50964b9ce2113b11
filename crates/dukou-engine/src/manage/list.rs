//! What there is: every model with its state, served or not.

use dukou_types::{Failure, ModelName, RequestId, Version};
use dukou_wire::{Selector, torchserve::WorkersOf};

use super::{
    apply::{Absent, Why},
    store::ModelStore,
};
use crate::{
    access::Caller,
    access_line::push_time,
    admit,
    route::route,
    serving::{Loaded, Serving},
    table::{ServedModel, ServedVersion, Source},
};

/// A model and one version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The model.
    pub model: ModelName,
    /// The version; none for what lies in a model store and has never been loaded.
    pub version: Option<Version>,
    /// Whether it answers; none for what has never been loaded.
    pub ready: Option<bool>,
    /// Why it does not.
    pub reason: Option<String>,
}

/// Every version of every model that the caller may hear of; with `only_ready` those that answer. Looks
/// into the model store's folders, so it is not for a thread that answers.
pub fn entries(serving: &Serving, caller: &Caller, only_ready: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    let known = serving.changes.known(&serving.held).filter(|model| caller.knows(&model.name));
    for model in known {
        let why = serving.absent.get(&model.name).map(|absent| absent.why.reason());
        let served = serving.model(model.name.as_str());
        for version in &model.versions {
            let label = version.version.as_str();
            let ready = served
                .and_then(|served| served.labelled(label))
                .is_some_and(|lane| lane.version.version == version.version);
            let unloaded = || Some("unloaded".to_owned());
            entries.push(Entry {
                model: model.name.clone(),
                version: Some(version.version.clone()),
                ready: Some(ready),
                reason: if ready { None } else { why.clone().or_else(unloaded) },
            });
        }
    }
    if only_ready {
        entries.retain(|entry| entry.ready == Some(true));
    } else if let Some(repository) = &serving.held.repository {
        for (model, _) in ModelStore(repository).models() {
            if !entries.iter().any(|entry| entry.model == model) && caller.knows(&model) {
                entries.push(Entry { model, version: None, ready: None, reason: None });
            }
        }
    }
    entries
}

/// The models from `after` on that the caller may hear of, `limit` at most, each with where it comes from;
/// and where the next page begins. As TorchServe has it, a page that is full says that more may follow.
pub fn page(
    serving: &Serving,
    caller: &Caller,
    (limit, after): (usize, usize),
) -> (Vec<(ModelName, String)>, Option<usize>) {
    let unloaded = |name: &ModelName| {
        serving.absent.get(name).is_some_and(|absent| absent.why == Why::Unloaded)
    };
    let models: Vec<_> = serving
        .changes
        .known(&serving.held)
        .filter(|model| caller.knows(&model.name) && !unloaded(&model.name))
        .skip(after)
        .take(limit)
        .map(|model| (model.name.clone(), model.versions.first().map(url).unwrap_or_default()))
        .collect();
    let next = (models.len() == limit).then_some(after + limit);
    (models, next)
}

/// How a model's versions are run: the selected one, or all of them.
///
/// # Errors
/// `request.unknown-model`, `request.unknown-version`.
pub fn workers<'s>(
    serving: &'s Serving,
    name: &ModelName,
    selector: Option<&Selector>,
) -> Result<Vec<WorkersOf<'s>>, Failure> {
    let sleeping = serving.absent.get(name).filter(|absent| absent.why == Why::NoWorkers);
    if let Some(Absent { model, .. }) = sleeping {
        let named = |version: &&ServedVersion| match selector {
            Some(Selector::Version(label)) => version.version == *label,
            _ => true,
        };
        return Ok(model.versions.iter().filter(named).map(|v| asleep(model, v)).collect());
    }
    let model = admit::find(serving, name)?;
    let lanes: Vec<_> = match selector {
        None => model.versions.iter().collect(),
        Some(Selector::Default) => vec![model.draw(0)],
        Some(named) => vec![route(model, named, RequestId(0))?],
    };
    let served = serving.document.models.iter().filter(|served| served.name == *name);
    let versions = served.flat_map(|served| served.versions.iter().map(move |v| (served, v)));
    let running = versions.filter_map(|(served, version)| {
        let lane = lanes.iter().find(|lane| lane.version.version == version.version)?;
        Some(running(served, version, &lane.version))
    });
    Ok(running.collect())
}

fn running<'s>(
    model: &'s ServedModel,
    version: &'s ServedVersion,
    loaded: &Loaded,
) -> WorkersOf<'s> {
    let mut since = Vec::with_capacity(24);
    push_time(&mut since, loaded.since);
    WorkersOf {
        workers: version.backend.as_ref().map_or(1, |backend| backend.instances),
        since: Some(String::from_utf8_lossy(&since).into_owned()),
        on_a_device: loaded.facts.providers.first().is_some_and(|first| first != dukou_ort::CPU),
        queued: loaded.way.queued() as u64,
        ..asleep(model, version)
    }
}

/// A version without workers.
fn asleep<'s>(model: &'s ServedModel, version: &'s ServedVersion) -> WorkersOf<'s> {
    WorkersOf {
        model: model.name.as_str(),
        version: version.version.as_str(),
        url: url(version),
        workers: 0,
        batch_rows: model.batching.max_rows,
        batch_delay_ms: model.batching.delay_us / 1000,
        response_timeout_s: model.limits.deadline_ms.div_ceil(1000),
        since: None,
        on_a_device: false,
        pid: std::process::id(),
        queue: model.limits.queue,
        queued: 0,
    }
}

/// Where a version comes from, without telling where that lies on this machine.
fn url(version: &ServedVersion) -> String {
    match &version.source {
        Source::File(file) => {
            file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        }
        Source::Artifact { digest, .. } => digest.to_string(),
        Source::Remote(_) => "remote".to_owned(),
        Source::Graph(_) => "graph".to_owned(),
    }
}
