//! Who may speak on a listener, and with which models: the part of the table that [`crate::access`]
//! enforces. Nothing secret stands in it in clear.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Who may speak on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Anonymous, with foreign `Host` and `Origin` refused.
    Loopback,
    /// Whoever holds a principal's key; health for anybody.
    Keys,
    /// Anonymous.
    Open,
}

/// Where a listener's certificate lies. Read again when a file changes; a bad one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain, PEM, the server's own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Whoever holds the key `dk_<id>_<secret>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalKey {
    /// The key's id, by which it is found: 12 lower-case hex digits.
    pub id: String,
    /// Whose key it is, for logs.
    pub name: dukou_types::ModelName,
    /// SHA-256 of the secret's text, hex.
    pub secret_sha256: String,
    /// What it may do. What is not granted is refused.
    pub grants: Vec<Grant>,
    /// How often it may ask; none: as often as there is room.
    #[serde(deserialize_with = "Option::deserialize")]
    pub rate: Option<Rate>,
    /// It is good before this second since 1970; none: for ever.
    #[serde(deserialize_with = "Option::deserialize")]
    pub expires: Option<u64>,
}

/// What a key may do, with which models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// What.
    pub role: Role,
    /// With which models; `*` is every one.
    pub models: Vec<String>,
}

/// What can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Ask a model, and read what it takes.
    Predict,
    /// Load, unload and change models.
    Manage,
    /// Read the server's metrics; it is of the whole server and counts with `*` alone.
    ReadMetrics,
}

impl Role {
    /// As it is written in tables and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Manage => "manage",
            Self::ReadMetrics => "read-metrics",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often a key may ask; more is refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many requests
    pub requests: u64,
    /// in so many seconds.
    pub seconds: u64,
    /// Requests that may come at once after a silence.
    pub burst: u64,
}
