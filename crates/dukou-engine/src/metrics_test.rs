use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::Duration,
};

use dukou_types::{Arm, ModelName, Revision, Version};

use super::*;
use crate::{counters::RequestCount, state::ArmKey};

/// One sample line: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads a page by the grammar of the text format 0.0.4, and holds it to its rules: HELP and TYPE once
/// and before the samples of their family, all samples of a family together, no sample twice.
fn parse(page: &str) -> Vec<Sample> {
    assert!(page.ends_with('\n'));
    let mut types: HashMap<&str, &str> = HashMap::new();
    let mut helps: Vec<&str> = Vec::new();
    let mut samples: Vec<Sample> = Vec::new();
    let mut family = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap();
            assert!(!text.is_empty() && !helps.contains(&name), "{line}");
            helps.push(name);
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(helps.last(), Some(&name), "{line}");
            assert!(types.insert(name, kind).is_none(), "{line}");
            family = name;
            continue;
        }
        let sample = parse_sample(line);
        let name = match types[family] {
            "histogram" => ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|suffix| sample.0.strip_suffix(suffix))
                .unwrap_or_else(|| panic!("{line}")),
            "counter" => {
                assert!(family.ends_with("_total"), "{line}");
                &sample.0
            }
            _ => &sample.0,
        };
        assert_eq!(name, family, "{line} stands outside its family");
        assert!(samples.iter().all(|(n, l, _)| (n, l) != (&sample.0, &sample.1)), "{line} twice");
        samples.push(sample);
    }
    samples
}

fn parse_sample(line: &str) -> Sample {
    let name: String =
        line.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')).collect();
    assert!(!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    let mut rest = &line[name.len()..];
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            let mut value = String::new();
            let mut letters = after.chars();
            loop {
                match letters.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(match letters.next().unwrap() {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("\\{other} in {line}"),
                    }),
                    letter => value.push(letter),
                }
            }
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = letters.as_str();
            if let Some(end) = rest.strip_prefix('}') {
                rest = end;
                break;
            }
            rest = rest.strip_prefix(',').unwrap();
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    (name, labels, value)
}

fn counted() -> Engine {
    let engine = Engine::new(2, PathBuf::from("/nonexistent"), None);
    for (revision, arm) in [("r1", "main"), ("r2", "main"), ("r2", "direct")] {
        let counters = engine.state.arm(&ArmKey {
            model: ModelName::parse("digits").unwrap(),
            version: Version::parse("1").unwrap(),
            digest: None,
            arm: Arm::parse(arm).unwrap(),
            revision: Revision::parse(revision).unwrap(),
        });
        for error in [None, None, Some(ErrorCode::RequestWrongShape)] {
            counters.request(&RequestCount {
                dialect: Dialect::V2,
                error,
                rows: 3,
                request: Duration::from_micros(150),
                queue: error.is_none().then_some(Duration::from_secs(100)),
                found: None,
            });
        }
        counters.batch(5, Duration::from_micros(50));
    }
    engine.state.refused(Dialect::V2, ErrorCode::WireUnknownPath);
    engine
}

#[test]
fn the_page_is_what_prometheus_reads() {
    let samples = parse(&render(&counted(), None));
    let value = |name: &str, labels: &[(&str, &str)]| {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        samples
            .iter()
            .find(|(n, l, _)| n == name && *l == labels)
            .unwrap_or_else(|| panic!("{name} {labels:?}"))
            .2
    };
    let of = [("model", "digits"), ("version", "1")];
    let with = |label: &'static str, value: &'static str| [of[0], of[1], (label, value)];
    let request =
        |code, reason| [of[0], of[1], ("dialect", "v2"), ("code", code), ("reason", reason)];
    // Arms and revisions of a version are one to Prometheus.
    assert_eq!(value("dukou_requests_total", &request("200", "ok")), 6.0);
    assert_eq!(value("dukou_requests_total", &request("400", "request.wrong-shape")), 3.0);
    let refused = [
        ("model", ""),
        ("version", ""),
        ("dialect", "v2"),
        ("code", "404"),
        ("reason", "wire.unknown-path"),
    ];
    assert_eq!(value("dukou_requests_total", &refused), 1.0);

    assert_eq!(value("dukou_request_seconds_bucket", &with("le", "0.0001")), 0.0);
    assert_eq!(value("dukou_request_seconds_bucket", &with("le", "0.0002")), 9.0);
    assert_eq!(value("dukou_request_seconds_bucket", &with("le", "+Inf")), 9.0);
    assert!((value("dukou_request_seconds_sum", &of) - 9.0 * 150e-6).abs() < 1e-9);
    assert_eq!(value("dukou_queue_seconds_bucket", &with("le", "6.5536")), 0.0);
    assert_eq!(value("dukou_queue_seconds_count", &of), 6.0);
    assert_eq!(value("dukou_compute_seconds_bucket", &with("le", "0.00005")), 3.0);
    assert_eq!(value("dukou_batch_rows_bucket", &with("le", "4")), 0.0);
    assert_eq!(value("dukou_batch_rows_bucket", &with("le", "8")), 3.0);
    assert_eq!(value("dukou_batch_rows_sum", &of), 15.0);
    assert_eq!(value("dukou_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(value("process_resident_memory_bytes", &[]) > 1e6);
}

#[test]
fn histograms_never_fall() {
    let samples = parse(&render(&counted(), None));
    for (name, labels, count) in samples.iter().filter(|(name, ..)| name.ends_with("_count")) {
        let bucket = name.replace("_count", "_bucket");
        let buckets: Vec<f64> = samples
            .iter()
            .filter(|(n, l, _)| *n == bucket && l["model"] == labels["model"])
            .map(|(.., value)| *value)
            .collect();
        assert!(buckets.len() >= 18 && buckets.is_sorted(), "{name}: {buckets:?}");
        assert_eq!(buckets.last(), Some(count), "{name}");
    }
}

#[test]
fn labels_are_escaped() {
    let mut page = Page(String::new());
    page.family("x", "gauge", "Help.");
    page.sample("x", &[("path", "a\"b\\c\nd")], 1);
    assert_eq!(parse(&page.0)[0].1["path"], "a\"b\\c\nd");
}

#[test]
fn every_metric_is_in_the_docs() {
    let docs = include_str!("../../../docs/metrics.md");
    for line in render(&counted(), None).lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            assert!(docs.contains(&format!("`{name}`")), "docs/metrics.md lacks `{name}`");
        }
    }
    for name in [
        "dukou_table_info",
        "dukou_table_sequence",
        "dukou_model_load_seconds",
        "dukou_model_queued",
        "dukou_model_residency",
    ] {
        assert!(docs.contains(&format!("`{name}`")), "docs/metrics.md lacks `{name}`");
    }
}

#[test]
fn other_servers_names_say_the_same() {
    let value = |names, line: &str| {
        let page = render(&counted(), Some(names));
        // Ours stand beside them.
        assert!(page.contains("\ndukou_requests_total{"), "{page}");
        let found = page.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("`{line}` is not in {page}")).parse::<f64>().unwrap()
    };
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host = host.trim();
    for (names, line, wanted) in [
        (
            Names::TensorFlow,
            r#":tensorflow:serving:request_count{model_name="digits",status="OK"}"#,
            6.0,
        ),
        (
            Names::TensorFlow,
            r#":tensorflow:serving:request_count{model_name="digits",status="INVALID_ARGUMENT"}"#,
            3.0,
        ),
        (
            Names::TensorFlow,
            r#":tensorflow:serving:request_latency_bucket{model_name="digits",API="predict",entrypoint="ALL",le="+Inf"}"#,
            9.0,
        ),
        (
            Names::TensorFlow,
            r#":tensorflow:serving:request_latency_sum{model_name="digits",API="predict",entrypoint="ALL"}"#,
            1350.0,
        ),
        (
            Names::TensorFlow,
            r#":tensorflow:serving:request_example_count_total{model="digits"}"#,
            27.0,
        ),
        (Names::Triton, r#"nv_inference_request_success{model="digits",version="1"}"#, 6.0),
        (
            Names::Triton,
            r#"nv_inference_request_failure{model="digits",version="1",reason="OTHER"}"#,
            3.0,
        ),
        (Names::Triton, r#"nv_inference_count{model="digits",version="1"}"#, 15.0),
        (Names::Triton, r#"nv_inference_exec_count{model="digits",version="1"}"#, 3.0),
        (
            Names::Triton,
            r#"nv_inference_compute_infer_duration_us{model="digits",version="1"}"#,
            150.0,
        ),
        (
            Names::TorchServe,
            &format!(
                r#"ts_inference_requests_total{{model_name="digits",model_version="1",hostname="{host}"}}"#
            ),
            9.0,
        ),
        (Names::TorchServe, &format!(r#"Requests4XX{{Level="Host",Hostname="{host}"}}"#), 3.0),
    ] {
        assert_eq!(value(names, line), wanted, "{line}");
    }
}

#[test]
fn whose_names_are_expected_where() {
    let first = |dialect| Names::expected("metrics", &[dialect, Dialect::Keras]);
    assert_eq!(first(Dialect::V2), Some(Names::Triton));
    assert_eq!(first(Dialect::TensorFlow), Some(Names::TensorFlow));
    assert_eq!(first(Dialect::Keras), None);
    assert_eq!(Names::expected("http", &[Dialect::V2]), None);
}
