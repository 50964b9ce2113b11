"""`dukou compliance` on a living installation: all twelve hold, and each is broken once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.artifacts import make_layers, make_model
from tests.registry_house import move_alias
from tests.secure import make_key
from tests.serving import House, house

PROJECT = """\
version = 1
[model]
name = "chain"
[data]
path = "data.csv"
target = "y"
[train]
command = "python train.py"
"""
DEPLOYMENT = {
    "version": 1,
    "name": "chain",
    "models": [
        {
            "name": "chain",
            "capture": {"share": 1.0},
            "monitor": {"keep": "30d"},
            "privacy": {"fields": {"*": "keep"}},
        }
    ],
}


def judge(place: House) -> dict[str, dict[str, Any]]:
    """Control → what was found of it."""
    done = place.dukou("compliance", "--json")
    found = json.loads(done.stdout)
    assert found["is"] == "evidence, not a certificate"
    controls = {control["id"]: control for control in found["controls"]}
    missing = any(control["outcome"] == "missing" for control in controls.values())
    assert done.returncode == (1 if missing else 0), done.stderr
    return controls


def missing(place: House) -> dict[str, str]:
    return {
        name: found["evidence"]
        for name, found in judge(place).items()
        if found["outcome"] == "missing"
    }


def deploy(place: House, **changes: Any) -> None:
    """Another revision of the deployment, its one model changed."""
    from dukou.registry.registry import Registry

    document = json.loads(json.dumps(DEPLOYMENT))
    document["models"][0] |= changes
    with Registry.open(place.home) as registry:
        kept = registry.deployment("chain")
        revision = 0 if kept is None else kept.revision
        registry.put_deployment("chain", document, expected=revision)


def publish_encrypted(place: House, folder: Path) -> None:
    """A signed version, encrypted as `dukou ship` does it where there is a key."""
    from dukou.package.package import package_model
    from dukou.package.store import Store
    from dukou.registry.registry import Registry
    from dukou.trust.keyring import load_keyring
    from dukou.trust.keys import load_or_create_signing_key

    packaged = package_model(
        make_model(folder / "model", *make_layers(4, 3, seed=1)),
        Store(place.home / "store"),
        name="chain",
        signer=load_or_create_signing_key(place.home),
        keyring=load_keyring(place.home),
    )
    with Registry.open(place.home) as registry:
        registry.register_version("chain", packaged.digest)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[House]:
    with house() as made:
        assert made.dukou("encryption", "new").returncode == 0
        publish_encrypted(made, tmp_path)
        move_alias(made, 1)
        deploy(made)
        project = tmp_path / "project"
        project.mkdir()
        (project / "dukou.toml").write_text(PROJECT, encoding="utf-8")
        (project / "data.csv").write_text("x,y\n1,0\n", encoding="utf-8")
        audit = made.dukou("maintain", project, "--run", "audit-dependencies")
        assert audit.returncode == 0, audit.stderr
        assert made.dukou("encryption", "apply").returncode == 0
        assert made.dukou("backup", "--to", tmp_path / "backups").returncode == 0
        assert made.dukou("backup", "verify").returncode == 0
        make_key(made, "caller", "--model", "chain", "--expires", "90d")
        yield made


@pytest.mark.timeout(180)
def test_all_hold_and_each_is_broken_once(place: House, tmp_path: Path) -> None:
    with place.serving("chain", "--secure") as server:
        found = judge(place)
        held = {name for name, control in found.items() if control["outcome"] == "holds"}
        assert held == set(found), {n: c["evidence"] for n, c in found.items() if n not in held}
        assert server.url.startswith("https://")

        broken: set[str] = set()

        def breaks(*names: str) -> None:
            gone = missing(place)
            assert set(gone) == set(names), gone
            broken.update(names)

        make_key(place, "for-ever", "--role", "manage")
        breaks("access.least")
        assert place.dukou("keys", "revoke", "for-ever").returncode == 0

        (place.home / "keys").chmod(0o755)
        breaks("state.private")
        (place.home / "keys").chmod(0o700)

        (place.home / "monitor").mkdir(mode=0o700, exist_ok=True)
        folder = place.home / "monitor" / "chain" / "2020-01-01"
        folder.mkdir(parents=True)
        (folder / "000001.parquet").write_bytes(b"rows in the clear, from long ago")
        breaks("rest.encrypted", "privacy.limited")
        (folder / "000001.parquet").unlink()
        folder.rmdir()

        deploy(place, privacy={"capture_untagged": True})
        breaks("privacy.tagged")
        deploy(place)

        facts = place.home / "backup.json"
        said = json.loads(facts.read_text())
        facts.write_text(json.dumps({**said, "verified": "2020-01-01T00:00:00+00:00"}))
        breaks("backup.proved")
        facts.write_text(json.dumps(said))

        project = tmp_path / "project"
        (project / "requirements.txt").write_text("no-such-thing==1\n", encoding="utf-8")
        assert place.dukou("maintain", project, "--run", "audit-dependencies").returncode == 3
        breaks("software.audited")
        (project / "requirements.txt").unlink()
        assert place.dukou("maintain", project, "--run", "audit-dependencies").returncode == 0

        trusted = next((place.home / "trust").glob("*.pem"))
        trusted.rename(trusted.with_suffix(".away"))
        breaks("model.genuine")
        trusted.with_suffix(".away").rename(trusted)

        with place.serving("chain", "--insecure", "--host", "0.0.0.0"):
            breaks("access.authenticated", "transit.encrypted")

        with closing(sqlite3.connect(place.home / "registry.db", timeout=20)) as registry:
            registry.execute("UPDATE audit_events SET actor = 'nobody' WHERE sequence = 1")
            registry.commit()
        breaks("audit.whole")
    # Of a server without logs a unit test tells: this one has always had them.
    assert broken | {"logs.kept"} == set(found)


def test_words_and_mistakes() -> None:
    with house() as empty:
        done = empty.dukou("compliance")
        assert done.returncode == 1
        assert "no encryption key is configured" in done.stdout
        assert "Evidence measured now, no certificate." in done.stdout
        assert "8.1.4.9" in done.stdout
        assert "一个月内有备份经过恢复验证" in empty.dukou("compliance", "--zh").stdout
        wrong = empty.dukou("compliance", "backup.prove")
        assert wrong.returncode == 2
        assert "`backup.prove` is not a control [usage.invalid]" in wrong.stderr
        assert "did you mean `backup.proved`?" in wrong.stderr
        one = empty.dukou("compliance", "access.least")
        assert one.returncode == 0
        assert "there are no API keys" in one.stdout
