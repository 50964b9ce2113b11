"""`dukou clean`: what is not needed goes, what anything needs stays, and a crash leaves nothing half."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.artifacts import Place, make_layers, make_model
from tests.registry_house import move_alias, publish
from tests.serving import House, wait_until, write_model

from dukou.base.errors import StateError
from dukou.lifecycle import clean
from dukou.lifecycle.cache import use_cache
from dukou.lifecycle.clean import apply_cleaning, plan_cleaning
from dukou.package.store import Store
from dukou.registry.registry import Registry

DAY = 86_400
MONTH = timedelta(days=30)


def _record(home: Path, model: str, days: int, keys: dict[str, str], digest: str = "") -> Path:
    """A run record of so many days ago, and the results of its stages."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - days * DAY))
    record = home / "runs" / model / f"{stamp}-abc"
    record.mkdir(parents=True)
    stages: dict[str, Any] = {name: {"key": key, "facts": {}} for name, key in keys.items()}
    if digest:
        stages["publish"] = {"key": "p", "facts": {"digest": digest}}
    (record / "run.json").write_text(json.dumps({"stages": stages}))
    for name, key in keys.items():
        folder = home / "cache" / "stages" / name / key
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "facts.json").write_text("{}")
            (folder / "model.bin").write_bytes(b"x" * 1000)
    return record


def _paths(cleaning: clean.Cleaning, kind: str) -> list[str]:
    return [waste.path.name for waste in cleaning.wastes if waste.kind == kind]


def _tree(home: Path) -> list[str]:
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.name != ".ship.lock")


def test_a_home_that_is_not_there(house: House) -> None:
    for words in (["--dry-run"], []):
        done = house.dukou("clean", *words)
        assert done.returncode == 0
        assert "nothing to remove" in done.stdout
    assert not house.home.exists()


def test_the_last_runs_keep_their_results(tmp_path: Path) -> None:
    newest = _record(tmp_path, "iris", 1, {"train": "k1", "data": "d"})
    young = _record(tmp_path, "iris", 10, {"train": "k2", "data": "d"})
    old = _record(tmp_path, "iris", 40, {"train": "k3", "data": "d"})
    other = _record(tmp_path, "digits", 400, {"train": "k4"})
    plan = plan_cleaning(tmp_path, keep=1, older_than=MONTH)
    # Of another model, even a very old last run is kept.
    assert _paths(plan, "run records") == [old.name]
    assert sorted(_paths(plan, "stage results")) == ["k2", "k3"]
    assert plan.bytes >= 2000
    before = _tree(tmp_path)
    assert _tree(tmp_path) == before
    done = apply_cleaning(tmp_path, keep=1, older_than=MONTH)
    assert [w.path for w in done.wastes] == [w.path for w in plan.wastes]
    assert newest.is_dir() and young.is_dir() and other.is_dir() and not old.exists()
    stages = tmp_path / "cache" / "stages"
    left = sorted(str(p.relative_to(stages)) for p in stages.glob("*/*"))
    assert left == ["data/d", "train/k1", "train/k4"]
    assert not plan_cleaning(tmp_path, keep=1, older_than=MONTH).wastes


def test_the_run_of_a_version_that_an_alias_names_is_kept(house: House, tmp_path: Path) -> None:
    house.home.mkdir(mode=0o700)
    first = publish(house, tmp_path, seed=1).digest
    second = publish(house, tmp_path, seed=2).digest
    move_alias(house, 1)
    champion = _record(house.home, "chain", 90, {"train": "c"}, first)
    former = _record(house.home, "chain", 80, {"train": "f"}, second)
    for digest in (first, second):
        (house.home / "cache" / "champions" / digest.removeprefix("sha256:")).mkdir(parents=True)
    plan = plan_cleaning(house.home, keep=0)
    assert _paths(plan, "run records") == [former.name]
    assert _paths(plan, "stage results") == ["f"]
    assert _paths(plan, "champions") == [second.removeprefix("sha256:")]
    assert _paths(plan, "blobs") == []
    assert champion.is_dir()


def test_only_blobs_that_nothing_leads_to_go(house: House, tmp_path: Path) -> None:
    house.home.mkdir(mode=0o700)
    kept = publish(house, tmp_path, seed=1).digest
    store = Store(house.home / "store")
    stray = house.home / "store" / "blobs" / "sha256" / ("0" * 64)
    stray.write_bytes(b"left by a crash")
    # Lost from the index, yet registered: what names it counts as well.
    (house.home / "store" / "index.json").write_text(
        '{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'
    )
    plan = plan_cleaning(house.home)
    assert stray.name in _paths(plan, "blobs")
    assert kept.removeprefix("sha256:") not in _paths(plan, "blobs")
    apply_cleaning(house.home)
    assert not stray.exists()
    assert store.check_presence([kept]) == []


def test_a_damaged_manifest_keeps_every_blob(house: House, tmp_path: Path) -> None:
    house.home.mkdir(mode=0o700)
    digest = publish(house, tmp_path, seed=1).digest
    path = Store(house.home / "store").blob_path(digest)
    path.chmod(0o644)
    path.write_bytes(b"{" + path.read_bytes()[1:-1] + b" ")
    stray = path.with_name("0" * 64)
    stray.write_bytes(b"x")
    done = house.dukou("clean")
    assert done.returncode == 0, done.stderr
    assert "blobs are left alone" in done.stdout
    assert stray.exists()


@pytest.mark.timeout(90)
def test_what_a_running_server_needs_stays(house: House, tmp_path: Path) -> None:
    house.home.mkdir(mode=0o700)
    conversions = house.home / "cache" / "conversions"
    for name in ("used", "unused"):
        (conversions / name).mkdir(parents=True)
    model = write_model(conversions / "used" / "graph.onnx")
    for path in conversions.iterdir():
        os.utime(path, (1, 1))
    (house.home / "compiled").mkdir(mode=0o700)
    (house.home / "compiled" / "x").write_bytes(b"x")
    with house.serving(model) as server:
        report = json.loads(house.dukou("clean", "--json").stdout)
        removed = {waste["path"] for waste in report["wastes"]}
        assert removed == {str(conversions / "unused")}
        assert any("compiled graphs are left alone" in note for note in report["notes"])
        assert server.ask("graph")[0] == 200
        folder = Path(server.facts["socket"]).parent
        state = house.home / "servers" / folder.name
        assert state.is_dir()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(30)
    wait_until(lambda: not (folder / "engine.sock").exists(), "the engine's end")
    done = house.dukou("clean")
    assert done.returncode == 0, done.stderr
    assert "server folders" in done.stdout and "compiled graphs" in done.stdout
    assert not folder.exists() and not state.exists()
    assert list((house.home / "compiled").iterdir()) == []


def test_refused_while_a_run_uses_the_cache(house: House, tmp_path: Path) -> None:
    house.home.mkdir(mode=0o700)
    _record(house.home, "iris", 90, {"train": "k"})
    with use_cache(house.home):
        done = house.dukou("clean", "--keep", "0")
        assert done.returncode == 3
        assert "[cache.in-use]" in done.stderr
        shown = house.dukou("clean", "--keep", "0", "--dry-run")
        assert shown.returncode == 0
        assert "a `dukou ship` runs" in shown.stdout
        assert (house.home / "cache" / "stages" / "train" / "k").is_dir()
        with pytest.raises(StateError):
            apply_cleaning(house.home, keep=0)
    done = house.dukou("clean", "--keep", "0")
    assert (done.returncode, "note:" in done.stdout) == (0, False)
    assert not (house.home / "cache" / "stages" / "train" / "k").exists()


def test_a_dry_run_touches_nothing(house: House, tmp_path: Path) -> None:
    house.home.mkdir(mode=0o700)
    publish(house, tmp_path, seed=1)
    _record(house.home, "iris", 90, {"train": "k"})
    before = {p: p.lstat().st_mtime_ns for p in house.home.rglob("*")}
    done = house.dukou("clean", "--keep", "0", "--dry-run", "--paths")
    assert done.returncode == 0
    assert str(house.home / "cache" / "stages" / "train" / "k") in done.stdout
    assert "would be removed" in done.stdout.splitlines()[-1]
    assert {p: p.lstat().st_mtime_ns for p in house.home.rglob("*")} == before


class _Killed(BaseException):
    """Where the process would have ended."""


def _die_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends before its next change of a folder, once so many were made."""
    left = iter(range(steps))

    def counted(change: Any) -> Any:
        def changed(*arguments: Any, **options: Any) -> Any:
            if next(left, None) is None:
                raise _Killed
            return change(*arguments, **options)

        return changed

    for name in ("rename", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def test_killed_at_any_step_it_leaves_nothing_half(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kept result is whole or gone, what a version needs is there, and the next run finishes."""
    place = tmp_path / "home"
    digest = _dirty(place)
    whole = _tree(place)
    finished = False
    for steps in range(200):
        home = tmp_path / f"home-{steps}"
        shutil.copytree(place, home)
        assert _tree(home) == whole
        with monkeypatch.context() as patched:
            _die_after(steps, patched)
            try:
                apply_cleaning(home, keep=0, older_than=MONTH)
                finished = True
            except _Killed:
                pass
        for result in (home / "cache" / "stages" / "train").iterdir():
            if not result.name.startswith("."):
                assert {p.name for p in result.iterdir()} == {"facts.json", "model.bin"}
        assert Store(home / "store").check_presence([digest]) == []
        apply_cleaning(home, keep=0, older_than=MONTH)
        left = _tree(home)
        assert not [path for path in left if "removed" in path or "stray" in path or "/k" in path]
        assert not (home / "runs" / "iris").is_dir() or not list((home / "runs" / "iris").iterdir())
        if finished:
            break
    assert finished and steps > 10


def _dirty(home: Path) -> str:
    """A home with a version in use and something of every kind that is not; gives the digest."""
    place = Place.make(home.parent)
    digest = place.publish(make_model(home.parent / "model", *make_layers(4, 3, seed=1))).digest
    with Registry.open(home) as registry:
        registry.register_version("chain", digest)
        registry.set_alias("chain", "champion", 1, expected=None)
    for days, key in ((90, "k1"), (80, "k2")):
        _record(home, "iris", days, {"train": key})
    (home / "store" / "blobs" / "sha256" / ("0" * 64)).write_bytes(b"left by a crash")
    (home / "store" / ".incoming" / "stray").write_bytes(b"half")
    (home / "cache" / "champions" / ("1" * 64)).mkdir(parents=True)
    (home / "cache" / "champions" / ("1" * 64) / "graph.onnx").write_bytes(b"x")
    return digest


def test_links_are_not_followed(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (home / "cache" / "stages" / "train").mkdir(parents=True)
    (home / "cache" / "stages" / "train" / "k").symlink_to(outside)
    apply_cleaning(home, keep=0)
    assert (outside / "precious").read_text() == "mine"
    assert list((home / "cache" / "stages" / "train").iterdir()) == []


@pytest.mark.parametrize(
    "words", [["--keep", "-1"], ["--older-than", "soon"], ["--older-than", "-3d"]]
)
def test_what_cannot_be_meant(house: House, words: list[str]) -> None:
    done = house.dukou("clean", "=".join(words))
    assert done.returncode == 2
    assert "[usage.invalid]" in done.stderr


def test_a_registry_that_cannot_be_read_stops_it(house: House) -> None:
    house.home.mkdir(mode=0o700)
    (house.home / "registry.db").write_bytes(b"no database" * 99)
    _record(house.home, "iris", 90, {"train": "k"})
    done = house.dukou("clean", "--keep", "0")
    assert done.returncode == 3
    assert "[registry.unreadable]" in done.stderr
    assert (house.home / "cache" / "stages" / "train" / "k").is_dir()


# A training command that tidies up while it runs, and leaves what it was told as its model.
_TIDY = """
import os, pathlib, subprocess, sys
done = subprocess.run([sys.executable, "-m", "dukou", "clean"], capture_output=True, text=True)
pathlib.Path(os.environ["DUKOU_OUTPUT"], "model.txt").write_text(f"{done.returncode} {done.stderr}")
"""
_TIDY_PROJECT = """
version = 1
[model]
name = "tidy"
[data]
path = "rows.csv"
target = "y"
max_duplicates = 1.0
[train]
command = "python train.py"
"""


def test_a_ship_keeps_its_cache_from_being_cleaned(house: House, tmp_path: Path) -> None:
    rows = "\n".join(f"{row}.5,{row % 2}" for row in range(100))
    (tmp_path / "rows.csv").write_text(f"x,y\n{rows}\n")
    (tmp_path / "train.py").write_text(_TIDY)
    (tmp_path / "dukou.toml").write_text(_TIDY_PROJECT)
    done = house.dukou("ship", tmp_path, "--until", "train", "--json")
    assert done.returncode == 0, done.stderr
    left = Path(json.loads(done.stdout)["folders"]["train"]) / "model.txt"
    assert left.read_text().startswith("3 error: ") and "[cache.in-use]" in left.read_text()
    # It has ended: nothing holds the cache any more.
    assert house.dukou("clean").returncode == 0
