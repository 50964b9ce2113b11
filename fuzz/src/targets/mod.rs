//! The decoders, each with what it is asked to read.

pub mod head;
pub mod keras;
pub mod management;
pub mod peers;
pub mod stored;
pub mod tensorflow;
pub mod torchserve;
pub mod v2;
