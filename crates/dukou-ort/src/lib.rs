//! The `onnx` backend: ONNX Runtime in process, loaded at start from a shared library.
//!
//! [`Runtime::load`] opens the library once; [`Runtime::open`] turns a graph into an [`OrtModel`],
//! which implements `Execute`. A graph is read by our own few protobuf messages *before* the runtime
//! sees it, so that a broken file, weights outside the model's folder and the like are refused in a
//! sentence of ours. Weights of larger models are mapped once a process and shared by all sessions.
#![allow(unsafe_code, reason = "the C API of ONNX Runtime; each block says why it is sound")]

mod api;
mod chunks;
mod compiled;
mod cut;
mod external;
mod graph;
mod index;
mod model;
mod open;
mod pool;
mod prove;
mod providers;
mod refusal;
mod run;
mod runtime;
mod scatter;
mod session;
mod signature;
mod source;

pub use chunks::mapped_bytes;
pub use model::{OrtModel, Residency};
pub use open::opening_bytes;
pub use providers::{CPU, Device, PassedOver, Provider};
pub use runtime::{LoadError, Runtime};
pub use source::{GraphSource, OpenSpec};
