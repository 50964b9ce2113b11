//! The dialect of a small Keras server, our own: `POST /predict`, `/{model}/predict` and
//! `/{model}/evaluate`. `docs/dialects.md` writes it down.
//!
//! A body is `{"instances": …}` or `{"data": …}` (a row an element), `{"inputs": …}` (whole tensors), a
//! bare list of rows, one NPY array, or pictures, bare or as parts of a form. The answer is `predictions`, a row an element, with `classes`
//! where the model's classes have names; of `evaluate` it is `metrics`, by `labels` in the body.

mod address;
mod client;
mod decode;
mod encode;
pub(crate) mod npy;
mod picture;
mod score;

pub(crate) use address::recognize;
pub(crate) use client::infer_path;
pub use decode::decode;
pub use encode::encode;
pub use npy::read as read_npy;
