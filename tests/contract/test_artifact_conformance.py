"""The stores under `conformance/artifacts` are judged as they say; the engine reads the same ones."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

from dukou.base.errors import DukouError
from dukou.package.memory import memory_folder
from dukou.package.store import Store
from dukou.package.unpack import open_version, verify_version
from dukou.trust.keyring import parse_keys
from dukou.trust.keys import PublicKey, TrustStore

FOLDER = Path(__file__).parents[2] / "conformance" / "artifacts"
CASES = sorted(path.parent.name for path in FOLDER.glob("*/expected.json"))


def load_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_artifacts", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def trust_of(expected: dict[str, Any]) -> TrustStore | None:
    if not expected["require_signature"]:
        return None
    keys = [PublicKey.from_pem(key["pem"].encode(), "pem") for key in expected["trusted"]]
    assert [key.id for key in keys] == [key["id"] for key in expected["trusted"]]
    return TrustStore({key.id: key for key in keys})


def check_case(place: Path) -> None:
    expected = json.loads((place / "expected.json").read_text())
    store, trusted = Store(place / "store"), trust_of(expected)
    # Cases from before there was encryption say nothing of it.
    keys = expected.get("encryption_keys")
    keyring = None if keys is None else parse_keys(keys, "the case's keys")
    if expected["outcome"] != "ok":
        with pytest.raises(DukouError) as caught:
            verify_version(store, expected["digest"], trusted, keyring)
        assert caught.value.code == expected["outcome"]
        return
    version = verify_version(store, expected["digest"], trusted, keyring)
    said = expected["version"]
    assert version.config.name == said["name"]
    assert version.config.variant == said["variant"]
    assert version.config.signature.to_json() == said["signature"]
    assert list(version.config.labels) == said["labels"]
    assert version.contents.encrypted == said.get("encrypted", False)
    found = {
        name: "sha256:" + hashlib.sha256(version.contents.read(name) or b"").hexdigest()
        for name in version.files
    }
    assert found == said["files"]
    assert version.signed_by == said["signed_by"]
    with memory_folder() as folder:
        model = open_version(
            store, expected["digest"], trusted, folder=folder / "version", keyring=keyring
        )
        assert model.golden is not None
        session = onnxruntime.InferenceSession(str(model.graph))
        for inputs, outputs in model.golden.samples:
            np.testing.assert_array_equal(session.run(None, dict(inputs))[0], outputs["y"])


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_judged_as_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)
    check_case(FOLDER / name)


def test_the_cases_can_be_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)
    maker = load_maker()
    assert sorted(maker.CASES) == CASES
    maker.make_cases(tmp_path / "cases")
    for name in CASES:
        check_case(tmp_path / "cases" / name)
        kept, made = (
            json.loads((folder / name / "expected.json").read_text())
            for folder in (FOLDER, tmp_path / "cases")
        )
        # The same model is the same version, today and when these were made.
        assert made["digest"] == kept["digest"]
        assert made["outcome"] == kept["outcome"]


def test_no_private_key_is_kept() -> None:
    for path in FOLDER.rglob("*"):
        if path.is_file() and path.suffix != ".py":
            assert b"PRIVATE KEY" not in path.read_bytes(), path
