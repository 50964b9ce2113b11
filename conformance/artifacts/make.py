"""Makes the stores under `conformance/artifacts/`, which the readers of both languages must judge alike.

    python conformance/artifacts/make.py [FOLDER]

The versions' digests are the same every time; the signatures are by keys that are made, used and
forgotten here, so they differ. The keys of encrypted cases stand here: they keep no secret. A case
is a folder with `store/` (an OCI image layout) and
`expected.json`: which version to read, whose signatures count, the encryption keys at hand as a key
file holds them (null: none), and what comes of it, `ok` with what the version holds in clear, or the
code of the refusal.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dukou.base.canonical import dump_canonical
from dukou.model.golden import GoldenSamples
from dukou.model.model import Card, Lineage, Model
from dukou.model.signature import Signature, TensorSpec
from dukou.package.contents import Contents
from dukou.package.descriptor import MANIFEST_MEDIA_TYPE
from dukou.package.encryption import (
    KEY_ANNOTATION,
    MODEL_ANNOTATION,
    ModelKey,
    is_encrypted,
    rewrap_model_keys,
    write_model_key,
)
from dukou.package.layout import BUNDLE_TYPE, EMPTY_TYPE, make_referrer
from dukou.package.package import package_model, sign_version
from dukou.package.store import Store
from dukou.trust.keyring import EncryptionKey, Keyring
from dukou.trust.keys import SigningKey, load_or_create_signing_key
from dukou.trust.signature import sign_manifest

NAME = "chain"
OUT = 17
MODEL_KEY = ModelKey.of(NAME, bytes(range(32)))
KEY, OTHER_KEY = (EncryptionKey.of(bytes([byte]) * 32) for byte in (1, 2))


def build_model(folder: Path) -> Model:
    """`y = x·w + b`, 16 wide to 17: `w` is 1,088 bytes and leaves the graph, `b` is 68 and stays."""
    w = ((np.arange(16 * OUT).reshape(16, OUT) * 7 % 23 - 11) / 8).astype(np.float32)
    b = (np.arange(OUT) / 4 - 2).astype(np.float32)
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
            NAME,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", OUT])],
            [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    path = folder / "chain.onnx"
    onnx.save(proto, str(path))
    inputs = [np.full((1, 16), 0.5, np.float32), np.eye(2, 16, dtype=np.float32)]
    return Model(
        graph=path,
        signature=Signature(
            (TensorSpec("x", "FP32", ("n", 16)),), (TensorSpec("y", "FP32", ("n", OUT)),)
        ),
        lineage=Lineage(
            "chain.onnx",
            "onnx",
            "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(),
            steps=("import onnx",),
        ),
        # Every number here is a small binary fraction: the sums are exact on any machine.
        golden=GoldenSamples(tuple(({"x": x}, {"y": x @ w + b}) for x in inputs), classes="y"),
        card=Card(
            title="A chain", task="classification", labels=tuple(f"c{i}" for i in range(OUT))
        ),
    )


@dataclass
class Case:
    """A store on its way to being a case."""

    store: Store
    digest: str
    key: SigningKey
    stranger: SigningKey
    keyring: Keyring | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        return self.store.read_manifest(self.store.find_version(self.digest))

    def overwrite(self, digest: str, change: Callable[[bytes], bytes]) -> None:
        path = self.store.blob_path(digest)
        content = change(path.read_bytes())
        path.unlink()
        path.write_bytes(content)

    def attach(self, bundle: bytes) -> None:
        """Lists a signature for the version, whatever it is worth; every digest is right."""
        version = self.store.find_version(self.digest)
        with self.store.publishing() as publication:
            empty = publication.write_blob(EMPTY_TYPE, [b"{}"])
            layer = publication.write_blob(BUNDLE_TYPE, [bundle])
            referrer = publication.write_document(
                MANIFEST_MEDIA_TYPE, make_referrer(version, empty, layer), artifact_type=BUNDLE_TYPE
            )
            publication.commit(version, [referrer])

    def republish(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Replaces the version by one with a changed manifest, genuinely signed."""
        manifest = self.manifest
        with self.store.publishing() as publication:
            change(manifest)
            if isinstance(manifest["config"].get("document"), dict):
                config = publication.write_document(
                    manifest["config"]["mediaType"], manifest["config"].pop("document")
                )
                manifest["config"] = config.to_json()
            version = publication.write_document(
                MANIFEST_MEDIA_TYPE, manifest, artifact_type=manifest["artifactType"]
            )
            index = self.store.index()
            (self.store.path / "index.json").unlink()
            keys = [entry for entry in index if entry.annotation(MODEL_ANNOTATION) is not None]
            publication.commit(version, (), keys)
        self.digest = version.digest
        self.attach(sign_manifest(dump_canonical(manifest), self.key, NAME))
        self.store.collect()


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :]


def signed(case: Case) -> None:
    sign_version(case.store, case.digest, case.key)


def two_signatures(case: Case) -> None:
    sign_version(case.store, case.digest, case.stranger)
    signed(case)


def unsigned(case: Case) -> None:
    """As it is."""


def unknown_key(case: Case) -> None:
    sign_version(case.store, case.digest, case.stranger)


def forged_signature(case: Case) -> None:
    bundle = sign_manifest(case.store.read_blob(case.digest), case.stranger, NAME)
    case.attach(bundle.replace(case.stranger.id.encode(), case.key.id.encode()))


def another_versions_signature(case: Case) -> None:
    case.attach(sign_manifest(b'{"schemaVersion":2}', case.key, NAME))


def no_bundle(case: Case) -> None:
    case.attach(b'{"mediaType":"application/json"}')


def flipped_graph(case: Case) -> None:
    signed(case)
    case.overwrite(case.manifest["layers"][0]["digest"], flip(40))


def flipped_weight(case: Case) -> None:
    signed(case)
    case.overwrite(case.manifest["layers"][1]["digest"], flip(500))


def flipped_config(case: Case) -> None:
    signed(case)
    case.overwrite(case.manifest["config"]["digest"], flip(60))


def flipped_manifest(case: Case) -> None:
    signed(case)
    case.overwrite(case.digest, flip(200))


def flipped_bundle(case: Case) -> None:
    signed(case)
    referrer = case.store.read_manifest(case.store.referrers(case.digest)[0])
    case.overwrite(referrer["layers"][0]["digest"], flip(300))


def truncated_weight(case: Case) -> None:
    signed(case)
    case.overwrite(case.manifest["layers"][1]["digest"], lambda content: content[:-1])


def missing_weight(case: Case) -> None:
    signed(case)
    case.store.blob_path(case.manifest["layers"][1]["digest"]).unlink()


def missing_version(case: Case) -> None:
    signed(case)
    case.digest = "sha256:" + "0" * 64


def unknown_layer(case: Case) -> None:
    """A layer of a kind that no reader knows: verified, and otherwise left alone."""

    def add(manifest: dict[str, Any]) -> None:
        with case.store.publishing() as publication:
            layer = publication.write_blob("application/vnd.example.future", [b"from the future"])
            # Held by nothing yet; `republish`, which called this, names it in a moment.
            manifest["layers"].append(layer.to_json())

    case.republish(add)


def another_artifact(case: Case) -> None:
    case.republish(lambda manifest: manifest.update(artifactType="application/vnd.example.cake"))


def future_format(case: Case) -> None:
    def change(manifest: dict[str, Any]) -> None:
        config = json.loads(case.store.read_blob(manifest["config"]["digest"]))
        config["dukou"]["format"] = 2
        manifest["config"]["document"] = config

    case.republish(change)


def path_outside(case: Case) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["layers"][1]["annotations"]["org.cncf.model.filepath"] = "../weights-0.bin"

    case.republish(change)


def encrypted(case: Case) -> None:
    """Packaged anew, under a model key that is always the same."""
    model = build_model(case.store.path.parent)
    shutil.rmtree(case.store.path)
    with case.store.publishing() as publication:
        publication.commit(None, (), [write_model_key(publication, MODEL_KEY, Keyring.of(KEY))])
    packaged = package_model(model, case.store, name=NAME, signer=case.key, keyring=Keyring.of(KEY))
    model.graph.unlink()
    case.digest = packaged.digest
    case.keyring = Keyring.of(KEY)


def encrypted_after_rotation(case: Case) -> None:
    encrypted(case)
    rewrap_model_keys(case.store, Keyring.of(OTHER_KEY, KEY))
    case.keyring = Keyring.of(OTHER_KEY)


def encrypted_no_key(case: Case) -> None:
    encrypted(case)
    case.keyring = None


def encrypted_wrong_key(case: Case) -> None:
    encrypted(case)
    case.keyring = Keyring.of(OTHER_KEY)


def encrypted_two_keys(case: Case) -> None:
    """While a rotation is under way: the new key first, the version still under the old one."""
    encrypted(case)
    case.keyring = Keyring.of(OTHER_KEY, KEY)


def encrypted_flipped(case: Case) -> None:
    encrypted(case)
    case.overwrite(case.manifest["layers"][1]["digest"], flip(500))


def encrypted_forged(case: Case) -> None:
    """Other ciphertext, every digest and the signature made right: the config names other content."""
    encrypted(case)

    def change(manifest: dict[str, Any]) -> None:
        layer = manifest["layers"][1]
        content = flip(500)(case.store.read_blob(layer["digest"]))
        with case.store.publishing() as publication:
            forged = publication.write_blob(layer["mediaType"], [content])
        layer["digest"] = forged.digest

    case.republish(change)


def encrypted_swapped(case: Case) -> None:
    """Graph and weights in each other's place: each was sealed as what it is."""
    encrypted(case)

    def change(manifest: dict[str, Any]) -> None:
        first, second = manifest["layers"][:2]
        for key in ("digest", "size"):
            first[key], second[key] = second[key], first[key]

    case.republish(change)


def encrypted_without_wrapped_key(case: Case) -> None:
    encrypted(case)
    entry = next(e for e in case.store.index() if e.annotation(MODEL_ANNOTATION) is not None)
    index = json.loads((case.store.path / "index.json").read_bytes())
    index["manifests"] = [e for e in index["manifests"] if e["digest"] != entry.digest]
    (case.store.path / "index.json").write_bytes(dump_canonical(index))


def encrypted_forged_wrapped_key(case: Case) -> None:
    """The wrapped key of another model key, under the tag of ours."""
    encrypted(case)
    other = ModelKey.of(NAME, bytes(32))
    with case.store.publishing() as publication:
        entry = next(e for e in case.store.index() if e.annotation(MODEL_ANNOTATION) is not None)
        forged = write_model_key(publication, other, Keyring.of(KEY))
        tagged = forged.with_annotations(dict(entry.annotations))
        publication.replace_entries({entry.digest: tagged})


def encrypted_flipped_wrapped_key(case: Case) -> None:
    encrypted(case)
    entry = next(e for e in case.store.index() if e.annotation(MODEL_ANNOTATION) is not None)
    layer = case.store.read_manifest(entry)["layers"][0]
    case.overwrite(layer["digest"], flip(120))


def encrypted_clear_layer(case: Case) -> None:
    """A layer in clear among encrypted ones."""
    encrypted(case)

    def change(manifest: dict[str, Any]) -> None:
        layer = manifest["layers"][2]
        layer["mediaType"] = layer["mediaType"].removesuffix("+encrypted")

    case.republish(change)


def encrypted_no_annotation(case: Case) -> None:
    encrypted(case)
    case.republish(lambda manifest: manifest["annotations"].pop(KEY_ANNOTATION))


# case → (how it is made, what comes of it, whether a signature is required)
CASES: dict[str, tuple[Callable[[Case], None], str, bool]] = {
    "signed": (signed, "ok", True),
    "two-signatures": (two_signatures, "ok", True),
    "unknown-layer": (unknown_layer, "ok", True),
    "unsigned-allowed": (unsigned, "ok", False),
    "unsigned": (unsigned, "trust.unsigned", True),
    "unknown-key": (unknown_key, "trust.unknown-key", True),
    "forged-signature": (forged_signature, "trust.bad-signature", True),
    "another-versions-signature": (another_versions_signature, "trust.bad-signature", True),
    "no-bundle": (no_bundle, "trust.bad-signature", True),
    "flipped-graph": (flipped_graph, "package.digest-mismatch", True),
    "flipped-weight": (flipped_weight, "package.digest-mismatch", True),
    "flipped-config": (flipped_config, "package.digest-mismatch", True),
    "flipped-manifest": (flipped_manifest, "package.digest-mismatch", True),
    "flipped-bundle": (flipped_bundle, "package.digest-mismatch", True),
    "truncated-weight": (truncated_weight, "package.digest-mismatch", True),
    "missing-weight": (missing_weight, "package.incomplete", True),
    "missing-version": (missing_version, "package.incomplete", True),
    "another-artifact": (another_artifact, "formats.corrupt", True),
    "future-format": (future_format, "formats.corrupt", True),
    "path-outside": (path_outside, "formats.corrupt", True),
    "encrypted": (encrypted, "ok", True),
    "encrypted-after-rotation": (encrypted_after_rotation, "ok", True),
    "encrypted-two-keys": (encrypted_two_keys, "ok", True),
    "encrypted-no-key": (encrypted_no_key, "trust.no-encryption-key", True),
    "encrypted-wrong-key": (encrypted_wrong_key, "trust.wrong-encryption-key", True),
    "encrypted-flipped": (encrypted_flipped, "package.digest-mismatch", True),
    "encrypted-forged": (encrypted_forged, "trust.bad-ciphertext", True),
    "encrypted-swapped": (encrypted_swapped, "trust.bad-ciphertext", True),
    "encrypted-without-wrapped-key": (encrypted_without_wrapped_key, "package.incomplete", True),
    "encrypted-forged-wrapped-key": (encrypted_forged_wrapped_key, "trust.bad-ciphertext", True),
    "encrypted-flipped-wrapped-key": (
        encrypted_flipped_wrapped_key,
        "package.digest-mismatch",
        True,
    ),
    "encrypted-clear-layer": (encrypted_clear_layer, "formats.corrupt", True),
    "encrypted-no-annotation": (encrypted_no_annotation, "formats.corrupt", True),
}


def expected(case: Case, outcome: str, required: bool) -> dict[str, Any]:
    """What a reader must find."""
    document: dict[str, Any] = {
        "digest": case.digest,
        "require_signature": required,
        "trusted": [{"id": case.key.id, "pem": case.key.public.pem}],
        "encryption_keys": case.keyring and "\n".join(key.text() for key in case.keyring.keys),
        "outcome": outcome,
    }
    if outcome == "ok":
        contents = Contents(case.store, case.manifest, "the case", case.keyring)
        config = contents.config
        document["version"] = {
            "name": config.name,
            "variant": config.variant,
            "signature": config.signature.to_json(),
            "labels": list(config.labels),
            "encrypted": is_encrypted(case.manifest),
            # Of what they hold in clear.
            "files": {
                name: "sha256:" + hashlib.sha256(contents.read(name) or b"").hexdigest()
                for name in contents.files
            },
            "signed_by": case.key.id if required else None,
        }
    return document


def make_cases(folder: Path) -> None:
    """Makes every case under `folder`; what lies there under their names is replaced."""
    with tempfile.TemporaryDirectory() as scratch:
        model = build_model(Path(scratch))
        key, stranger = (
            load_or_create_signing_key(Path(scratch) / name) for name in ("own", "stranger")
        )
        for name, (make, outcome, required) in CASES.items():
            place = folder / name
            shutil.rmtree(place, ignore_errors=True)
            store = Store(place / "store")
            version = package_model(model, store, name=NAME, signer=None)
            case = Case(store, version.digest, key, stranger)
            make(case)
            text = json.dumps(expected(case, outcome, required), indent=2, sort_keys=True)
            (place / "expected.json").write_text(text + "\n")
            # What belongs to work in progress is no part of a layout.
            shutil.rmtree(store.path / ".incoming")
            for lock in store.path.glob(".*.lock"):
                lock.unlink()


if __name__ == "__main__":
    make_cases(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
