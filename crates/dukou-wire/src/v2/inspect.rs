//! Facts about a model that Triton's extensions tell: how it is configured, and what it has done. Whoever
//! speaks them puts them into JSON or into messages.

use dukou_types::{DType, Signature};

use super::encode::push_list;
use crate::json::{push_integer, push_text};

/// How a model is configured, in Triton's terms.
#[derive(Clone, Copy, Debug)]
pub struct Configuration<'a> {
    /// Its name.
    pub name: &'a str,
    /// What runs it, as metadata names it (`onnxruntime_onnx`).
    pub platform: &'a str,
    /// The versions that are served.
    pub versions: &'a [&'a str],
    /// Rows of one run; 0 where rows do not ride together: dimensions are then whole.
    pub max_batch: usize,
    /// How long an idle instance waits for more, in microseconds.
    pub delay_us: u64,
    /// Runs that can go on at once.
    pub instances: u64,
    /// Whether a GPU runs it.
    pub on_gpu: bool,
    /// Whether answers are kept.
    pub caches: bool,
    /// What it takes and gives.
    pub signature: &'a Signature,
}

impl Configuration<'_> {
    /// Triton's name of what runs it.
    pub fn backend(&self) -> &str {
        match self.platform {
            "onnxruntime_onnx" => "onnxruntime",
            other => other,
        }
    }

    /// The dimensions of a tensor: without the first where rows ride together.
    pub fn dims(&self, shape: &[i64]) -> Vec<i64> {
        let from = usize::from(self.max_batch > 0).min(shape.len());
        shape[from..].to_vec()
    }
}

/// Triton's number of a dtype (`TYPE_FP32`).
pub const fn data_type(dtype: DType) -> i32 {
    match dtype {
        DType::Bool => 1,
        DType::Uint8 => 2,
        DType::Uint16 => 3,
        DType::Uint32 => 4,
        DType::Uint64 => 5,
        DType::Int8 => 6,
        DType::Int16 => 7,
        DType::Int32 => 8,
        DType::Int64 => 9,
        DType::Fp16 => 10,
        DType::Fp32 => 11,
        DType::Fp64 => 12,
        DType::Bytes => 13,
        DType::Bf16 => 14,
    }
}

/// How often something happened, and how long it took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How often.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

/// What one version of a model has done since the server began, in Triton's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The model.
    pub name: String,
    /// The version.
    pub version: String,
    /// Rows that were run.
    pub inferences: u64,
    /// Runs.
    pub executions: u64,
    /// Requests that were answered well; with the time of all requests, for they are timed together.
    pub success: Spent,
    /// Requests that failed.
    pub fail: Spent,
    /// Waits for a run, a request each.
    pub queue: Spent,
    /// Runs of the model.
    pub compute: Spent,
    /// Answers that were known.
    pub cache_hit: Spent,
    /// Answers that were not.
    pub cache_miss: Spent,
    /// When a request was last answered well, in milliseconds since 1970; 0: none ever was.
    pub last_ms: u64,
    /// Runs of the model by their rows, in their order.
    pub by_rows: Vec<(u64, Spent)>,
}

/// What Triton's configuration says beside, where nothing was configured: it prints every default.
const OF_INPUT: &str = ",\"format\":\"FORMAT_NONE\",\"is_shape_tensor\":false,\"allow_ragged_batch\":false,\
    \"optional\":false,\"is_non_linear_format_io\":false}";
const OF_OUTPUT: &str =
    ",\"label_filename\":\"\",\"is_shape_tensor\":false,\"is_non_linear_format_io\":false}";
const OF_RUNNING: &str = ",\"batch_input\":[],\"batch_output\":[],\"optimization\":{\
    \"priority\":\"PRIORITY_DEFAULT\",\"input_pinned_memory\":{\"enable\":false},\
    \"output_pinned_memory\":{\"enable\":false},\"gather_kernel_buffer_threshold\":0,\
    \"eager_batching\":false}";

/// How a model is configured, with the fields of Triton's `ModelConfig` by their names.
pub fn encode_config(facts: &Configuration<'_>) -> Vec<u8> {
    let mut out = b"{\"name\":".to_vec();
    push_text(&mut out, facts.name);
    out.extend_from_slice(b",\"platform\":");
    push_text(&mut out, facts.platform);
    out.extend_from_slice(b",\"backend\":");
    push_text(&mut out, facts.backend());
    out.extend_from_slice(b",\"runtime\":\"\",\"version_policy\":{\"specific\":{\"versions\":");
    let numbers = facts.versions.iter().filter_map(|version| version.parse::<i64>().ok());
    push_list(&mut out, numbers, push_integer);
    out.extend_from_slice(b"}},\"max_batch_size\":");
    push_integer(&mut out, facts.max_batch);
    for (key, specs, of_each) in [
        (",\"input\":", &facts.signature.inputs, OF_INPUT),
        (",\"output\":", &facts.signature.outputs, OF_OUTPUT),
    ] {
        out.extend_from_slice(key.as_bytes());
        push_list(&mut out, specs.iter(), |out, spec| {
            out.extend_from_slice(b"{\"name\":");
            push_text(out, &spec.name);
            let name = if spec.dtype == DType::Bytes { "STRING" } else { spec.dtype.name() };
            out.extend_from_slice(format!(",\"data_type\":\"TYPE_{name}\",\"dims\":").as_bytes());
            push_list(out, facts.dims(&spec.wire_shape()).into_iter(), |out, dim| {
                push_integer(out, dim);
            });
            out.extend_from_slice(of_each.as_bytes());
        });
    }
    let kind = if facts.on_gpu { "KIND_GPU" } else { "KIND_CPU" };
    out.extend_from_slice(OF_RUNNING.as_bytes());
    out.extend_from_slice(b",\"instance_group\":[{\"name\":");
    push_text(&mut out, facts.name);
    let rest = format!(
        ",\"kind\":\"{kind}\",\"count\":{},\"gpus\":[],\"secondary_devices\":[],\"profile\":[],\
         \"passive\":false,\"host_policy\":\"\"}}]",
        facts.instances
    );
    out.extend_from_slice(rest.as_bytes());
    if facts.max_batch > 1 {
        let batching = format!(
            ",\"dynamic_batching\":{{\"preferred_batch_size\":[{}],\"max_queue_delay_microseconds\":{},\
             \"preserve_ordering\":false,\"priority_levels\":0,\"default_priority_level\":0,\
             \"priority_queue_policy\":{{}}}}",
            facts.max_batch, facts.delay_us
        );
        out.extend_from_slice(batching.as_bytes());
    }
    let rest = format!(
        ",\"default_model_filename\":\"model.onnx\",\"cc_model_filenames\":{{}},\"metric_tags\":{{}},\
         \"parameters\":{{}},\"model_warmup\":[],\"model_transaction_policy\":{{\"decoupled\":false}},\
         \"response_cache\":{{\"enable\":{}}}}}",
        facts.caches
    );
    out.extend_from_slice(rest.as_bytes());
    out
}

/// What versions have done, with the fields of Triton's statistics by their names.
pub fn encode_statistics(versions: &[Statistics]) -> Vec<u8> {
    let mut out = b"{\"model_stats\":".to_vec();
    push_list(&mut out, versions.iter(), |out, version| {
        out.extend_from_slice(b"{\"name\":");
        push_text(out, &version.name);
        out.extend_from_slice(b",\"version\":");
        push_text(out, &version.version);
        let counts = format!(
            ",\"last_inference\":{},\"inference_count\":{},\"execution_count\":{},\"inference_stats\":{{",
            version.last_ms, version.inferences, version.executions
        );
        out.extend_from_slice(counts.as_bytes());
        let of_none = Spent { count: version.compute.count, ns: 0 };
        let each = [
            ("success", version.success),
            ("fail", version.fail),
            ("queue", version.queue),
            ("compute_input", of_none),
            ("compute_infer", version.compute),
            ("compute_output", of_none),
            ("cache_hit", version.cache_hit),
            ("cache_miss", version.cache_miss),
        ];
        for (position, (name, Spent { count, ns })) in each.into_iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            let spent = format!("{comma}\"{name}\":{{\"count\":{count},\"ns\":{ns}}}");
            out.extend_from_slice(spent.as_bytes());
        }
        out.extend_from_slice(b"},\"response_stats\":{},\"batch_stats\":");
        push_list(out, version.by_rows.iter(), |out, (rows, Spent { count, ns })| {
            let runs = format!(
                "{{\"batch_size\":{rows},\"compute_input\":{{\"count\":{count},\"ns\":0}},\"compute_infer\":\
                 {{\"count\":{count},\"ns\":{ns}}},\"compute_output\":{{\"count\":{count},\"ns\":0}}}}"
            );
            out.extend_from_slice(runs.as_bytes());
        });
        out.extend_from_slice(b",\"memory_usage\":[]}");
    });
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use dukou_types::{Dim, TensorSpec};

    use super::*;

    #[test]
    fn a_configuration_has_tritons_fields() {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.into(),
            dtype,
            shape: vec![Dim::Any(()), Dim::Fixed(4)],
        };
        let (inputs, outputs) = (vec![spec("x", DType::Fp32)], vec![spec("y", DType::Bytes)]);
        let signature = Signature { inputs, outputs, batchable: true };
        let facts = Configuration {
            name: "m",
            platform: "onnxruntime_onnx",
            versions: &["1", "beta", "3"],
            max_batch: 8,
            delay_us: 50,
            instances: 2,
            on_gpu: false,
            caches: true,
            signature: &signature,
        };
        assert_eq!(
            String::from_utf8(encode_config(&facts)).unwrap(),
            r#"{"name":"m","platform":"onnxruntime_onnx","backend":"onnxruntime","runtime":"","version_policy":{"specific":{"versions":[1,3]}},"max_batch_size":8,"input":[{"name":"x","data_type":"TYPE_FP32","dims":[4],"format":"FORMAT_NONE","is_shape_tensor":false,"allow_ragged_batch":false,"optional":false,"is_non_linear_format_io":false}],"output":[{"name":"y","data_type":"TYPE_STRING","dims":[4],"label_filename":"","is_shape_tensor":false,"is_non_linear_format_io":false}],"batch_input":[],"batch_output":[],"optimization":{"priority":"PRIORITY_DEFAULT","input_pinned_memory":{"enable":false},"output_pinned_memory":{"enable":false},"gather_kernel_buffer_threshold":0,"eager_batching":false},"instance_group":[{"name":"m","kind":"KIND_CPU","count":2,"gpus":[],"secondary_devices":[],"profile":[],"passive":false,"host_policy":""}],"dynamic_batching":{"preferred_batch_size":[8],"max_queue_delay_microseconds":50,"preserve_ordering":false,"priority_levels":0,"default_priority_level":0,"priority_queue_policy":{}},"default_model_filename":"model.onnx","cc_model_filenames":{},"metric_tags":{},"parameters":{},"model_warmup":[],"model_transaction_policy":{"decoupled":false},"response_cache":{"enable":true}}"#
        );
    }

    #[test]
    fn statistics_have_tritons_fields() {
        let version = Statistics {
            name: "m".to_owned(),
            version: "1".to_owned(),
            inferences: 5,
            success: Spent { count: 3, ns: 90 },
            last_ms: 1_795_669_721_568,
            by_rows: vec![(8, Spent { count: 2, ns: 70 })],
            ..Statistics::default()
        };
        let text = String::from_utf8(encode_statistics(&[version])).unwrap();
        assert!(text.starts_with(r#"{"model_stats":[{"name":"m","version":"1","last_inference":1795669721568,"inference_count":5,"execution_count":0,"inference_stats":{"success":{"count":3,"ns":90},"fail":{"count":0,"ns":0},"#), "{text}");
        assert!(text.ends_with(r#","response_stats":{},"batch_stats":[{"batch_size":8,"compute_input":{"count":2,"ns":0},"compute_infer":{"count":2,"ns":70},"compute_output":{"count":2,"ns":0}}],"memory_usage":[]}]}"#), "{text}");
        assert_eq!(encode_statistics(&[]), b"{\"model_stats\":[]}");
    }
}
