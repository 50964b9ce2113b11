//! TorchServe's services over gRPC: `InferenceAPIsService` and `ManagementAPIsService`, as a server speaks
//! them.
//!
//! What a model takes and gives is what [`crate::torchserve`] says: an entry of the map `input` is a part of
//! a form, and `prediction` is the body that REST would answer with. A streamed prediction is one message,
//! for no model here gives more; a stream of requests (`StreamPredictions2`) is not answered.

mod address;
mod client;
mod decode;
mod describe;
mod error;
mod management;

pub(crate) use address::recognize;
pub use address::{INFERENCE, MANAGEMENT, address_message};
pub(crate) use client::{check_health, decode_response, encode_request, infer_path, ping_page};
pub use decode::{decode, encode};
pub use describe::{encode_health, encode_page, encode_workers};
pub use error::{encode_words, status};
pub use management::{decode_change, encode_outcome};

#[cfg(test)]
#[path = "calls_test.rs"]
mod tests;
