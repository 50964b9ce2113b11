//! What tests of the data plane share: a backend that does what it is told, requests to give it, and a
//! clock that stands still. For tests alone; nothing that ships depends on it.

mod build;
mod fake;
mod time;

pub use build::{request, signature, values};
pub use fake::{Deed, Fake, Gate, Seen};
pub use time::ManualTime;
