//! The Open Inference Protocol, version 2, over gRPC, with Triton's extensions: server and client.
//!
//! Known deviations from Triton, each on purpose:
//!
//! - A narrow integer that does not fit is refused, not cut off.
//! - A truth value that is neither 0 nor 1 is refused, for it is undefined to what runs the model.
//! - `version` takes an alias's name too.

mod address;
mod client;
mod decode;
mod encode;
mod inspect;
mod messages;
mod peer;
mod repository;

pub(crate) use address::recognize;
pub use address::{SERVICE, address_message, client_id};
pub use client::{decode_response, encode_request};
pub use decode::decode;
pub use encode::{encode, encode_streamed, encode_streamed_failure};
pub use inspect::{encode_config, encode_statistics};
pub use messages::{
    encode_live, encode_model_metadata, encode_model_ready, encode_no_regions, encode_ready,
    encode_server_metadata,
};
pub(crate) use peer::{
    check_ready, decode_response_of, infer_path, metadata_page, parse_signature, ready_page,
    written,
};
pub use repository::{decode_change, decode_index, encode_changed, encode_index};
