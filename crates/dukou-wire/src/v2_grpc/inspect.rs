//! Triton's extensions in messages: configuration, statistics, the repository's index.

use dukou_types::TensorSpec;
use prost::Message;

use crate::{
    grpc::written,
    v2::{Configuration, Spent, Statistics, data_type},
};

/// `KIND_GPU` and `KIND_CPU` of an instance group.
const KIND_GPU: i32 = 1;
const KIND_CPU: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct ModelConfigResponse {
    #[prost(message, optional, tag = "1")]
    config: Option<ModelConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelConfig {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    platform: String,
    #[prost(message, optional, tag = "3")]
    version_policy: Option<VersionPolicy>,
    #[prost(int32, tag = "4")]
    max_batch_size: i32,
    #[prost(message, repeated, tag = "5")]
    input: Vec<ModelInput>,
    #[prost(message, repeated, tag = "6")]
    output: Vec<ModelOutput>,
    #[prost(message, repeated, tag = "7")]
    instance_group: Vec<InstanceGroup>,
    #[prost(string, tag = "8")]
    default_model_filename: String,
    #[prost(message, optional, tag = "11")]
    dynamic_batching: Option<DynamicBatching>,
    #[prost(string, tag = "17")]
    backend: String,
    #[prost(message, optional, tag = "19")]
    model_transaction_policy: Option<TransactionPolicy>,
    #[prost(message, optional, tag = "24")]
    response_cache: Option<ResponseCache>,
}

#[derive(Clone, PartialEq, Message)]
struct VersionPolicy {
    #[prost(message, optional, tag = "3")]
    specific: Option<Specific>,
}

#[derive(Clone, PartialEq, Message)]
struct Specific {
    #[prost(int64, repeated, tag = "1")]
    versions: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelInput {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(int64, repeated, tag = "4")]
    dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelOutput {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(int64, repeated, tag = "3")]
    dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct InstanceGroup {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    count: i32,
    #[prost(int32, tag = "4")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct DynamicBatching {
    #[prost(int32, repeated, tag = "1")]
    preferred_batch_size: Vec<i32>,
    #[prost(uint64, tag = "2")]
    max_queue_delay_microseconds: u64,
}

#[derive(Clone, PartialEq, Message)]
struct TransactionPolicy {
    #[prost(bool, tag = "1")]
    decoupled: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseCache {
    #[prost(bool, tag = "1")]
    enable: bool,
}

/// `ModelConfigResponse`.
pub fn encode_config(facts: &Configuration<'_>) -> Vec<u8> {
    let small = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    let max_batch = small(facts.max_batch as u64);
    let named = |spec: &TensorSpec| {
        (spec.name.as_ref().to_owned(), data_type(spec.dtype), facts.dims(&spec.wire_shape()))
    };
    let input = |spec: &TensorSpec| {
        let (name, data_type, dims) = named(spec);
        ModelInput { name, data_type, dims }
    };
    let output = |spec: &TensorSpec| {
        let (name, data_type, dims) = named(spec);
        ModelOutput { name, data_type, dims }
    };
    let versions = facts.versions.iter().filter_map(|version| version.parse().ok()).collect();
    written(&ModelConfigResponse {
        config: Some(ModelConfig {
            name: facts.name.to_owned(),
            platform: facts.platform.to_owned(),
            version_policy: Some(VersionPolicy { specific: Some(Specific { versions }) }),
            max_batch_size: max_batch,
            input: facts.signature.inputs.iter().map(input).collect(),
            output: facts.signature.outputs.iter().map(output).collect(),
            instance_group: vec![InstanceGroup {
                name: facts.name.to_owned(),
                count: small(facts.instances),
                kind: if facts.on_gpu { KIND_GPU } else { KIND_CPU },
            }],
            default_model_filename: "model.onnx".to_owned(),
            dynamic_batching: (max_batch > 1).then(|| DynamicBatching {
                preferred_batch_size: vec![max_batch],
                max_queue_delay_microseconds: facts.delay_us,
            }),
            backend: facts.backend().to_owned(),
            model_transaction_policy: Some(TransactionPolicy { decoupled: false }),
            response_cache: Some(ResponseCache { enable: facts.caches }),
        }),
    })
}

#[derive(Clone, PartialEq, Message)]
struct ModelStatisticsResponse {
    #[prost(message, repeated, tag = "1")]
    model_stats: Vec<ModelStatistics>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelStatistics {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint64, tag = "3")]
    last_inference: u64,
    #[prost(uint64, tag = "4")]
    inference_count: u64,
    #[prost(uint64, tag = "5")]
    execution_count: u64,
    #[prost(message, optional, tag = "6")]
    inference_stats: Option<InferStatistics>,
    #[prost(message, repeated, tag = "7")]
    batch_stats: Vec<BatchStatistics>,
}

#[derive(Clone, PartialEq, Message)]
struct BatchStatistics {
    #[prost(uint64, tag = "1")]
    batch_size: u64,
    #[prost(message, optional, tag = "2")]
    compute_input: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    compute_infer: Option<Duration>,
    #[prost(message, optional, tag = "4")]
    compute_output: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct InferStatistics {
    #[prost(message, optional, tag = "1")]
    success: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    fail: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    queue: Option<Duration>,
    #[prost(message, optional, tag = "4")]
    compute_input: Option<Duration>,
    #[prost(message, optional, tag = "5")]
    compute_infer: Option<Duration>,
    #[prost(message, optional, tag = "6")]
    compute_output: Option<Duration>,
    #[prost(message, optional, tag = "7")]
    cache_hit: Option<Duration>,
    #[prost(message, optional, tag = "8")]
    cache_miss: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct Duration {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(uint64, tag = "2")]
    ns: u64,
}

/// `ModelStatisticsResponse`. Inputs are read straight to where they are run and outputs leave as they lie:
/// what Triton counts for those is zero.
pub fn encode_statistics(versions: &[Statistics]) -> Vec<u8> {
    let spent = |spent: Spent| Some(Duration { count: spent.count, ns: spent.ns });
    let of_none = |runs: u64| Some(Duration { count: runs, ns: 0 });
    let model_stats = versions.iter().map(|version| ModelStatistics {
        name: version.name.clone(),
        version: version.version.clone(),
        last_inference: version.last_ms,
        inference_count: version.inferences,
        execution_count: version.executions,
        inference_stats: Some(InferStatistics {
            success: spent(version.success),
            fail: spent(version.fail),
            queue: spent(version.queue),
            compute_input: of_none(version.compute.count),
            compute_infer: spent(version.compute),
            compute_output: of_none(version.compute.count),
            cache_hit: spent(version.cache_hit),
            cache_miss: spent(version.cache_miss),
        }),
        batch_stats: version
            .by_rows
            .iter()
            .map(|&(batch_size, runs)| BatchStatistics {
                batch_size,
                compute_input: of_none(runs.count),
                compute_infer: spent(runs),
                compute_output: of_none(runs.count),
            })
            .collect(),
    });
    written(&ModelStatisticsResponse { model_stats: model_stats.collect() })
}
