//! What a model takes and gives.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::DType;

/// One dimension of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Exactly this many.
    Fixed(usize),
    /// Any number, the same wherever the symbol stands in one request.
    Symbol(Arc<str>),
    /// Any number.
    Any(()),
}

impl Dim {
    /// As the protocols print it: -1 for what is not fixed.
    pub fn wire(&self) -> i64 {
        match self {
            Self::Fixed(extent) => i64::try_from(*extent).unwrap_or(i64::MAX),
            Self::Symbol(_) | Self::Any(()) => -1,
        }
    }
}

/// A named input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The name in the graph.
    pub name: Arc<str>,
    /// The element type.
    pub dtype: DType,
    /// The declared shape.
    pub shape: Vec<Dim>,
}

impl TensorSpec {
    /// The declared shape with -1 for what is not fixed.
    pub fn wire_shape(&self) -> Vec<i64> {
        self.shape.iter().map(Dim::wire).collect()
    }

    /// Whether `shape` is one that this spec allows, symbols aside.
    pub fn admits(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(dim, &extent)| match dim {
                Dim::Fixed(fixed) => *fixed == extent,
                Dim::Symbol(_) | Dim::Any(()) => true,
            })
    }
}

/// Inputs and outputs in the model's own order.
///
/// `batchable` says that the first dimension of every input and output is the same free one *and*
/// that a row's answer was seen not to depend on its neighbours (the engine proves it at load).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What a request must carry.
    pub inputs: Vec<TensorSpec>,
    /// What an answer carries.
    pub outputs: Vec<TensorSpec>,
    /// Whether requests may ride together along the first dimension.
    #[serde(default)]
    pub batchable: bool,
}

impl Signature {
    /// The position of the input with this name.
    pub fn input(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|spec| &*spec.name == name)
    }

    /// The position of the output with this name.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|spec| &*spec.name == name)
    }

    /// Whether every first dimension is free: what batching needs before it is proved.
    pub fn has_free_rows(&self) -> bool {
        !self.inputs.is_empty()
            && self
                .inputs
                .iter()
                .chain(&self.outputs)
                .all(|spec| matches!(spec.shape.first(), Some(Dim::Symbol(_) | Dim::Any(()))))
    }
}
