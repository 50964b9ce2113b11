"""The signed envelope: an in-toto statement in DSSE, laid out as a sigstore bundle. Pure functions.

What OpenSSF `model-signing` 1.1 makes of a folder that holds only `manifest.json`
(`spec/artifact.md`, Signature). Knows bytes and JSON; keys are `keys.py`'s.

Sources: DSSE 1.0 protocol (pre-authentication encoding); in-toto attestation, Statement v1;
sigstore bundle v0.3.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from dukou.base.errors import TrustError

BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
RESOURCE_NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a bundle carries, before anything of it is believed.

    Attributes:
        key_id: which key the bundle says signed it.
        payload: the statement's bytes.
        signature: DER of the ECDSA signature over `encode_for_signing(payload)`.
    """

    key_id: str
    payload: bytes
    signature: bytes


def encode_for_signing(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is really signed."""
    return b"DSSEv1 %d %s %d %s" % (
        len(PAYLOAD_TYPE),
        PAYLOAD_TYPE.encode(),
        len(payload),
        payload,
    )


def make_statement(manifest: bytes, subject: str) -> bytes:
    """The in-toto statement over one manifest; the same arguments give the same bytes."""
    digest = hashlib.sha256(manifest)
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [
            # model-signing's root digest: over the raw digests of all resources, here of one.
            {"name": subject, "digest": {"sha256": hashlib.sha256(digest.digest()).hexdigest()}}
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [
                {"name": RESOURCE_NAME, "algorithm": "sha256", "digest": digest.hexdigest()}
            ],
        },
    }
    return _dump(document)


def make_bundle(envelope: Envelope) -> bytes:
    """The sigstore bundle's JSON."""
    return _dump(
        {
            "mediaType": BUNDLE_MEDIA_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": envelope.key_id},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(envelope.payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(envelope.signature).decode(), "keyid": ""}],
            },
        }
    )


def parse_bundle(bundle: bytes) -> Envelope:
    """Reads a bundle without believing it.

    Raises:
        TrustError: `trust.bad-signature`: it is not a bundle of this kind.
    """
    document = _load(bundle, "the bundle")
    media_type = _text(document, "mediaType")
    if media_type != BUNDLE_MEDIA_TYPE:
        raise _bad(f"the bundle's media type is `{media_type}`, not `{BUNDLE_MEDIA_TYPE}`")
    envelope = _part(document, "dsseEnvelope", dict)
    payload_type = _text(envelope, "payloadType")
    if payload_type != PAYLOAD_TYPE:
        raise _bad(f"the bundle's payload is `{payload_type}`, not `{PAYLOAD_TYPE}`")
    signatures = _part(envelope, "signatures", list)
    if not signatures or not isinstance(signatures[0], dict):
        raise _bad("the bundle holds no signature")
    key = _part(_part(document, "verificationMaterial", dict), "publicKey", dict)
    return Envelope(
        key_id=_text(key, "hint"),
        payload=_bytes(envelope, "payload"),
        signature=_bytes(signatures[0], "sig"),
    )


def check_statement(payload: bytes, manifest: bytes) -> None:
    """Whether a statement, whose signature is already believed, is about this very manifest.

    Raises:
        TrustError: `trust.bad-signature`: it is about another, or not such a statement.
    """
    document = _load(payload, "the statement")
    for key, expected in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        said = _text(document, key)
        if said != expected:
            raise _bad(f"the statement's `{key}` is `{said}`, not `{expected}`")
    digest = hashlib.sha256(manifest)
    resources = _part(_part(document, "predicate", dict), "resources", list)
    if len(resources) != 1 or not isinstance(resources[0], dict):
        raise _bad(f"the statement covers {len(resources)} files, not `{RESOURCE_NAME}` alone")
    resource = resources[0]
    expected_resource = (RESOURCE_NAME, "sha256", digest.hexdigest())
    said_resource = (
        _text(resource, "name"),
        _text(resource, "algorithm"),
        _text(resource, "digest"),
    )
    if said_resource != expected_resource:
        raise _bad(
            f"the signature is over `{said_resource[0]}` with {said_resource[1]} "
            f"`{said_resource[2]}`, and this manifest's sha256 is `{expected_resource[2]}`"
        )
    subjects = _part(document, "subject", list)
    if len(subjects) != 1 or not isinstance(subjects[0], dict):
        raise _bad(f"the statement has {len(subjects)} subjects, not one")
    root = _text(_part(subjects[0], "digest", dict), "sha256")
    if root != hashlib.sha256(digest.digest()).hexdigest():
        raise _bad(f"the statement's subject digest `{root}` does not follow from its resource")


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _load(blob: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(blob)
    except (ValueError, RecursionError) as error:
        raise _bad(f"{what} is not JSON") from error
    if not isinstance(document, dict):
        raise _bad(f"{what} is not a JSON object")
    return document


def _part(document: dict[str, Any], key: str, kind: type) -> Any:
    value = document.get(key)
    if not isinstance(value, kind):
        raise _bad(f"`{key}` is missing in the signature, or is not what it must be")
    return value


def _text(document: dict[str, Any], key: str) -> str:
    return str(_part(document, key, str))


def _bytes(document: dict[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(_text(document, key), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad(f"`{key}` in the signature is not base64") from error


def _bad(message: str) -> TrustError:
    return TrustError("trust.bad-signature", message)
