//! What Triton's extensions tell of a model, out of the table and the counters: no dialect's words, but the
//! facts that each puts into its own.

use dukou_wire::v2::{Configuration, Spent, Statistics};

use crate::{
    cache::Found,
    counters::Totals,
    engine::Engine,
    load::size,
    serving::{Lane, Model, Serving},
};

/// How a model is configured, as `encode` says it.
pub fn configuration<T>(
    serving: &Serving,
    model: &Model,
    lane: &Lane,
    encode: impl FnOnce(&Configuration<'_>) -> T,
) -> T {
    let version = &lane.version;
    let served = serving.document.models.iter().find(|served| served.name == model.name);
    let batching = served.map(|served| &served.batching);
    let backend = served.and_then(|served| {
        let named = served.versions.iter().find(|served| served.version == version.version);
        named.and_then(|served| served.backend.as_ref())
    });
    let versions: Vec<&str> =
        model.versions.iter().map(|lane| lane.version.version.as_str()).collect();
    let max_batch = batching.map_or(0, |batching| size(batching.max_rows));
    encode(&Configuration {
        name: model.name.as_str(),
        platform: version.way.platform(),
        versions: &versions,
        max_batch: if version.facts.batchable { max_batch } else { 0 },
        delay_us: batching.map_or(0, |batching| batching.delay_us),
        instances: backend.map_or(1, |backend| backend.instances),
        on_gpu: version.facts.providers.first().is_some_and(|provider| *provider != dukou_ort::CPU),
        caches: model.cache.is_some(),
        signature: &version.signature,
    })
}

/// What the versions of these models have done since the process began, by model and version. `wanted` says
/// of which.
pub fn statistics(
    engine: &Engine,
    serving: &Serving,
    wanted: impl Fn(&Model, &Lane) -> bool,
) -> Vec<Statistics> {
    // Nobody asked a shadow.
    let (mut sums, _shadows) = engine.state.by_version();
    let lanes = serving
        .models
        .iter()
        .flat_map(|model| model.versions.iter().map(move |lane| (&**model, &**lane)));
    lanes
        .filter(|(model, lane)| wanted(model, lane))
        .map(|(model, lane)| {
            let name = model.name.as_str().to_owned();
            let version = lane.version.version.as_str().to_owned();
            let key = (name, version);
            let totals = sums.remove(&key).unwrap_or_default();
            of_totals(key, &totals)
        })
        .collect()
}

fn of_totals((name, version): (String, String), totals: &Totals) -> Statistics {
    let well: u64 =
        totals.by_result().filter(|(_, code, _)| code.is_none()).map(|(.., count)| count).sum();
    let found = |found: Found| totals.found[found as usize];
    let once = |count| Spent { count, ns: 0 };
    Statistics {
        name,
        version,
        inferences: totals.rows.saturating_sub(totals.rows_not_run),
        executions: totals.batches(),
        success: Spent { count: well, ns: totals.request.sum_ns },
        fail: once(totals.requests() - well),
        queue: Spent { count: totals.queue.counts.iter().sum(), ns: totals.queue.sum_ns },
        compute: Spent { count: totals.batches(), ns: totals.compute.sum_ns },
        cache_hit: once(found(Found::Hit) + found(Found::Wait)),
        cache_miss: once(found(Found::Miss)),
        last_ms: totals.last_ms,
        by_rows: totals
            .batch_sizes
            .iter()
            .map(|(&rows, runs)| (rows as u64, Spent { count: runs.count, ns: runs.ns }))
            .collect(),
    }
}
