"""Makes the stores under `conformance/artifacts/`, which the readers of both languages must judge alike.

    python conformance/artifacts/make.py [FOLDER]

The versions' digests are the same every time; the signatures are by keys that are made, used and
forgotten here, so they differ. A case is a folder with `store/` (an OCI image layout) and
`expected.json`: which version to read, whose signatures count, and what comes of it, `ok` with what
the version holds, or the code of the refusal.
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
from dukou.package.descriptor import MANIFEST_MEDIA_TYPE
from dukou.package.layout import BUNDLE_TYPE, EMPTY_TYPE, make_referrer
from dukou.package.package import package_model, sign_version
from dukou.package.store import Store
from dukou.trust.keys import SigningKey, load_or_create_signing_key
from dukou.trust.signature import sign_manifest

NAME = "chain"
OUT = 17


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
            (self.store.path / "index.json").unlink()
            publication.commit(version)
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
}


def expected(case: Case, outcome: str, required: bool) -> dict[str, Any]:
    """What a reader must find."""
    document: dict[str, Any] = {
        "digest": case.digest,
        "require_signature": required,
        "trusted": [{"id": case.key.id, "pem": case.key.public.pem}],
        "outcome": outcome,
    }
    if outcome == "ok":
        manifest = case.manifest
        config = json.loads(case.store.read_blob(manifest["config"]["digest"]))["dukou"]
        document["version"] = {
            "name": config["name"],
            "variant": config["variant"],
            "signature": config["signature"],
            "labels": config["labels"],
            "files": {
                layer["annotations"]["org.cncf.model.filepath"]: layer["digest"]
                for layer in manifest["layers"]
                if "annotations" in layer
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
