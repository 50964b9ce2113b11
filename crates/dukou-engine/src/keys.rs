//! Keys as requests show them, and as the table knows them: by id, with the hash of the secret.
//!
//! A key is `dk_<id>_<secret>`. The secret has 256 bits, so that its hash needs no salt and no slowness:
//! there is nothing to guess. What is refused takes the same steps whether the id is known or not.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use dukou_types::{ModelName, Principal};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use crate::{
    rate::Bucket,
    table::{PrincipalKey, Role},
};

/// Before the id.
const PREFIX: &str = "dk_";
/// The longest text that is looked at: a key has 59 letters.
const LONGEST: usize = 128;

/// The keys of a table.
#[derive(Debug, Default)]
pub struct Keys(HashMap<Box<str>, Arc<Key>>);

/// One key, compiled.
#[derive(Debug)]
pub struct Key {
    /// Whose it is.
    pub principal: Principal,
    /// How often it may ask. It outlives the table, so that a new one gives nobody a new allowance.
    pub bucket: Option<Arc<Bucket>>,
    secret: [u8; 32],
    expires: Option<SystemTime>,
    predict: Models,
    manage: Models,
    reads_metrics: bool,
}

/// Models that a role is granted for.
#[derive(Debug)]
enum Models {
    All,
    Named(HashSet<Box<str>>),
}

/// Why a key is not good. Its holder hears only that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotGood {
    /// It has not the form of a key.
    Malformed,
    /// No such id, or another secret: revoked, rotated, forged, of another installation.
    Unknown,
    /// It was good once.
    Expired,
}

impl NotGood {
    /// For the log alone.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "it has not the form of a key",
            Self::Unknown => "no key has this id and this secret",
            Self::Expired => "it has expired",
        }
    }
}

impl Keys {
    /// Compiles the principals of a table; `before` are those of the table before.
    pub fn compile(principals: &[PrincipalKey], before: Option<&Self>) -> Self {
        let keys = principals.iter().map(|principal| {
            let kept = before.and_then(|keys| keys.0.get(&*principal.id));
            let bucket = principal.rate.map(|rate| match kept.and_then(|k| k.bucket.as_ref()) {
                Some(bucket) if bucket.rate() == rate => Arc::clone(bucket),
                _ => Arc::new(Bucket::new(rate)),
            });
            let key = Key {
                principal: Principal::Named(principal.name.as_str().into()),
                bucket,
                secret: unhex(&principal.secret_sha256),
                expires: principal
                    .expires
                    .map(|second| SystemTime::UNIX_EPOCH + Duration::from_secs(second)),
                predict: Models::granted(principal, Role::Predict),
                manage: Models::granted(principal, Role::Manage),
                reads_metrics: Models::granted(principal, Role::ReadMetrics).is_all(),
            };
            (principal.id.as_str().into(), Arc::new(key))
        });
        Self(keys.collect())
    }

    /// The key that a text is.
    ///
    /// # Errors
    /// Why it is none of ours.
    pub fn find(&self, text: &str, now: SystemTime) -> Result<&Arc<Key>, NotGood> {
        let (id, secret) = parse(text).ok_or(NotGood::Malformed)?;
        let key = self.0.get(id);
        let came = digest(&SHA256, secret.as_bytes());
        let wanted = key.map_or([0; 32], |key| key.secret);
        let same: bool = came.as_ref().ct_eq(&wanted).into();
        match key {
            Some(key) if same && key.expires.is_none_or(|end| now < end) => Ok(key),
            Some(_) if same => Err(NotGood::Expired),
            _ => Err(NotGood::Unknown),
        }
    }
}

impl Key {
    /// For the log alone.
    pub fn whose(&self) -> String {
        match &self.principal {
            Principal::Named(name) => format!("the key of `{name}`"),
            other => format!("{other:?}"),
        }
    }

    /// Whether it may do this; with no model in particular, whether with any.
    pub fn may(&self, role: Role, model: Option<&ModelName>) -> bool {
        let models = match role {
            Role::ReadMetrics => return self.reads_metrics,
            Role::Predict => &self.predict,
            Role::Manage => &self.manage,
        };
        match (models, model) {
            (Models::All, _) => true,
            (Models::Named(names), Some(model)) => names.contains(model.as_str()),
            (Models::Named(names), None) => !names.is_empty(),
        }
    }
}

impl Models {
    fn granted(principal: &PrincipalKey, role: Role) -> Self {
        let grants = principal.grants.iter().filter(|grant| grant.role == role);
        let names: HashSet<Box<str>> =
            grants.flat_map(|grant| &grant.models).map(|name| name.as_str().into()).collect();
        if names.contains("*") { Self::All } else { Self::Named(names) }
    }

    const fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

/// `dk_<id>_<secret>` → id and secret.
fn parse(text: &str) -> Option<(&str, &str)> {
    if text.len() > LONGEST {
        return None;
    }
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let good =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (!id.is_empty() && secret.len() >= 32 && good(secret)).then_some((id, secret))
}

/// The bytes of 64 hex digits; the table has checked that they are.
fn unhex(text: &str) -> [u8; 32] {
    let digit = |place: usize| {
        let byte = text.as_bytes().get(place).copied().unwrap_or(b'0');
        char::from(byte).to_digit(16).unwrap_or(0) as u8
    };
    std::array::from_fn(|index| digit(2 * index) << 4 | digit(2 * index + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Grant, Rate};

    const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_";

    fn hex(text: &str) -> String {
        digest(&SHA256, text.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }

    fn principal(id: &str, grants: &[(Role, &str)]) -> PrincipalKey {
        PrincipalKey {
            id: id.into(),
            name: ModelName::parse("billing").unwrap(),
            secret_sha256: hex(SECRET),
            grants: grants
                .iter()
                .map(|&(role, model)| Grant { role, models: vec![model.into()] })
                .collect(),
            rate: Some(Rate { requests: 1, seconds: 1, burst: 1 }),
            expires: Some(1000),
        }
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn a_key_is_found_by_its_whole_text_until_it_expires() {
        let keys = Keys::compile(&[principal("0123456789ab", &[])], None);
        let good = format!("dk_0123456789ab_{SECRET}");
        assert!(keys.find(&good, at(999)).is_ok());
        assert_eq!(keys.find(&good, at(1000)).unwrap_err(), NotGood::Expired);
        for (text, why) in [
            ("", NotGood::Malformed),
            ("dk_", NotGood::Malformed),
            ("dk_0123456789ab", NotGood::Malformed),
            ("dk_0123456789ab_short", NotGood::Malformed),
            (&good[..58], NotGood::Unknown),
            (&good.replace("dk_", "DK_"), NotGood::Malformed),
            (&good.replace("AAAA_", "AAAB_"), NotGood::Unknown),
            (&good.replace("0123456789ab", "0123456789ac"), NotGood::Unknown),
            (&format!("{good}A"), NotGood::Unknown),
            (&format!("{good} "), NotGood::Malformed),
            (&format!("dk_0123456789ab_{}", "A".repeat(5000)), NotGood::Malformed),
            (&format!("dk_0123456789ab_{}", hex(SECRET)), NotGood::Unknown),
        ] {
            assert_eq!(keys.find(text, at(0)).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn what_is_not_granted_is_refused() {
        let model = |name| ModelName::parse(name).unwrap();
        let keys = Keys::compile(
            &[principal("a", &[(Role::Predict, "digits"), (Role::ReadMetrics, "digits")])],
            None,
        );
        let key = &keys.0["a"];
        assert!(key.may(Role::Predict, Some(&model("digits"))));
        assert!(key.may(Role::Predict, None));
        assert!(!key.may(Role::Predict, Some(&model("letters"))));
        assert!(!key.may(Role::Manage, Some(&model("digits"))));
        assert!(!key.may(Role::Manage, None));
        assert!(!key.may(Role::ReadMetrics, None), "metrics are of the whole server");
        let all = Keys::compile(
            &[principal("a", &[(Role::Manage, "*"), (Role::ReadMetrics, "*")])],
            None,
        );
        assert!(all.0["a"].may(Role::Manage, Some(&model("letters"))));
        assert!(all.0["a"].may(Role::ReadMetrics, None));
        assert!(!all.0["a"].may(Role::Predict, Some(&model("letters"))));
    }

    #[test]
    fn a_new_table_gives_no_new_allowance() {
        let principals = [principal("a", &[])];
        let before = Keys::compile(&principals, None);
        let after = Keys::compile(&principals, Some(&before));
        let bucket = |keys: &Keys| Arc::clone(keys.0["a"].bucket.as_ref().unwrap());
        assert!(Arc::ptr_eq(&bucket(&before), &bucket(&after)));
        let mut faster = principals;
        faster[0].rate = Some(Rate { requests: 2, seconds: 1, burst: 1 });
        assert!(!Arc::ptr_eq(&bucket(&before), &bucket(&Keys::compile(&faster, Some(&before)))));
    }
}
