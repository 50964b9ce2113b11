//! Prometheus text: the same counters that decisions are made from, in the names of `docs/metrics.md`.
//!
//! Histograms have fixed buckets, so that those of many engines add up.

use std::{
    fmt::{Display, Write},
    sync::atomic::Ordering::Relaxed,
};

use dukou_remote::ReplicaState;
use dukou_types::{ErrorCode, copied_bytes};

use crate::{
    cache::{Found, Kept},
    counters::{BOUNDS_US, TimeTotals, Totals},
    engine::Engine,
    metrics_peers::{self, Names},
    serving::Serving,
    state::{ByVersion, Fallbacks, resident_bytes},
    table::Dialect,
};

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every metric as text: ours, what control told, and the same counters in another server's names where
/// they are asked for.
pub fn render(engine: &Engine, names: Option<Names>) -> String {
    let (answered, shadows) = engine.state.by_version();
    let mut page = own(engine, &answered, &shadows);
    for told in engine.gauges.load().iter() {
        page.gauge(&told.name, &told.help, told.value);
    }
    if let Some(names) = names {
        let refused = engine.state.refusals();
        let serving = engine.serving.load_full();
        metrics_peers::append(&mut page, names, &answered, &refused, serving.as_deref());
    }
    page.0
}

/// The metrics that the engine has itself.
pub fn render_own(engine: &Engine) -> String {
    let (answered, shadows) = engine.state.by_version();
    own(engine, &answered, &shadows).0
}

fn own(engine: &Engine, by_version: &ByVersion, shadows: &ByVersion) -> Page {
    let state = &engine.state;
    let serving = engine.serving.load_full();
    let mut page = Page(String::with_capacity(16 * 1024));
    requests(&mut page, by_version, &state.refusals());
    times(
        &mut page,
        "dukou_request_seconds",
        "From a request's head to its answer.",
        by_version,
        |t| &t.request,
    );
    times(
        &mut page,
        "dukou_queue_seconds",
        "From the queue's door to the run, a request each.",
        by_version,
        |t| &t.queue,
    );
    times(&mut page, "dukou_compute_seconds", "In the model, a batch each.", by_version, |t| {
        &t.compute
    });
    batch_rows(&mut page, by_version);
    shadow_rows(&mut page, shadows);
    found(&mut page, by_version);
    fallbacks(&mut page, &state.fallbacks());
    tap(&mut page, engine);
    copied(&mut page);

    page.gauge(
        "dukou_connections",
        "Connections that are open.",
        state.gauges.connections.load(Relaxed),
    );
    page.gauge(
        "dukou_in_flight",
        "Requests admitted and not yet answered.",
        state.gauges.in_flight.load(Relaxed),
    );
    page.family(
        "dukou_access_log_dropped_total",
        "counter",
        "Lines of the access log that were dropped.",
    );
    page.sample("dukou_access_log_dropped_total", &[], engine.access_log.dropped());
    security(&mut page, engine);
    page.gauge("process_resident_memory_bytes", "Resident memory of the engine.", resident_bytes());
    page.gauge(
        "dukou_uptime_seconds",
        "How long the engine has run.",
        state.uptime().as_secs_f64(),
    );
    page.family("dukou_build_info", "gauge", "The engine's version; always 1.");
    page.sample("dukou_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Some(serving) = serving {
        table(&mut page, &serving);
        caches(&mut page, &serving);
        replicas(&mut page, &serving);
    }
    page
}

fn shadow_rows(page: &mut Page, shadows: &ByVersion) {
    const NAME: &str = "dukou_shadow_rows_total";
    page.family(NAME, "counter", "Rows that a shadow answered too, by whether the two agree.");
    for ((model, version), totals) in shadows {
        let agreement = totals.agreement;
        let agree = agreement.compared.saturating_sub(agreement.differ);
        for (result, count) in [("agree", agree), ("differ", agreement.differ)] {
            let labels = [("model", &**model), ("version", &**version), ("result", result)];
            page.sample(NAME, &labels, count);
        }
    }
    const DROPPED: &str = "dukou_shadow_dropped_total";
    page.family(DROPPED, "counter", "Requests of which no copy was made, for want of room.");
    for ((model, version), totals) in shadows {
        let labels = [("model", &**model), ("version", &**version)];
        page.sample(DROPPED, &labels, totals.agreement.dropped);
    }
}

fn security(page: &mut Page, engine: &Engine) {
    const NAME: &str = "dukou_security_events_total";
    page.family(NAME, "counter", "Refusals that somebody who guards the server wants to see.");
    for (code, count) in engine.security.counts() {
        page.sample(NAME, &[("code", code.as_str())], count);
    }
}

fn copied(page: &mut Page) {
    const NAME: &str = "dukou_copied_bytes_total";
    page.family(NAME, "counter", "Bytes of large tensors copied between socket and model.");
    let (into, out) = copied_bytes();
    for (direction, bytes) in [("in", into), ("out", out)] {
        page.sample(NAME, &[("direction", direction)], bytes);
    }
}

fn tap(page: &mut Page, engine: &Engine) {
    let (captured, dropped, waiting) = engine.tap.totals();
    page.family("dukou_tap_captured_total", "counter", "Requests kept for the monitor.");
    page.sample("dukou_tap_captured_total", &[], captured);
    page.family("dukou_tap_dropped_total", "counter", "Requests that the tap had no room for.");
    page.sample("dukou_tap_dropped_total", &[], dropped);
    page.gauge("dukou_tap_bytes", "Bytes that wait for the monitor.", waiting);
}

fn requests(page: &mut Page, by_version: &ByVersion, refused: &[(Dialect, ErrorCode, u64)]) {
    const NAME: &str = "dukou_requests_total";
    page.family(NAME, "counter", "Requests answered, by HTTP status and by our own stable code.");
    let mut sample =
        |model: &str, version: &str, dialect: Dialect, code: Option<ErrorCode>, count: u64| {
            let status = code.map_or(200, ErrorCode::http_status).to_string();
            let labels = [
                ("model", model),
                ("version", version),
                ("dialect", dialect.as_str()),
                ("code", &*status),
                ("reason", code.map_or("ok", ErrorCode::as_str)),
            ];
            page.sample(NAME, &labels, count);
        };
    for ((model, version), totals) in by_version {
        for (dialect, code, count) in totals.by_result() {
            sample(model, version, dialect, code, count);
        }
    }
    for &(dialect, code, count) in refused {
        sample("", "", dialect, Some(code), count);
    }
}

fn times(
    page: &mut Page,
    name: &str,
    help: &str,
    by_version: &ByVersion,
    select: impl Fn(&Totals) -> &TimeTotals,
) {
    page.family(name, "histogram", help);
    for (labels, totals) in by_version {
        let times = select(totals);
        let bounds = BOUNDS_US.iter().map(|&bound| bound as f64 / 1e6);
        let buckets = Buckets { counts: &times.counts, sum: times.sum_ns as f64 / 1e9 };
        page.histogram(name, labels, bounds, &buckets);
    }
}

fn batch_rows(page: &mut Page, by_version: &ByVersion) {
    const NAME: &str = "dukou_batch_rows";
    page.family(NAME, "histogram", "Rows of a batch.");
    for (labels, totals) in by_version {
        let bounds = (0..totals.batch_rows.len() - 1).map(|power| f64::from(1_u32 << power));
        let buckets = Buckets { counts: &totals.batch_rows, sum: totals.batch_rows_sum as f64 };
        page.histogram(NAME, labels, bounds, &buckets);
    }
}

fn table(page: &mut Page, serving: &Serving) {
    page.family("dukou_table_info", "gauge", "The table being served; always 1.");
    page.sample("dukou_table_info", &[("revision", serving.revision().as_str())], 1);
    page.gauge(
        "dukou_table_sequence",
        "The sequence of the table being served.",
        serving.document.sequence,
    );
    let versions: Vec<_> = serving
        .versions()
        .map(|loaded| {
            ([("model", loaded.model.as_str()), ("version", loaded.version.as_str())], loaded)
        })
        .collect();
    page.family("dukou_model_load_seconds", "gauge", "How long the version took to load.");
    for (labels, loaded) in &versions {
        page.sample("dukou_model_load_seconds", labels, loaded.facts.load.as_secs_f64());
    }
    page.family("dukou_model_queued", "gauge", "Requests that wait for the version.");
    for (labels, loaded) in &versions {
        page.sample("dukou_model_queued", labels, loaded.way.queued());
    }
    page.family("dukou_model_provider", "gauge", "What the version runs on first; always 1.");
    for ([model, version], loaded) in &versions {
        if let Some(provider) = loaded.facts.providers.first() {
            page.sample("dukou_model_provider", &[*model, *version, ("provider", provider)], 1);
        }
    }
    page.family("dukou_model_residency", "gauge", "Where the version's weights are; always 1.");
    for ([model, version], loaded) in &versions {
        let labels = [*model, *version, ("residency", loaded.facts.residency)];
        page.sample("dukou_model_residency", &labels, 1);
    }
}

/// What the caches did about requests.
fn found(page: &mut Page, by_version: &ByVersion) {
    const NAME: &str = "dukou_cache_requests_total";
    page.family(NAME, "counter", "Answered requests that a cache looked at, by what it did.");
    for ((model, version), totals) in by_version {
        for (found, count) in Found::ALL.into_iter().zip(totals.found) {
            let labels = [("model", &**model), ("version", &**version), ("result", found.as_str())];
            if totals.found != [0; Found::ALL.len()] {
                page.sample(NAME, &labels, count);
            }
        }
    }
}

/// Versions that were loaded without a provider that they asked for.
fn fallbacks(page: &mut Page, fallbacks: &Fallbacks) {
    const NAME: &str = "dukou_provider_fallbacks_total";
    page.family(NAME, "counter", "Loads of a version that passed over a provider asked for.");
    for ((model, version, provider), count) in fallbacks {
        let labels = [
            ("model", model.as_str()),
            ("version", version.as_str()),
            ("provider", provider.as_str()),
        ];
        page.sample(NAME, &labels, count);
    }
}

/// What the caches hold.
fn caches(page: &mut Page, serving: &Serving) {
    let kept: Vec<(&str, Kept)> = serving
        .models
        .iter()
        .filter_map(|model| Some((model.name.as_str(), model.cache.as_ref()?.kept())))
        .collect();
    let families: [(&str, &str, &str, fn(&Kept) -> u64); 5] = [
        ("dukou_cache_bytes", "gauge", "Bytes that a model's cache holds.", |k| k.bytes),
        ("dukou_cache_max_bytes", "gauge", "Bytes that it may hold.", |k| k.max_bytes),
        ("dukou_cache_entries", "gauge", "Answers that it holds.", |k| k.entries as u64),
        ("dukou_cache_evicted_total", "counter", "Answers that went for want of room.", |k| {
            k.evicted
        }),
        ("dukou_cache_expired_total", "counter", "Answers whose time was over.", |k| k.expired),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for (model, kept) in &kept {
            page.sample(name, &[("model", model)], value(kept));
        }
    }
}

/// The replicas of remote models; nothing where there are none.
fn replicas(page: &mut Page, serving: &Serving) {
    let states: Vec<_> = serving
        .versions()
        .filter_map(|loaded| Some((loaded.model.as_str(), loaded.way.remote()?.states())))
        .flat_map(|(model, states)| states.into_iter().map(move |state| (model, state)))
        .collect();
    if states.is_empty() {
        return;
    }
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&ReplicaState) -> f64| {
        page.family(name, kind, help);
        for (model, state) in &states {
            page.sample(name, &[("model", *model), ("replica", &*state.replica)], value(state));
        }
    };
    let gauge = "gauge";
    family("dukou_replica_healthy", gauge, "Whether the replica can be asked.", &|state| {
        f64::from(u8::from(state.healthy))
    });
    family(
        "dukou_replica_outstanding",
        gauge,
        "Requests that it has not answered yet.",
        &|state| state.outstanding as f64,
    );
    family(
        "dukou_replica_latency_seconds",
        gauge,
        "What its answers take, peaks counted at once.",
        &|state| state.latency.map_or(f64::NAN, |time| time.as_secs_f64()),
    );
    let counter = "counter";
    family("dukou_replica_requests_total", counter, "Requests that it was sent.", &|state| {
        state.requests as f64
    });
    family(
        "dukou_replica_failures_total",
        counter,
        "Of these, those that it lost or failed at.",
        &|state| state.failures as f64,
    );
    family(
        "dukou_replica_retries_total",
        counter,
        "Of these, those that another had not answered.",
        &|state| state.retries as f64,
    );
}

/// What a histogram counted: an entry a bound and a last one for what is above, and the sum of all.
pub(crate) struct Buckets<'a> {
    pub counts: &'a [u64],
    pub sum: f64,
}

/// Text in the exposition format 0.0.4.
pub(crate) struct Page(String);

impl Page {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}");
        self.kind(name, kind);
    }

    /// A family without help.
    pub fn kind(&mut self, name: &str, kind: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for letter in text.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// One histogram of a model and version.
    fn histogram(
        &mut self,
        name: &str,
        (model, version): &(String, String),
        bounds: impl Iterator<Item = f64>,
        buckets: &Buckets<'_>,
    ) {
        let labels = [("model", &**model), ("version", &**version)];
        self.buckets(name, &labels, bounds, buckets);
    }

    /// One histogram with any labels.
    pub fn buckets(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds: impl Iterator<Item = f64>,
        buckets: &Buckets<'_>,
    ) {
        let bucket = format!("{name}_bucket");
        let mut total = 0;
        let bounds = bounds.map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(buckets.counts) {
            total += count;
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample(&bucket, &labels, total);
        }
        self.sample(&format!("{name}_sum"), labels, buckets.sum);
        self.sample(&format!("{name}_count"), labels, total);
    }
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
