//! Tables put into a real engine, with real models: swapped, refused, restarted.
//!
//! Needs ONNX Runtime's library in `ORT_DYLIB_PATH` and the models of `conformance/models`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod after;
mod api;
mod artifacts;
mod caching;
mod graphs;
mod loaded;
mod loading;
mod peers;
mod remotes;
mod riding;
mod support;
mod swapping;
