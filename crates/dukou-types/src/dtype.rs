//! Element types, named as the Open Inference Protocol names them.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// The element type of a tensor. The serialized names are V2's (`FP32`, `INT64`, `BYTES` …).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names are the protocol's")]
pub enum DType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Strings or blobs: elements of any length.
    Bytes,
}

impl DType {
    /// Every dtype, in the order of the protocol's table.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The protocol's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The dtype with this protocol name, exact in case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of one element; none for [`DType::Bytes`].
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// One element as a number, from its little-endian bytes; `None` where they are not as many, and for
    /// [`DType::Bytes`].
    pub fn number(self, element: &[u8]) -> Option<f64> {
        use bytemuck::pod_read_unaligned as read;
        if self.size()? != element.len() {
            return None;
        }
        Some(match self {
            Self::Fp64 => read(element),
            Self::Fp32 => f64::from(read::<f32>(element)),
            Self::Fp16 => read::<f16>(element).to_f64(),
            Self::Bf16 => read::<bf16>(element).to_f64(),
            Self::Int64 => read::<i64>(element) as f64,
            Self::Int32 => f64::from(read::<i32>(element)),
            Self::Int16 => f64::from(read::<i16>(element)),
            Self::Int8 => f64::from(read::<i8>(element)),
            Self::Uint64 => read::<u64>(element) as f64,
            Self::Uint32 => f64::from(read::<u32>(element)),
            Self::Uint16 => f64::from(read::<u16>(element)),
            Self::Uint8 | Self::Bool => f64::from(element[0]),
            Self::Bytes => return None,
        })
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
