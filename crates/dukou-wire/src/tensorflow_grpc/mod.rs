//! TensorFlow Serving's services over gRPC: `PredictionService` and `ModelService`, as a server speaks them.
//!
//! Known deviations from `tensorflow_model_server`, each on purpose:
//!
//! - An integer that its dtype does not hold is refused, not wrapped.
//! - Requests are checked against the declared shape before they run.
//! - A tensor whose one value stands for many may not become larger than a message may be.

mod address;
mod client;
mod decode;
mod describe;
mod encode;
mod error;
mod examples;
mod reload;
mod tensor;

pub(crate) use address::recognize;
pub use address::{MODELS, PREDICTIONS, address_message};
pub(crate) use client::{
    check_status, decode_response, encode_request, infer_path, metadata_page, parse_signature,
    status_page,
};
pub use decode::decode;
pub use describe::{encode_metadata, encode_status};
pub use encode::encode;
pub use error::{encode_words, status};
pub use reload::{decode_change, encode_reloaded};
