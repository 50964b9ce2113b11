//! The operating system's unsafe edges, behind safe types: mapped memory, sockets, processes.
#![allow(
    unsafe_code,
    reason = "this crate and dukou-ort are where `unsafe` may stand, each block with its reason"
)]

pub mod children;
mod mapped;
mod process;
pub mod sockets;

pub use mapped::FileBytes;
pub use process::{effective_user, forbid_dumps, give_memory_back, go_last, raise_descriptors};
