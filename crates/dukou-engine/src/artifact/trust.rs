//! Whose signatures count.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dukou_types::{ErrorCode, Failure};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::blobs::sha256;

/// What a SubjectPublicKeyInfo of an uncompressed P-256 point begins with (RFC 5480): two lengths, the
/// identifiers of `ecPublicKey` and `prime256v1`, and a bit string of 66 bytes.
pub(super) const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// `04`, x, y.
const POINT_BYTES: usize = 65;

/// Whose signatures count, and whether one is demanded.
#[derive(Clone, Debug)]
pub struct TrustPolicy {
    require_signature: bool,
    keys: Vec<Key>,
}

/// A public key that is trusted.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: String,
    point: [u8; POINT_BYTES],
}

impl Key {
    /// Whether this key made the signature (DER) over the message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ring::error::Unspecified> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.point).verify(message, signature)
    }
}

impl TrustPolicy {
    /// From the table: `(id, PEM of a SubjectPublicKeyInfo)` each. `deploy.invalid` where a PEM is not a
    /// P-256 key or its id is not the one that `spec/artifact.md` gives it.
    pub fn new<'a>(
        require_signature: bool,
        keys: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Failure> {
        let keys = keys.into_iter().map(|(id, pem)| key(id, pem)).collect::<Result<_, _>>()?;
        Ok(Self { require_signature, keys })
    }

    /// Whether a version without a good signature is refused.
    pub fn require_signature(&self) -> bool {
        self.require_signature
    }

    /// How many keys are trusted.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

fn key(id: &str, pem: &str) -> Result<Key, Failure> {
    let invalid = |why: String| {
        Failure::new(
            ErrorCode::DeployInvalid,
            format!("trusted key `{}`: {why}", id.escape_default()),
        )
    };
    let der = pem
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")
        .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
        .map(|body| body.split_ascii_whitespace().collect::<String>())
        .and_then(|body| STANDARD.decode(body).ok())
        .ok_or_else(|| invalid("`pem` is not a public key in PEM".to_owned()))?;
    let point = der
        .strip_prefix(&P256_PREFIX)
        .and_then(|point| <[u8; POINT_BYTES]>::try_from(point).ok())
        .filter(|point| point[0] == 4)
        .ok_or_else(|| {
            invalid("`pem` is a public key of another kind than ECDSA P-256".to_owned())
        })?;
    let own = key_id(&der);
    if own != id {
        return Err(invalid(format!("its id is `{own}`")));
    }
    Ok(Key { id: own, point })
}

/// The sha256 of the key as PEM text: base64 in lines of 64, every line ended by LF.
pub(super) fn key_id(der: &[u8]) -> String {
    sha256(pem(der).as_bytes())
}

pub(super) fn pem(der: &[u8]) -> String {
    let mut text = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    for (position, letter) in STANDARD.encode(der).chars().enumerate() {
        if position > 0 && position.is_multiple_of(64) {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push_str("\n-----END PUBLIC KEY-----\n");
    text
}
