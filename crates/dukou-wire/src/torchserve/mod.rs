//! TorchServe's REST interface: inference, and the management of models.
//!
//! A model is run by its graph and not by a handler of its own, so what a body may be is fixed here: JSON
//! (bare values, `instances`, `data`, inputs by name), one array as NumPy saves it, raw little-endian
//! elements, or a form whose parts are inputs by name. The answer is what a handler without postprocessing
//! gives. `docs/dialects.md` writes it down. Known deviations, each on purpose:
//!
//! - A body that does not fit is the asker's mistake (400) and not a failed prediction (503).
//! - A key that is missing or not good is 401, and 403 where it does not suffice; TorchServe says 400.
//! - Beside `code`, `type` and `message` stand our own code, what to do and the request's id.
//! - Answers carry a content type, and JSON is not indented.

mod address;
mod client;
mod decode;
mod describe;
mod encode;
mod error;
mod form;
mod inputs;
mod management;

pub(crate) use address::recognize;
pub(crate) use client::{
    PING, check_health, decode_response, document, encode_request, infer_path, refusal,
};
pub use decode::{decode, decode_parts};
pub use describe::{
    WorkersOf, encode_api_description, encode_healthy, encode_model_page, encode_workers,
};
pub use encode::encode;
pub(crate) use error::said;
pub use error::{encode_error, status};
pub use management::{decode_change, encode_outcome};
pub(crate) use management::{name_of, sentence};
