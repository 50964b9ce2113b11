"""Sign a version's manifest and verify such a signature: whose word a version stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidSignature

from dukou.base.errors import TrustError
from dukou.trust.dsse import (
    Envelope,
    check_statement,
    encode_for_signing,
    make_bundle,
    make_statement,
    parse_bundle,
)
from dukou.trust.keys import PublicKey, SigningKey


def sign_manifest(manifest: bytes, key: SigningKey, subject: str) -> bytes:
    """A sigstore bundle over the manifest's bytes; the same key and manifest give the same bundle.

    Args:
        manifest: the version's manifest, byte for byte.
        key: the signer's.
        subject: the model's name, for people who read the statement; nothing relies on it.
    """
    payload = make_statement(manifest, subject)
    return make_bundle(Envelope(key.id, payload, key.sign(encode_for_signing(payload))))


def verify_bundle(bundle: bytes, manifest: bytes, trusted: Mapping[str, PublicKey]) -> str:
    """The id of the trusted key that signed this very manifest.

    Raises:
        TrustError: `trust.bad-signature`, `trust.unknown-key`.
    """
    envelope = parse_bundle(bundle)
    key = trusted.get(envelope.key_id)
    if key is None:
        known = ", ".join(f"`{i[:16]}…`" for i in trusted) or "none"
        raise TrustError(
            "trust.unknown-key",
            f"the version is signed by key `{envelope.key_id[:64]}`, and the trusted keys are {known}",
        )
    try:
        key.verify(envelope.signature, encode_for_signing(envelope.payload))
    except InvalidSignature as error:
        raise TrustError(
            "trust.bad-signature", f"the signature is not one that key `{key.id}` made"
        ) from error
    # Only now is the payload worth reading.
    check_statement(envelope.payload, manifest)
    return key.id


def verify_any(
    bundles: Sequence[bytes], manifest: bytes, trusted: Mapping[str, PublicKey], digest: str
) -> str:
    """The id of the first trusted key with a good signature; the gravest refusal otherwise.

    Raises:
        TrustError: `trust.bad-signature`, `trust.unknown-key`, or `trust.unsigned` for no bundle.
    """
    refusals: dict[str, TrustError] = {}
    for bundle in bundles:
        try:
            return verify_bundle(bundle, manifest, trusted)
        except TrustError as error:
            refusals.setdefault(error.code, error)
    for code in ("trust.bad-signature", "trust.unknown-key"):
        if code in refusals:
            raise refusals[code]
    raise TrustError("trust.unsigned", f"version `{digest}` carries no signature")
