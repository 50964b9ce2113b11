//! Facts about a model that Triton's extensions tell: how it is configured, and what it has done. Whoever
//! speaks them puts them into JSON or into messages.

use dukou_types::{DType, Signature};

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
}
