//! Opens a packaged version and believes nothing: every digest, the signature and whose it is.
//!
//! `spec/artifact.md` is the format. The engine stands alone here: no Python, no registry. What comes
//! out of [`Store::open_version`] has been checked to the last byte. What was encrypted comes out in
//! memory alone.

mod blobs;
mod bundle;
mod keyring;
mod sealed;
mod store;
mod trust;

#[cfg(test)]
mod tests;

pub use keyring::KeySource;
pub use store::{Store, VerifiedVersion};
pub use trust::TrustPolicy;
