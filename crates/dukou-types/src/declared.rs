//! A signature as a document says it, where nobody else tells it.

use serde::{Deserialize, Serialize};

use crate::{DType, Dim, Signature, TensorSpec};

/// What a model takes and gives, as a document says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredSignature {
    /// What a request must carry.
    pub inputs: Vec<DeclaredTensor>,
    /// What an answer carries.
    pub outputs: Vec<DeclaredTensor>,
}

/// A declared input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredTensor {
    /// As requests and answers name it.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// -1 for what is free.
    pub shape: Vec<i64>,
}

impl DeclaredSignature {
    /// As the request path knows it.
    pub fn signature(&self) -> Signature {
        let specs =
            |declared: &[DeclaredTensor]| declared.iter().map(DeclaredTensor::spec).collect();
        Signature { inputs: specs(&self.inputs), outputs: specs(&self.outputs), batchable: false }
    }
}

impl DeclaredTensor {
    fn spec(&self) -> TensorSpec {
        let dim = |&extent: &i64| usize::try_from(extent).map_or(Dim::Any(()), Dim::Fixed);
        let shape = self.shape.iter().map(dim).collect();
        TensorSpec { name: self.name.as_str().into(), dtype: self.dtype, shape }
    }
}
