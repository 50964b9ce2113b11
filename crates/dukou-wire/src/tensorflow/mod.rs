//! TensorFlow Serving's REST protocol, which KServe's V1 protocol is a part of: what a server speaks.
//!
//! A model's one signature is `serving_default`. Known deviations from `tensorflow_model_server`, each
//! on purpose:
//!
//! - An integer that its dtype does not hold is refused, not wrapped.
//! - A half goes in and out as a number; TensorFlow Serving refuses it.
//! - A string of an output that is not UTF-8 is written as `{"b64"}` whatever its name ends in, for
//!   bare bytes are no JSON.
//! - Requests are checked against the declared shape before they run.
//! - `GET /v1/models` lists the models, and a model's status carries KServe's `name` and `ready`
//!   beside its versions. JSON is not indented.

mod address;
mod client;
mod decode;
mod describe;
mod encode;
mod error;
mod example_json;
mod examples;
mod results;
mod values;

pub(crate) use address::recognize;
pub(crate) use client::{
    check_status, decode_response, encode_columns, encode_instances, infer_path, lacking,
    metadata_path, model_path, parse_signature, rankless,
};
pub use decode::decode;
pub use describe::{VersionState, encode_metadata, encode_status};
pub use encode::encode;
pub(crate) use encode::{push_named, push_row, push_rows, push_tensor, rows_of};
pub(crate) use error::unknown;
pub use error::{encode_error, status};
pub(crate) use examples::{Example, Examples, Feature, tensors as example_tensors};
pub(crate) use results::{check as check_telling, classes, values};
pub(crate) use values::{Lease, Values, blame, blame_as, check_shapes, object_stands};

/// The name of a model's only signature.
pub const SIGNATURE: &str = "serving_default";
