"""Publishing under a kill at every step, and on a full disk: the whole version or none of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from tests.artifacts import make_layers, make_proto
from tests.chaos.publish_child import publish

from dukou.package.store import Store
from dukou.package.unpack import verify_version
from dukou.trust.keys import load_or_create_signing_key, load_trust_store

CHILD = Path(__file__).with_name("publish_child.py")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    onnx.save(make_proto(*make_layers(16, 17)), str(tmp_path / "first.onnx"))
    # Half a megabyte of weights in the graph's order, in one chunk.
    onnx.save(make_proto(*make_layers(16, 100, 60, seed=8)), str(tmp_path / "second.onnx"))
    load_or_create_signing_key(tmp_path / "home")
    return tmp_path


def run_child(kind: str, work: Path, *before: str) -> list[dict[str, Any]]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*before, sys.executable, str(CHILD), kind, str(work)],
        capture_output=True,
        text=True,
        timeout=55,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_kill_at_any_step_leaves_the_whole_version_or_none(work: Path) -> None:
    steps = run_child("crash", work)
    assert [step["killed"] for step in steps] == [True] * (len(steps) - 1) + [False]
    assert len(steps) > 50
    key = load_or_create_signing_key(work / "home")
    trusted = load_trust_store(work / "home")
    first = Store(work / "base").versions()[0].digest
    second = Store(steps[-1]["store"]).versions()[1].digest
    appeared = []
    for step in steps:
        store = Store(step["store"])
        versions = [version.digest for version in store.versions()]
        assert versions in ([first], [first, second]), f"step {step['step']}"
        for digest in versions:
            assert verify_version(store, digest, trusted).signed_by == key.id
        assert store.verify_all() == []
        appeared.append(second in versions)
        # Whoever comes next finds nothing in the way, and leaves nothing behind.
        assert publish(work, "second", store, key) == second
        assert not list((store.path / ".incoming").iterdir())
        assert store.collect() == 0
        assert verify_version(store, second, trusted).signed_by == key.id
    # It appears at one step, and from then on it is there.
    assert appeared == sorted(appeared)
    assert appeared.count(False) > 40
    assert appeared.count(True) > 1


def check_attempt(facts: dict[str, Any]) -> None:
    assert facts["outcome"] in ("published", "store.disk-full")
    assert (facts["digest"] in facts["versions"]) == (facts["outcome"] == "published")
    assert facts["findings"] == []
    assert facts["half_written"] == []
    assert facts["unreferenced_bytes"] == 0


def test_a_limit_of_file_size_leaves_the_store_as_it_was(work: Path) -> None:
    lines = run_child("limit", work)
    for facts in lines:
        check_attempt(facts)
        assert len(facts["versions"]) == (2 if facts["outcome"] == "published" else 1)
    assert [facts["outcome"] for facts in lines] == ["store.disk-full"] * 6 + ["published"]


def own_mounts() -> list[str]:
    """The command that gives a process mounts of its own: as root, or in a user namespace."""
    unshare = shutil.which("unshare")
    commands = [] if unshare is None else [[unshare, "--mount"], [unshare, "-r", "--mount"]]
    for command in commands:
        probe = [*command, "mount", "-t", "tmpfs", "none", "/mnt"]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            return command
    pytest.skip("this user may not mount a file system; the limit of file size is tested")


def test_a_full_disk_leaves_what_was_there(work: Path) -> None:
    lines = run_child("tmpfs", work, *own_mounts())
    *stores, registry = lines
    outcomes = []
    for facts in stores:
        for attempt in ("first", "second", "third"):
            if facts[attempt] is not None:
                check_attempt(facts[attempt])
        outcomes.append(facts["second"]["outcome"])
        assert set(facts["first"]["versions"]) <= set(facts["second"]["versions"])
        if facts["third"] is not None:
            assert facts["third"]["outcome"] == "published", "with space it goes through"
    assert outcomes[0] == "store.disk-full"
    assert outcomes[-1] == "published"

    assert registry["outcome"] == "store.disk-full"
    assert registry["versions"] == registry["events"] == registry["tried"] - 1
    assert registry["after"] == registry["tried"]
