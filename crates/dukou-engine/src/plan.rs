//! What a table keeps of the one before it, and what must be loaded for it.

use std::sync::Arc;

use dukou_types::{Failure, ModelName};

use crate::{
    load,
    origin::Origin,
    serving::{GoldenState, Loaded, Serving},
    table::{GoldenMode, GraphSource, ServedModel, ServedVersion, ServingTable, Source, Trust},
};

/// What a table keeps of the one before it, and what must be loaded for it.
pub struct Plan<'a> {
    /// Versions that stay, as they are loaded.
    pub kept: Vec<(&'a ServedModel, &'a ServedVersion, Arc<Loaded>)>,
    /// Versions to load.
    pub added: Vec<(&'a ServedModel, &'a ServedVersion)>,
    /// Graphs, which are made of the others once those are ready.
    pub graphs: Vec<(&'a ServedModel, &'a ServedVersion, &'a GraphSource)>,
}

impl<'a> Plan<'a> {
    /// Compares a table with the one being served. A file that has changed is another version where
    /// `looked_at` says so of its model.
    pub fn new(
        table: &'a ServingTable,
        before: Option<&Serving>,
        looked_at: &dyn Fn(&ModelName) -> bool,
    ) -> Self {
        let mut plan = Self { kept: Vec::new(), added: Vec::new(), graphs: Vec::new() };
        for model in &table.models {
            let old = before.and_then(|before| before.model(model.name.as_str()));
            for version in &model.versions {
                if let Source::Graph(graph) = &version.source {
                    plan.graphs.push((model, version, graph));
                    continue;
                }
                let same = old
                    .and_then(|old| old.labelled(version.version.as_str()))
                    .map(|lane| &lane.version)
                    .filter(|loaded| {
                        let now = Origin::of(version);
                        loaded.version == version.version
                            && if looked_at(&model.name) {
                                loaded.origin.is_still(&now)
                            } else {
                                loaded.origin.is_alike(&now)
                            }
                    });
                match same {
                    Some(loaded) => plan.kept.push((model, version, Arc::clone(loaded))),
                    None => plan.added.push((model, version)),
                }
            }
        }
        plan
    }
}

/// Holds a version that stays to what the new table asks of it beyond the old one.
pub fn recheck(
    version: &ServedVersion,
    kept: &Loaded,
    new_trust: Option<&Trust>,
) -> Result<(), Failure> {
    if let Some(trust) = new_trust {
        load::verify(version, trust)?;
    }
    let state = kept.golden.lock().clone();
    match (state, version.golden) {
        (GoldenState::Absent | GoldenState::Reproduced(_), _) | (_, GoldenMode::Off) => Ok(()),
        (_, mode) => load::replay_beside(kept, mode),
    }
}
