//! A model's signature, from what a server says of it.

use dukou_types::{DType, Dim, Signature, TensorSpec};
use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
    #[serde(default)]
    parameters: Parameters,
}

/// What dukou says besides.
#[derive(Default, Deserialize)]
struct Parameters {
    /// Whether a row's answer does not depend on its neighbours.
    #[serde(default)]
    batchable: bool,
}

#[derive(Deserialize)]
struct Spec {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// Reads the body of `GET /v2/models/NAME`.
///
/// # Errors
/// What in it is not as the protocol has it.
pub fn parse_signature(body: &[u8]) -> Result<Signature, String> {
    let metadata: Metadata = serde_json::from_slice(body)
        .map_err(|error| format!("its metadata is not V2's: {error}"))?;
    let specs = |specs: Vec<Spec>| specs.into_iter().map(spec).collect::<Result<Vec<_>, String>>();
    Ok(Signature {
        inputs: specs(metadata.inputs)?,
        outputs: specs(metadata.outputs)?,
        batchable: metadata.parameters.batchable,
    })
}

fn spec(said: Spec) -> Result<TensorSpec, String> {
    let dtype = DType::parse(&said.datatype)
        .ok_or_else(|| format!("`{}` has the unknown datatype `{}`", said.name, said.datatype))?;
    let dim = |extent: i64| usize::try_from(extent).map_or(Dim::Any(()), Dim::Fixed);
    Ok(TensorSpec {
        name: said.name.into(),
        dtype,
        shape: said.shape.into_iter().map(dim).collect(),
    })
}

/// A signature in a sentence.
pub fn described(signature: &Signature) -> String {
    let list = |specs: &[TensorSpec]| {
        let each = specs.iter().map(|s| format!("`{}` {} {:?}", s.name, s.dtype, s.wire_shape()));
        each.collect::<Vec<_>>().join(", ")
    };
    format!("{} → {}", list(&signature.inputs), list(&signature.outputs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_read() {
        let body = br#"{"name":"m","versions":["1"],"platform":"x","inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}],"outputs":[{"name":"y","datatype":"BYTES","shape":[-1]}]}"#;
        let signature = parse_signature(body).unwrap();
        assert_eq!(described(&signature), "`x` FP32 [-1, 3] → `y` BYTES [-1]");
        for (body, word) in [
            (&b"{}"[..], "inputs"),
            (b"<html>", "not V2"),
            (br#"{"inputs":[{"name":"x","datatype":"INT4","shape":[]}],"outputs":[]}"#, "INT4"),
        ] {
            let problem = parse_signature(body).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
    }
}
