//! One signature: a sigstore bundle with a DSSE envelope over an in-toto statement.
//!
//! What is believed and in which order: the envelope's signature by a trusted key, over the bytes of
//! the payload as DSSE encodes them; only then what the payload says.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dukou_types::{ErrorCode, Failure};
use ring::digest;
use serde::Deserialize;

use super::{TrustPolicy, blobs::hex};

const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
const RESOURCE: &str = "manifest.json";

/// What a bundle is worth, where it is not simply bad.
pub(super) enum Verdict {
    /// A trusted key signed exactly this manifest.
    Good {
        /// The key's id.
        key: String,
    },
    /// Nobody whom we trust is said to have signed it.
    UnknownKey {
        /// The id that the bundle names.
        hint: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Hint,
}

#[derive(Deserialize)]
struct Hint {
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signed>,
}

#[derive(Deserialize)]
struct Signed {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    digest: Sha256,
}

#[derive(Deserialize)]
struct Sha256 {
    sha256: String,
}

#[derive(Deserialize)]
struct Predicate {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

fn bad(why: impl std::fmt::Display) -> Failure {
    Failure::new(
        ErrorCode::TrustBadSignature,
        format!("the signature does not fit the version: {why}"),
    )
}

/// Judges a bundle over a manifest.
pub(super) fn judge(
    bundle: &[u8],
    manifest: &[u8],
    trust: &TrustPolicy,
) -> Result<Verdict, Failure> {
    let bundle: Bundle = serde_json::from_slice(bundle)
        .map_err(|error| bad(format!("it is not a bundle: {error}")))?;
    let envelope = bundle.dsse_envelope;
    for (said, known) in [(&bundle.media_type, BUNDLE_TYPE), (&envelope.payload_type, PAYLOAD_TYPE)]
    {
        if said != known {
            return Err(bad(format!("its type is `{}`, not `{known}`", said.escape_default())));
        }
    }
    let hint = bundle.verification_material.public_key.hint;
    let Some(key) = trust.key(&hint) else {
        return Ok(Verdict::UnknownKey { hint: hint.escape_default().take(64).collect() });
    };
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| bad("it is not base64"));
    let payload = decode(&envelope.payload)?;
    let signature = envelope.signatures.first().ok_or_else(|| bad("the envelope holds none"))?;
    key.verify(&encode(&payload), &decode(&signature.sig)?)
        .map_err(|_| bad(format!("it was not made by key `{hint}` over this statement")))?;
    check_statement(&payload, manifest)?;
    Ok(Verdict::Good { key: hint })
}

/// DSSE's pre-authentication encoding: what is really signed.
pub(super) fn encode(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn check_statement(payload: &[u8], manifest: &[u8]) -> Result<(), Failure> {
    let statement: Statement = serde_json::from_slice(payload)
        .map_err(|error| bad(format!("its statement cannot be read: {error}")))?;
    for (said, known) in
        [(&statement.kind, STATEMENT_TYPE), (&statement.predicate_type, PREDICATE_TYPE)]
    {
        if said != known {
            return Err(bad(format!(
                "its statement is `{}`, not `{known}`",
                said.escape_default()
            )));
        }
    }
    let ours = digest::digest(&digest::SHA256, manifest);
    let root = digest::digest(&digest::SHA256, ours.as_ref());
    let [resource] = &statement.predicate.resources[..] else {
        return Err(bad(format!(
            "it covers {} files, not `{RESOURCE}` alone",
            statement.predicate.resources.len()
        )));
    };
    if (resource.name.as_str(), resource.algorithm.as_str()) != (RESOURCE, "sha256") {
        return Err(bad(format!(
            "it covers `{}`, not `{RESOURCE}`",
            resource.name.escape_default()
        )));
    }
    if resource.digest != hex(ours.as_ref()) {
        return Err(bad(format!(
            "it is over a manifest with sha256 `{}`, and this one's is `{}`",
            resource.digest.escape_default(),
            hex(ours.as_ref())
        )));
    }
    let [subject] = &statement.subject[..] else {
        return Err(bad(format!("it has {} subjects, not one", statement.subject.len())));
    };
    if subject.digest.sha256 != hex(root.as_ref()) {
        return Err(bad("its subject's digest does not follow from its resource"));
    }
    Ok(())
}
