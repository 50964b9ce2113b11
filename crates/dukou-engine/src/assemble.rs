//! Graphs are made last: of the versions that are ready, each after those that it is made of.

use std::{sync::Arc, time::Instant};

use dukou_types::{ErrorCode, Failure, ModelName, Signature, Version};

use crate::{
    graph::{Graph, compile},
    load::{NotLoaded, elsewhere},
    plan::Plan,
    serving::{Loaded, Serving},
    swap::Ready,
    table::{GraphSource, ServedModel, ServedVersion},
    way::Way,
};

/// Makes the graphs of a table. One that is what it was before is kept.
///
/// # Errors
/// What does not fit, as its version's.
pub fn assemble(
    plan: &Plan<'_>,
    before: Option<&Serving>,
    versions: &mut Ready,
) -> Result<(), NotLoaded> {
    let mut left: Vec<_> = plan.graphs.iter().collect();
    while !left.is_empty() {
        let count = left.len();
        let mut later = Vec::new();
        for graph in left {
            let (model, version, source) = graph;
            if !uses(source).all(|name| is_ready(plan, versions, name)) {
                later.push(graph);
                continue;
            }
            let loaded = make(plan, before, versions, (model, version, source))?;
            versions.insert((model.name.clone(), version.version.clone()), loaded);
        }
        left = later;
        if left.len() == count {
            // A table that was checked has no circles.
            let (model, version, _) = left[0];
            let failure = Failure::new(ErrorCode::GraphInvalid, "it is made of itself");
            return Err(not_made(model, version, failure));
        }
    }
    Ok(())
}

/// Whether a graph of this table is not the one of the table before.
pub fn is_new(
    before: Option<&Serving>,
    versions: &Ready,
    model: &ServedModel,
    version: &ServedVersion,
) -> bool {
    let now = versions.get(&(model.name.clone(), version.version.clone()));
    match (now, before.and_then(|before| kept(before, model, version))) {
        (Some(now), Some(old)) => !Arc::ptr_eq(now, old),
        _ => true,
    }
}

fn make(
    plan: &Plan<'_>,
    before: Option<&Serving>,
    versions: &Ready,
    (model, version, source): (&ServedModel, &ServedVersion, &GraphSource),
) -> Result<Arc<Loaded>, NotLoaded> {
    let started = Instant::now();
    let signatures =
        |name: &ModelName, label: Option<&Version>| signatures(plan, versions, name, label);
    let graph =
        compile(source, &signatures).map_err(|failure| not_made(model, version, failure))?;
    let old = before.and_then(|before| kept(before, model, version));
    if let Some(old) = old
        && matches!(&old.way, Way::Graph(same) if **same == graph)
    {
        return Ok(Arc::clone(old));
    }
    let signature = Arc::new(graph.signature.clone());
    let way: Way = Way::Graph(Arc::<Graph>::new(graph));
    Ok(Arc::new(elsewhere(model, version, signature, way, started)))
}

fn kept<'s>(
    before: &'s Serving,
    model: &ServedModel,
    version: &ServedVersion,
) -> Option<&'s Arc<Loaded>> {
    let old = before.model(model.name.as_str())?;
    let lane = old.versions.iter().find(|lane| lane.version.version == version.version)?;
    Some(&lane.version)
}

/// The models that a graph asks.
fn uses(source: &GraphSource) -> impl Iterator<Item = &ModelName> {
    source.nodes.iter().flat_map(|node| node.models())
}

/// The model of the table with this name, whatever it is made of.
fn served<'a>(plan: &Plan<'a>, name: &ModelName) -> Option<&'a ServedModel> {
    let added = plan.added.iter().map(|(model, _)| *model);
    let kept = plan.kept.iter().map(|(model, ..)| *model);
    let graphs = plan.graphs.iter().map(|(model, ..)| *model);
    added.chain(kept).chain(graphs).find(|model| model.name == *name)
}

fn is_ready(plan: &Plan<'_>, versions: &Ready, name: &ModelName) -> bool {
    served(plan, name).is_some_and(|model| {
        let ready = |v: &ServedVersion| versions.contains_key(&(name.clone(), v.version.clone()));
        model.versions.iter().all(ready)
    })
}

/// The signatures of the versions that may answer: one by its label, or those of the split.
fn signatures(
    plan: &Plan<'_>,
    versions: &Ready,
    name: &ModelName,
    label: Option<&Version>,
) -> Vec<Arc<Signature>> {
    let Some(model) = served(plan, name) else { return Vec::new() };
    let signature = |version: &Version| {
        Some(Arc::clone(&versions.get(&(name.clone(), version.clone()))?.signature))
    };
    match label {
        Some(label) => {
            let version = model.aliases.get(label).unwrap_or(label);
            signature(version).into_iter().collect()
        }
        None => {
            let arms = model.split.iter().filter(|arm| arm.weight > 0);
            arms.filter_map(|arm| signature(&arm.version)).collect()
        }
    }
}

fn not_made(model: &ServedModel, version: &ServedVersion, failure: Failure) -> NotLoaded {
    NotLoaded { model: model.name.clone(), version: version.version.clone(), failure }
}
