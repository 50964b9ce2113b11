//! The Open Inference Protocol, version 2, over REST: server and client.
//!
//! `address` reads a head, `decode` a body against a signature, `encode` an answer; `client` is the
//! other side. Known deviations from Triton, each on purpose:
//!
//! - `/v2/models/NAME/aliases/ALIAS/…` addresses an alias; the protocol has no word for it.
//! - `GET /v2/models` and `GET /` list what is served, as KServe does.
//! - Health and readiness have JSON bodies, as the protocol says and KServe's client requires.
//! - NaN and the infinities are refused on the way in and written as `null` on the way out, since a
//!   bare `NaN` is not JSON; raw tensor data carries them.
//! - A narrow integer that does not fit is refused, not cut off.
//!
//! As with Triton the nesting of `data` is not compared with `shape`, only the number of elements is.

mod address;
mod bare;
mod binary;
mod classification;
mod client;
mod decode;
mod element;
mod encode;
mod inspect;
mod metadata;
pub(crate) mod parameters;
mod peer;
mod repository;
mod tensor;

pub use address::address;
pub(crate) use address::recognize;
pub use binary::HEADER_LENGTH;
pub(crate) use binary::{push_raw, strings as raw_strings};
pub use classification::classified;
pub use client::{
    Answer, RequestOptions, decode_error, decode_response, encode_request, parse_tensors,
};
pub use decode::decode;
pub(crate) use decode::{check_symbols, chosen, missing_inputs};
pub use encode::{encode, encode_error};
pub(crate) use inspect::data_type;
pub use inspect::{Configuration, Spent, Statistics, encode_config, encode_statistics};
pub(crate) use metadata::EXTENSIONS;
pub use metadata::{
    ModelDescription, encode_live, encode_model_list, encode_model_metadata, encode_model_ready,
    encode_ready, encode_server_metadata,
};
pub use parameters::{SUBJECT_RULE, is_subject};
pub(crate) use peer::{READY, infer_path, model_path, parse_signature, refusal, spec, written};
pub use repository::{decode_change, decode_index, encode_index, encode_outcome};
