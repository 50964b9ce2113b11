//! A model that other servers answer: dukou's engines, or whoever speaks one of its dialects.
//!
//! Knows requests and answers ([`dukou_types`]) and that a dialect writes them ([`dukou_wire`]), whichever
//! it is; nothing of tables or of the request path. Decisions are pure and stand alone: which revision callers are given
//! ([`gate`]), which replica is asked ([`balance`]), whether it is fit ([`standing`]), whether it may be
//! asked once more ([`budget`]). What reaches the network is in [`remote`] and below it.

mod address;
pub mod balance;
pub mod budget;
mod connection;
pub mod gate;
mod key;
mod opening;
mod pool;
mod random;
mod refusal;
pub mod remote;
mod replica;
pub mod standing;
mod together;
mod upstream;
mod watch;

pub use address::Address;
pub use remote::{Answered, Remote};
pub use replica::ReplicaState;
pub use upstream::Spec;
