//! The blobs of an encrypted version: opened into memory that belongs to no file.
//!
//! A blob's key follows from the model's key and the content's sha256, so that no key ever meets two
//! contents: the nonce may be zero (`spec/artifact.md`, "Encryption").

use dukou_types::{ErrorCode, Failure};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey},
    digest, hkdf,
};

use super::{blobs::hex, keyring::KEY_BYTES};

/// What the media types of an encrypted version's blobs end with.
pub(super) const ENCRYPTED: &str = "+encrypted";
const TAG_BYTES: usize = 16;

/// The key of one model's versions.
pub(super) struct ModelKey {
    /// 32 hex digits.
    pub id: String,
    key: [u8; KEY_BYTES],
}

impl ModelKey {
    pub fn of(key: [u8; KEY_BYTES]) -> Self {
        let named = [&b"dukou model key\0"[..], &key].concat();
        Self { id: hex(&digest::digest(&digest::SHA256, &named).as_ref()[..16]), key }
    }

    /// The content of a blob, of the media type without its suffix. `salt` is the content's sha256, or
    /// what stands for it.
    pub fn open(
        &self,
        media_type: &str,
        salt: &[u8],
        sealed: &[u8],
        what: &str,
    ) -> Result<Vec<u8>, Failure> {
        self.try_open(media_type, salt, sealed).ok_or_else(|| {
            Failure::new(
                ErrorCode::TrustBadCiphertext,
                format!(
                    "{what} is not what model key `{}` made of the content that the config names",
                    self.id
                ),
            )
        })
    }

    fn try_open(&self, media_type: &str, salt: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (content, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let mut content = content.to_vec();
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.key);
        let derived = extracted.expand(&[b"dukou blob v1"], &AES_256_GCM).ok()?;
        let key = LessSafeKey::new(UnboundKey::from(derived));
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        key.open_in_place_separate_tag(
            nonce,
            Aad::from(media_type.as_bytes()),
            Tag::from(*tag),
            &mut content,
            0..,
        )
        .ok()?;
        Some(content)
    }
}

/// What a wrapped model key is bound to.
pub(super) fn about(model_key: &str, key: &str, model: &str) -> Vec<u8> {
    [b"dukou model key v1", model_key.as_bytes(), key.as_bytes(), model.as_bytes()].join(&0)
}
