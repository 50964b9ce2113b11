"""`dukou encryption` from a shell: what it says, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.monitor.test_store import tapped

from dukou.cli.main import main
from dukou.monitor.store import CaptureStore


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)
    monkeypatch.setenv("DUKOU_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_from_clear_to_sealed_to_another_key(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CaptureStore(home, "m").append(tapped(0, 3))
    assert main(["encryption", "status"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("no encryption key: what is written here is in clear")
    assert main(["encryption", "new"]) == 0
    said = capsys.readouterr().out
    assert str(home / "keys" / "encryption.key") in said
    assert "`dukou encryption apply` seals what is here already" in said
    assert main(["encryption", "apply"]) == 0
    assert capsys.readouterr().out == "1 files sealed\n"
    assert main(["encryption", "status", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert before["also"] == []
    assert before["places"][0] == {
        "place": "captures and labels",
        "sealed": 1,
        "under": {before["key"]: 1},
        "clear": 0,
        "clear_bytes": 0,
        "note": "",
    }
    assert main(["encryption", "rotate"]) == 0
    said = capsys.readouterr().out
    assert f"`{before['key']}` is needed no more" in said
    secret = (home / "keys" / "encryption.key").read_text().split()[0]
    assert secret not in said


def test_a_key_elsewhere_says_what_to_export(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vault" / "kek"
    assert main(["encryption", "new", "--at", str(path)]) == 0
    assert f"export DUKOU_ENCRYPTION_KEY={path}" in capsys.readouterr().out
    assert main(["encryption", "status"]) == 4
    said = capsys.readouterr().err
    assert "trust.no-encryption-key" in said
    assert "DUKOU_ENCRYPTION_KEY" in said
    assert main(["encryption", "new", "--at", str(path)]) == 3
    assert "trust.key-exists" in capsys.readouterr().err


def test_a_key_that_others_may_read_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["encryption", "new"]) == 0
    path = home / "keys" / "encryption.key"
    path.chmod(0o644)
    assert main(["encryption", "status"]) == 4
    said = capsys.readouterr().err
    assert "trust.key-readable" in said
    assert f"chmod 600 {path}" in said
