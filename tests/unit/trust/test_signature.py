"""Our signatures are OpenSSF model-signing's: its own program verifies ours, and we verify its."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dukou.base.errors import TrustError
from dukou.trust.dsse import encode_for_signing, make_statement
from dukou.trust.keys import SigningKey, TrustStore, load_or_create_signing_key
from dukou.trust.signature import sign_manifest, verify_any, verify_bundle

MANIFEST = b'{"schemaVersion":2}'


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return load_or_create_signing_key(tmp_path / "home")


@pytest.fixture
def trusted(key: SigningKey) -> TrustStore:
    return TrustStore({key.id: key.public})


def model_signing(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=55,
        env={k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"},
    )


def test_the_stock_verifier_accepts_ours(tmp_path: Path, key: SigningKey) -> None:
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(MANIFEST)
    (tmp_path / "model.sig").write_bytes(sign_manifest(MANIFEST, key, "digits"))
    (tmp_path / "key.pub").write_text(key.public.pem)
    arguments = (
        "verify", "key", folder,
        "--signature", tmp_path / "model.sig",
        "--public_key", tmp_path / "key.pub",
    )  # fmt: skip
    done = model_signing(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    # And it is this manifest that it vouches for.
    (folder / "manifest.json").write_bytes(MANIFEST + b"\n")
    done = model_signing(*arguments)
    assert done.returncode != 0
    assert "mismatch" in done.stdout + done.stderr


def test_we_accept_the_stock_signer(tmp_path: Path, key: SigningKey, trusted: TrustStore) -> None:
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(MANIFEST)
    done = model_signing(
        "sign", "key", folder,
        "--signature", tmp_path / "model.sig",
        "--private_key", key.path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    bundle = (tmp_path / "model.sig").read_bytes()
    assert verify_bundle(bundle, MANIFEST, trusted) == key.id
    with pytest.raises(TrustError) as caught:
        verify_bundle(bundle, MANIFEST + b"\n", trusted)
    assert caught.value.code == "trust.bad-signature"


def test_signing_twice_gives_the_same_bundle(key: SigningKey, trusted: TrustStore) -> None:
    bundle = sign_manifest(MANIFEST, key, "digits")
    assert sign_manifest(MANIFEST, key, "digits") == bundle
    assert verify_bundle(bundle, MANIFEST, trusted) == key.id


def test_the_encoding_is_as_dsse_says() -> None:
    # The example of the DSSE protocol's page, with our payload type.
    assert encode_for_signing(b"hello world") == (
        b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
    )


def test_refusals_have_their_codes(tmp_path: Path, key: SigningKey, trusted: TrustStore) -> None:
    stranger = load_or_create_signing_key(tmp_path / "stranger")
    good = sign_manifest(MANIFEST, key, "digits")
    foreign = sign_manifest(MANIFEST, stranger, "digits")
    other = sign_manifest(b"{}", key, "digits")
    # A stranger who says that the signature is ours.
    forged = foreign.replace(stranger.id.encode(), key.id.encode())

    def code(*bundles: bytes) -> str:
        with pytest.raises(TrustError) as caught:
            verify_any(bundles, MANIFEST, trusted, "sha256:0")
        return caught.value.code

    assert code() == "trust.unsigned"
    assert code(foreign) == "trust.unknown-key"
    assert code(other) == "trust.bad-signature"
    assert code(forged) == "trust.bad-signature"
    assert code(foreign, other) == "trust.bad-signature"
    assert verify_any([forged, foreign, good], MANIFEST, trusted, "sha256:0") == key.id
    with pytest.raises(TrustError) as caught:
        verify_any([good], MANIFEST, {}, "sha256:0")
    assert caught.value.code == "trust.unknown-key"
    assert "none" in caught.value.message


def _change(statement: dict[str, object], path: str, value: object) -> dict[str, object]:
    *parents, last = path.split(".")
    at: object = statement
    for step in parents:
        at = at[int(step)] if isinstance(at, list) else at[step]  # type: ignore[index]
    if isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value  # type: ignore[index]
    return statement


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1"),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("subject", []),
        ("subject", [1]),
        ("subject.0.digest", {}),
        ("subject.0.digest.sha256", "0" * 64),
        ("predicate", None),
        ("predicate.resources", []),
        ("predicate.resources.0", "manifest.json"),
        ("predicate.resources.0.name", "other.json"),
        ("predicate.resources.0.algorithm", "blake3"),
        ("predicate.resources.0.digest", 3),
        (
            "predicate.resources",
            [{"name": "manifest.json", "algorithm": "sha256", "digest": "0" * 64}] * 2,
        ),
    ],
)
def test_a_true_signature_over_another_statement_is_refused(
    key: SigningKey, trusted: TrustStore, path: str, value: object
) -> None:
    statement = _change(json.loads(make_statement(MANIFEST, "digits")), path, value)
    payload = json.dumps(statement).encode()
    bundle = json.loads(sign_manifest(MANIFEST, key, "digits"))
    signature = key.sign(encode_for_signing(payload))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    with pytest.raises(TrustError) as caught:
        verify_bundle(json.dumps(bundle).encode(), MANIFEST, trusted)
    assert caught.value.code == "trust.bad-signature"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("mediaType", "application/json"),
        ("dsseEnvelope", None),
        ("dsseEnvelope.payloadType", "text/plain"),
        ("dsseEnvelope.payload", "*"),
        ("dsseEnvelope.payload", "é"),
        ("dsseEnvelope.signatures", []),
        ("dsseEnvelope.signatures", {}),
        ("dsseEnvelope.signatures.0", 3),
        ("dsseEnvelope.signatures.0.sig", ""),
        ("dsseEnvelope.signatures.0.sig", "AAAA"),
        ("verificationMaterial", []),
        ("verificationMaterial.publicKey", {}),
        ("verificationMaterial.publicKey.hint", 7),
    ],
)
def test_what_is_no_bundle_is_refused(
    key: SigningKey, trusted: TrustStore, path: str, value: object
) -> None:
    bundle = _change(json.loads(sign_manifest(MANIFEST, key, "digits")), path, value)
    with pytest.raises(TrustError) as caught:
        verify_bundle(json.dumps(bundle).encode(), MANIFEST, trusted)
    assert caught.value.code == "trust.bad-signature"


@pytest.mark.parametrize("bundle", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(trusted: TrustStore, bundle: bytes) -> None:
    with pytest.raises(TrustError) as caught:
        verify_bundle(bundle, MANIFEST, trusted)
    assert caught.value.code == "trust.bad-signature"
