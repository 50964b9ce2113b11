//! What a server says of a model: which versions there are, and what they take and give.

use dukou_types::{DType, Dim, Signature, TensorSpec};

use super::SIGNATURE;
use crate::json::{push_integer, push_text};

/// A version that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionState<'a> {
    /// Its label.
    pub version: &'a str,
    /// Whether it answers; it is being unloaded otherwise.
    pub available: bool,
}

/// The status of a model's versions, with KServe's `name` and `ready` beside it.
pub fn encode_status(model: &str, versions: &[VersionState<'_>]) -> Vec<u8> {
    let mut out = b"{\"name\":".to_vec();
    push_text(&mut out, model);
    let ready = versions.iter().any(|state| state.available);
    out.extend_from_slice(if ready { b",\"ready\":true" } else { b",\"ready\":false" });
    out.extend_from_slice(b",\"model_version_status\":[");
    for (position, state) in versions.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"version\":");
        push_text(&mut out, state.version);
        let word: &[u8] = if state.available { b"AVAILABLE" } else { b"UNLOADING" };
        out.extend_from_slice(b",\"state\":\"");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\",\"status\":{\"error_code\":\"OK\",\"error_message\":\"\"}}");
    }
    out.extend_from_slice(b"]}");
    out
}

/// The signatures of a version.
pub fn encode_metadata(model: &str, version: &str, signature: &Signature) -> Vec<u8> {
    let mut out = b"{\"model_spec\":{\"name\":".to_vec();
    push_text(&mut out, model);
    out.extend_from_slice(b",\"signature_name\":\"\",\"version\":");
    push_text(&mut out, version);
    out.extend_from_slice(b"},\"metadata\":{\"signature_def\":{\"signature_def\":{");
    push_text(&mut out, SIGNATURE);
    out.extend_from_slice(b":{\"inputs\":");
    push_specs(&mut out, &signature.inputs);
    out.extend_from_slice(b",\"outputs\":");
    push_specs(&mut out, &signature.outputs);
    out.extend_from_slice(b",\"method_name\":\"tensorflow/serving/predict\",\"defaults\":{}}}}}}");
    out
}

fn push_specs(out: &mut Vec<u8>, specs: &[TensorSpec]) {
    out.push(b'{');
    for (position, spec) in specs.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push_text(out, &spec.name);
        out.extend_from_slice(b":{\"dtype\":\"");
        out.extend_from_slice(dtype_name(spec.dtype).as_bytes());
        out.extend_from_slice(b"\",\"tensor_shape\":{\"dim\":[");
        for (place, dim) in spec.shape.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"size\":\"");
            push_integer(out, dim.wire());
            out.extend_from_slice(b"\",\"name\":");
            push_text(out, if let Dim::Symbol(symbol) = dim { symbol } else { "" });
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"unknown_rank\":false},\"name\":");
        push_text(out, &format!("{}:0", spec.name));
        out.push(b'}');
    }
    out.push(b'}');
}

/// A dtype as TensorFlow calls it.
pub(super) const fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "DT_BOOL",
        DType::Uint8 => "DT_UINT8",
        DType::Uint16 => "DT_UINT16",
        DType::Uint32 => "DT_UINT32",
        DType::Uint64 => "DT_UINT64",
        DType::Int8 => "DT_INT8",
        DType::Int16 => "DT_INT16",
        DType::Int32 => "DT_INT32",
        DType::Int64 => "DT_INT64",
        DType::Fp16 => "DT_HALF",
        DType::Bf16 => "DT_BFLOAT16",
        DType::Fp32 => "DT_FLOAT",
        DType::Fp64 => "DT_DOUBLE",
        DType::Bytes => "DT_STRING",
    }
}
