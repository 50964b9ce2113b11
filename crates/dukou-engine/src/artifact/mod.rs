//! Opens a packaged version and believes nothing: every digest, the signature and whose it is.
//!
//! `spec/artifact.md` is the format. The engine stands alone here: no Python, no registry. What comes
//! out of [`Store::open_version`] has been checked to the last byte.

mod blobs;
mod bundle;
mod store;
mod trust;

#[cfg(test)]
mod tests;

pub use store::{Store, VerifiedVersion};
pub use trust::TrustPolicy;
