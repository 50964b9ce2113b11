//! Identifiers as types, each with one constructor that checks.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The checked value, or the text given back where it is not one.
            pub fn parse(text: &str) -> Result<Self, String> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(text.to_owned()) }
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text).map_err(|text| format!("`{text}` is not a valid {}", stringify!($name)))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

name_type!(
    /// A model's name: 1 to 128 of letters, digits, `.`, `_`, `-`, beginning with a letter or digit.
    ModelName,
    is_name
);
name_type!(
    /// A version's label within its model: digits (`3`), or a name for a bare file (`1`).
    Version,
    is_name
);
name_type!(
    /// The revision of a serving table.
    Revision,
    is_name
);
name_type!(
    /// The arm of a rollout that a request fell to (`main`, `canary` …).
    Arm,
    is_name
);
name_type!(
    /// `sha256:` and 64 lower-case hex digits.
    Digest,
    |text| text
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
);

impl Version {
    /// The number of a label that says no more than a number: `2` of `2.0`, as clients of TorchServe have it.
    pub fn number(&self) -> Option<&str> {
        let number = self.0.strip_suffix(".0")?;
        number.bytes().all(|b| b.is_ascii_digit()).then_some(number)
    }
}

impl Digest {
    /// The 64 hex digits: the blob's file name in an OCI layout.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

/// The engine's own id of a request: unique within an epoch, printed as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_is_a_number_with_a_zero_is_that_number() {
        let number = |label| Version::parse(label).unwrap().number().map(str::to_owned);
        assert_eq!(number("2.0").as_deref(), Some("2"));
        for other in ["2", "2.1", "v2.0", "1.2.0", "2.00"] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["digits", "a.b-c_9", "7"] {
            assert!(ModelName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".hidden", "a/b", "a b", "é", &"x".repeat(129)] {
            assert!(ModelName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_is_sha256() {
        let hex = "ab".repeat(32);
        assert_eq!(Digest::parse(&format!("sha256:{hex}")).unwrap().hex(), hex);
        assert!(Digest::parse(&hex).is_err());
        assert!(Digest::parse(&format!("sha256:{}", hex.to_uppercase())).is_err());
    }
}
