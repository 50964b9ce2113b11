//! The references that a bench run is held against. Kept simple and pinned: a change here changes
//! what every published ratio means.

pub mod calls;
pub mod echo;
pub mod flags;
