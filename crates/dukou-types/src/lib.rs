//! What crosses rooms: tensors, signatures, requests, answers and failures.
//!
//! This crate knows nothing else of dukou. Everything a request carries from the socket to a model
//! and back is one of the types below, so that no dialect learns of a backend and no backend of a
//! dialect.

mod buffer;
mod code;
mod copied;
mod declared;
mod dtype;
mod ids;
mod request;
mod signature;
mod tensor;
mod trace;

pub use buffer::{Buffer, SharedBytes};
pub use code::{ErrorCode, Failure, Family};
pub use copied::{LARGE, copied_bytes, note_copied_in, note_copied_out};
pub use declared::{DeclaredSignature, DeclaredTensor};
pub use dtype::DType;
pub use ids::{Arm, Digest, ModelName, RequestId, Revision, Version};
pub use request::{CancelFlag, InferRequest, InferResponse, Param, Principal, Requested, ServedBy};
pub use signature::{Dim, Signature, TensorSpec};
pub use tensor::{Data, Tensor};
pub use trace::{Trace, TraceParent};
