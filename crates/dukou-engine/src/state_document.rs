//! What the local API answers about the engine: `GET /state` and `GET /models`.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use dukou_remote::ReplicaState;
use dukou_types::{ErrorCode, ModelName};
use serde_json::{Map, Value, json};

use crate::{
    cache::Found,
    counters::{BOUNDS_US, TimeTotals, Totals},
    engine::Engine,
    manage::Absent,
    serving::{Loaded, Model, Serving},
    state::{ArmKey, resident_bytes},
    swap::Swap,
};

/// The exact counters, as `spec/state.md` says.
pub fn state(swap: &Swap) -> Value {
    let engine: &Engine = swap.engine();
    let state = &engine.state;
    state.freeze();
    let serving = engine.serving.load_full();
    let document = serving.as_ref().map(|serving| &serving.document);
    let mut refused = Map::new();
    for (_, code, count) in state.refusals() {
        let sum = refused.get(code.as_str()).and_then(Value::as_u64).unwrap_or(0) + count;
        refused.insert(code.as_str().into(), sum.into());
    }
    json!({
        "format": 1,
        "epoch": state.epoch,
        "pid": std::process::id(),
        "uptime_ms": u64::try_from(state.uptime().as_millis()).unwrap_or(u64::MAX),
        "revision": document.map(|document| document.revision.as_str()),
        "sequence": document.map(|document| document.sequence),
        "gauges": {
            "connections": state.gauges.connections.load(Relaxed),
            "in_flight": state.gauges.in_flight.load(Relaxed),
            "queued": serving.as_deref().map_or(0, queued),
            "rss_bytes": resident_bytes(),
        },
        "bounds_us": BOUNDS_US,
        "arms": state.arms().iter().map(|(key, totals)| arm(key, totals)).collect::<Vec<_>>(),
        "caches": serving.as_deref().map(caches).unwrap_or_default(),
        "replicas": serving.as_deref().map_or_else(Vec::new, replicas),
        "runs_on": serving.as_deref().map(runs_on).unwrap_or_default(),
        "provider_fallbacks": state
            .fallbacks()
            .iter()
            .map(|((model, version, provider), count)| {
                json!({ "model": model, "version": version, "provider": provider, "count": count })
            })
            .collect::<Vec<_>>(),
        "refused": refused,
        "access_log_dropped": engine.access_log.dropped(),
        "table_unsaved": swap.unsaved(),
        "not_served": serving.as_deref().map(not_served).unwrap_or_default(),
        "tap": engine.tap.counts(),
    })
}

/// Requests that wait, over all versions.
fn queued(serving: &Serving) -> usize {
    serving.versions().map(|loaded| loaded.way.queued()).sum()
}

/// The replicas of remote models, as they are now.
fn replicas(serving: &Serving) -> Vec<Value> {
    let of = |loaded: &std::sync::Arc<Loaded>| -> Vec<Value> {
        let Some(remote) = loaded.way.remote() else { return Vec::new() };
        let row = |state: ReplicaState| {
            json!({
                "model": loaded.model,
                "version": loaded.version,
                "replica": state.replica,
                "healthy": state.healthy,
                "why": state.why,
                "revision": state.revision.as_deref(),
                "outstanding": state.outstanding,
                "latency_us": state.latency.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
                "requests": state.requests,
                "failures": state.failures,
                "retries": state.retries,
            })
        };
        remote.states().into_iter().map(row).collect()
    };
    serving.versions().flat_map(of).collect()
}

/// Models that are known and not served, because a client asked for that.
fn not_served(serving: &Serving) -> Vec<Value> {
    let row = |(name, absent): (&ModelName, &Absent)| json!({ "model": name, "why": absent.why.reason() });
    serving.absent.iter().map(row).collect()
}

/// What the versions run on.
fn runs_on(serving: &Serving) -> Vec<Value> {
    let version = |loaded: &Arc<Loaded>| {
        json!({
            "model": loaded.model,
            "version": loaded.version,
            "providers": loaded.facts.providers,
            "passed_over": loaded.facts.passed_over,
        })
    };
    serving.versions().filter(|loaded| !loaded.facts.providers.is_empty()).map(version).collect()
}

/// What the models' caches hold.
fn caches(serving: &Serving) -> Vec<Value> {
    let cache = |model: &Model| {
        let kept = model.cache.as_ref()?.kept();
        Some(json!({
            "model": model.name,
            "entries": kept.entries,
            "bytes": kept.bytes,
            "max_bytes": kept.max_bytes,
            "evicted": kept.evicted,
            "expired": kept.expired,
        }))
    };
    serving.models.iter().filter_map(|model| cache(model)).collect()
}

fn arm(key: &ArmKey, totals: &Totals) -> Value {
    let mut codes = Map::new();
    for (_, code, count) in totals.by_result() {
        let name = code.map_or("ok", ErrorCode::as_str);
        let sum = codes.get(name).and_then(Value::as_u64).unwrap_or(0) + count;
        codes.insert(name.into(), sum.into());
    }
    let batch_rows: Map<String, Value> = totals
        .batch_rows
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(power, &count)| ((1_u64 << power).to_string(), count.into()))
        .collect();
    let agreement = (key.arm.as_str() == "shadow").then(|| {
        json!({
            "compared": totals.agreement.compared,
            "differ": totals.agreement.differ,
            "dropped": totals.agreement.dropped,
        })
    });
    let cache = (totals.found != [0; Found::ALL.len()]).then(|| {
        let count = |found: Found| totals.found[found as usize];
        json!({
            "hit": count(Found::Hit),
            "wait": count(Found::Wait),
            "miss": count(Found::Miss),
            "rows_not_run": totals.rows_not_run,
        })
    });
    json!({
        "model": key.model,
        "version": key.version,
        "digest": key.digest,
        "arm": key.arm,
        "revision": key.revision,
        "requests": totals.requests(),
        "rows": totals.rows,
        "batches": totals.batches(),
        "codes": codes,
        "request_us": times(&totals.request),
        "queue_us": times(&totals.queue),
        "compute_us": times(&totals.compute),
        "batch_rows": batch_rows,
        "agreement": agreement,
        "cache": cache,
    })
}

fn times(totals: &TimeTotals) -> Value {
    json!({ "sum": totals.sum_ns / 1000, "counts": totals.counts })
}

/// The served models with their signatures and how they are run.
pub fn models(serving: Option<&Serving>) -> Value {
    let models: Vec<Value> = serving
        .map(|serving| serving.models.iter().zip(&serving.document.models))
        .into_iter()
        .flatten()
        .map(|(model, served)| {
            json!({
                "name": model.name,
                "versions": versions(model),
                "aliases": served.aliases,
                "split": served.split,
                "labels": served.labels,
            })
        })
        .collect();
    json!({ "models": models })
}

fn versions(model: &Model) -> Vec<Value> {
    let version = |lane: &std::sync::Arc<crate::serving::Lane>| {
        let loaded = &lane.version;
        let facts = &loaded.facts;
        let golden = loaded.golden.lock();
        json!({
            "version": loaded.version,
            "digest": loaded.digest,
            "signature": *loaded.signature,
            "batchable": facts.batchable,
            "inline": facts.inline,
            "run_us": facts.run.map(|run| u64::try_from(run.as_micros()).unwrap_or(u64::MAX)),
            "residency": facts.residency,
            "providers": facts.providers,
            "passed_over": facts.passed_over,
            "golden": golden.as_str(),
            "load_ms": u64::try_from(facts.load.as_millis()).unwrap_or(u64::MAX),
        })
    };
    model.versions.iter().map(version).collect()
}
