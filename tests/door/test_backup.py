"""`dukou backup` and `dukou restore` from outside: what is said, and what a user's mistakes get."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from tests.registry_house import move_alias, publish
from tests.serving import House, RunningServer, house, wait_until


@pytest.fixture
def place(tmp_path: Path):
    with house() as made:
        publish(made, tmp_path, seed=1)
        move_alias(made, 1)
        yield made


def read_metrics(server: RunningServer) -> str:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        return answer.read().decode()


def test_taken_proved_lost_and_put_back(place: House, tmp_path: Path) -> None:
    folder = tmp_path / "备份"
    nowhere = place.dukou("backup")
    assert nowhere.returncode == 2
    assert "nobody says where backups are kept [usage.invalid]" in nowhere.stderr
    taken = place.dukou("backup", "--to", folder, "--json")
    assert taken.returncode == 0, taken.stderr
    snapshot = json.loads(taken.stdout)["snapshot"]
    assert "never verified" in place.dukou("status").stdout
    # The folder is remembered.
    proved = place.dukou("backup", "verify")
    assert proved.returncode == 0, proved.stderr
    assert proved.stdout == f"snapshot {snapshot} holds\n"
    assert "1 versions" in proved.stderr
    (listed,) = json.loads(place.dukou("backup", "list", "--json").stdout)["snapshots"]
    assert listed["verified"] is not None
    status = json.loads(place.dukou("status", "--json").stdout)["backup"]
    assert status["folder"] == str(folder)
    assert 0 <= status["verified_age_s"] < 60
    refused = place.dukou("restore", folder)
    assert refused.returncode == 3
    assert "is there and is not empty [backup.not-empty]" in refused.stderr

    place.home.rename(place.home.with_name("lost"))
    back = place.dukou("restore", folder)
    assert back.returncode == 0, back.stderr
    assert "was not kept: `keys/signing.pem` is secret" in back.stdout
    assert "chain" in place.dukou("models").stdout
    with place.serving("chain") as server:
        assert server.ask("chain")[0] == 200
        name = "dukou_backup_taken_timestamp_seconds"
        wait_until(lambda: name in read_metrics(server), f"{name} at /metrics")
        busy = place.dukou("restore", folder, "--replace")
        assert busy.returncode == 3
        assert "[backup.busy]" in busy.stderr
        assert server.ask("chain")[0] == 200
    replaced = place.dukou("restore", folder, "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert list(place.home.parent.glob(f"{place.home.name}.before-*"))


def test_mistakes_get_one_sentence(place: House, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for words, status, said in (
        (("backup", "--to", place.home / "b"), 2, "lie in each other [usage.invalid]"),
        (("backup", "--to", tmp_path / "file"), 2, "a file is in its place [config.invalid]"),
        (("backup", "--to", tmp_path / "b", "--keep", "0"), 2, "one snapshot at least stays"),
        (("backup", "list", "x"), 2, "`x` follows `list`, which takes no snapshot"),
        (("backup", "verify", "--to", tmp_path / "b"), 2, "there is no backup in"),
        (("restore", tmp_path / "b"), 2, "there is no backup in"),
        (("backup", "take"), 2, "nobody says where"),
        (("backup", "burn"), 2, "invalid choice: 'burn'"),
    ):
        done = place.dukou(*words)
        assert done.returncode == status, (words, done.stderr)
        assert said in done.stderr, words
        assert "Traceback" not in done.stderr
    place.environment["DUKOU_REGISTRY"] = "postgresql://nowhere/x"
    done = place.dukou("backup", "--to", tmp_path / "b")
    assert done.returncode == 3
    assert "`DUKOU_REGISTRY` names a database of its own" in done.stderr or (
        "DUKOU_REGISTRY names a database of its own" in done.stderr
    )


def test_a_snapshot_that_does_not_hold_is_said_and_written_down(
    place: House, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    assert place.dukou("backup", "--to", folder).returncode == 0
    blob = max((folder / "blobs").iterdir(), key=lambda p: p.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(content)
    done = place.dukou("backup", "verify")
    assert done.returncode == 3
    assert "does not hold" in done.stderr
    assert "[backup.damaged] [backup.does-not-hold]" in done.stderr
    assert "never verified" in place.dukou("status").stdout
