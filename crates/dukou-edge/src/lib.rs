//! A device at the edge keeps itself up to date, alone: the folder that it works in, and what it decides.
//!
//! A folder has two slots, each a small file that names a version, over one store of blobs. The agent
//! follows a tag of a registry, fetches what it lacks of a new version into the store, has the engine try
//! it ([`Device`]), and only then moves the pointer to the other slot. Power may fail at any moment: the
//! pointer always leads to a version that is whole. `spec/edge.md` is the contract.
//!
//! This crate knows nothing of models and of the engine: [`Device`] is all that it sees of them.

mod agent;
mod fetch;
mod files;
mod login;
mod manifest;
mod memory;
mod plan;
mod registry;
mod report;
mod settings;
mod slots;
mod status;
mod store;
mod waiting;

pub use agent::{Agent, Device};
pub use manifest::Candidate;
pub use memory::Memory;
pub use plan::{Facts, Step, plan};
pub use settings::Settings;
pub use slots::{Name, Slot, Slots};
pub use status::status;
pub use store::BlobStore;
