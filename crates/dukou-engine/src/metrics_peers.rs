//! The same counters under the names that other servers give them, for dashboards and alerts made for those.
//!
//! Names, types, labels and units are theirs; what they count that we do not know is left out, never zero.

use std::fs;

use dukou_types::ErrorCode;

use crate::{
    cache::Found,
    counters::{BOUNDS_US, Totals},
    metrics::{Buckets, Page},
    serving::Serving,
    state::ByVersion,
    table::Dialect,
};

/// Whose names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// TensorFlow Serving's.
    TensorFlow,
    /// TorchServe's.
    TorchServe,
    /// Triton's.
    Triton,
}

impl Names {
    /// Whose names somebody expects who asks a listener at `/metrics`: those of the server that it stands in
    /// for, on the listener that is that server's for metrics. None anywhere else.
    pub fn expected(listener: &str, dialects: &[Dialect]) -> Option<Self> {
        if listener != "metrics" {
            return None;
        }
        match dialects.first()?.as_str() {
            "v2" => Some(Self::Triton),
            "tensorflow" => Some(Self::TensorFlow),
            "torchserve" => Some(Self::TorchServe),
            _ => None,
        }
    }
}

/// Appends what they would say of these counters.
pub(crate) fn append(
    page: &mut Page,
    names: Names,
    by_version: &ByVersion,
    refused: &[(Dialect, ErrorCode, u64)],
    serving: Option<&Serving>,
) {
    match names {
        Names::TensorFlow => tensorflow(page, by_version, refused),
        Names::TorchServe => torchserve(page, by_version),
        Names::Triton => triton(page, by_version, serving),
    }
}

/// The canonical name of a result, as gRPC's libraries print it.
fn canonical(error: Option<ErrorCode>) -> &'static str {
    match error.map_or(200, ErrorCode::http_status) {
        200 => "OK",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

fn tensorflow(page: &mut Page, by_version: &ByVersion, refused: &[(Dialect, ErrorCode, u64)]) {
    const COUNT: &str = ":tensorflow:serving:request_count";
    page.kind(COUNT, "counter");
    let mut counts = std::collections::BTreeMap::new();
    for ((model, _), totals) in by_version {
        for (_, error, count) in totals.by_result() {
            *counts.entry((model.as_str(), canonical(error))).or_insert(0) += count;
        }
    }
    for &(_, code, count) in refused {
        *counts.entry(("", canonical(Some(code)))).or_insert(0) += count;
    }
    for ((model, status), count) in counts {
        page.sample(COUNT, &[("model_name", model), ("status", status)], count);
    }
    let mut by_model = std::collections::BTreeMap::<&str, Totals>::new();
    for ((model, _), totals) in by_version {
        by_model.entry(model).or_default().merge(totals);
    }
    for (name, runs) in [
        (":tensorflow:serving:request_latency", false),
        (":tensorflow:serving:runtime_latency", true),
    ] {
        page.kind(name, "histogram");
        for (model, totals) in &by_model {
            let times = if runs { &totals.compute } else { &totals.request };
            let last = if runs { ("runtime", "ONNX Runtime") } else { ("entrypoint", "ALL") };
            let buckets = Buckets { counts: &times.counts, sum: times.sum_ns as f64 / 1e3 };
            let labels = [("model_name", *model), ("API", "predict"), last];
            page.buckets(name, &labels, BOUNDS_US.iter().map(|&bound| bound as f64), &buckets);
        }
    }
    const EXAMPLES: &str = ":tensorflow:serving:request_example_count_total";
    page.kind(EXAMPLES, "counter");
    for (model, totals) in &by_model {
        page.sample(EXAMPLES, &[("model", model)], totals.rows);
    }
}

fn torchserve(page: &mut Page, by_version: &ByVersion) {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    for (name, first) in [("Requests2XX", 2), ("Requests4XX", 4), ("Requests5XX", 5)] {
        page.family(name, "counter", "Torchserve prometheus counter metric with unit: Count");
        let results = by_version.values().flat_map(Totals::by_result);
        let of_these = results
            .filter(|(_, error, _)| error.map_or(200, ErrorCode::http_status) / 100 == first);
        let count: u64 = of_these.map(|(_, _, count)| count).sum();
        page.sample(name, &[("Level", "Host"), ("Hostname", host)], count);
    }
    let families: [(&str, &str, fn(&Totals) -> u64); 3] = [
        ("ts_inference_requests_total", "Count", Totals::requests),
        ("ts_inference_latency_microseconds", "Microseconds", |t| t.request.sum_ns / 1000),
        ("ts_queue_latency_microseconds", "Microseconds", |t| t.queue.sum_ns / 1000),
    ];
    for (name, unit, value) in families {
        let help = format!("Torchserve prometheus counter metric with unit: {unit}");
        page.family(name, "counter", &help);
        for ((model, version), totals) in by_version {
            let labels =
                [("model_name", &**model), ("model_version", &**version), ("hostname", host)];
            page.sample(name, &labels, value(totals));
        }
    }
}

/// Why a request failed, in Triton's words.
fn reason(code: ErrorCode) -> &'static str {
    match code.http_status() {
        429 | 503 => "REJECTED",
        499 => "CANCELED",
        500 | 502 => "BACKEND",
        _ => "OTHER",
    }
}

fn triton(page: &mut Page, by_version: &ByVersion, serving: Option<&Serving>) {
    let counter = "counter";
    let succeeded = |totals: &Totals| -> u64 {
        totals.by_result().filter(|(_, error, _)| error.is_none()).map(|(.., count)| count).sum()
    };
    const FAILURE: &str = "nv_inference_request_failure";
    page.family(FAILURE, counter, "Requests that failed, by reason");
    for ((model, version), totals) in by_version {
        let mut reasons = [("REJECTED", 0), ("CANCELED", 0), ("BACKEND", 0), ("OTHER", 0)];
        for (_, error, count) in totals.by_result() {
            let Some(code) = error else { continue };
            for (name, sum) in &mut reasons {
                *sum += if reason(code) == *name { count } else { 0 };
            }
        }
        for (name, count) in reasons {
            let labels = [("model", &**model), ("version", &**version), ("reason", name)];
            page.sample(FAILURE, &labels, count);
        }
    }
    let families: [(&str, &str, &dyn Fn(&Totals) -> u64); 8] = [
        ("nv_inference_request_success", "Requests that were answered well", &succeeded),
        ("nv_inference_count", "Rows of the runs", &|t| t.batch_rows_sum),
        ("nv_inference_exec_count", "Runs of the model", &Totals::batches),
        ("nv_inference_request_duration_us", "From head to answer, summed", &|t| {
            t.request.sum_ns / 1000
        }),
        ("nv_inference_queue_duration_us", "In the queue, summed", &|t| t.queue.sum_ns / 1000),
        ("nv_inference_compute_infer_duration_us", "In the model, a run once, summed", &|t| {
            t.compute.sum_ns / 1000
        }),
        ("nv_cache_num_hits_per_model", "Answers that the cache had", &|t| {
            t.found[Found::Hit as usize] + t.found[Found::Wait as usize]
        }),
        ("nv_cache_num_misses_per_model", "Answers that it had not", &|t| {
            t.found[Found::Miss as usize]
        }),
    ];
    for (name, help, value) in families {
        page.family(name, counter, help);
        for ((model, version), totals) in by_version {
            let labels = [("model", &**model), ("version", &**version)];
            page.sample(name, &labels, value(totals));
        }
    }
    let Some(serving) = serving else { return };
    const PENDING: &str = "nv_inference_pending_request_count";
    page.family(PENDING, "gauge", "Requests that wait");
    for loaded in serving.versions() {
        let labels = [("model", loaded.model.as_str()), ("version", loaded.version.as_str())];
        page.sample(PENDING, &labels, loaded.way.queued());
    }
    const LOAD: &str = "nv_model_load_duration_secs";
    page.family(LOAD, "gauge", "How long the version took to load");
    for loaded in serving.versions() {
        let labels = [("model", loaded.model.as_str()), ("version", loaded.version.as_str())];
        page.sample(LOAD, &labels, loaded.facts.load.as_secs_f64());
    }
}
