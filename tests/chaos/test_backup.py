"""Backups killed at fifty random moments: the last good one restores, and its golden samples pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.artifacts import Place, make_layers, make_model

from dukou.lifecycle.backup import prove_home
from dukou.registry.backup.folder import Backups
from dukou.registry.registry import ANYTHING, Registry

CHILD = Path(__file__).with_name("backup_child.py")
KILLS, SEED = 50, 20261125


@pytest.mark.timeout(120)
def test_killed_at_fifty_moments_the_last_good_one_restores(tmp_path: Path) -> None:
    place = Place.make(tmp_path)
    for seed in (1, 2):
        model = make_model(tmp_path / f"m{seed}", *make_layers(16, 300, 100, 3, seed=seed))
        packaged = place.publish(model, "chain")
        with Registry.open(place.home) as registry:
            number = registry.register_version("chain", packaged.digest)
            registry.set_alias("chain", "champion", number, expected=ANYTHING)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OPENBLAS_NUM_THREADS": "1",
    }
    folder = tmp_path / "backups"
    done = subprocess.run(
        [sys.executable, str(CHILD), str(place.home), str(folder), str(KILLS), str(SEED)],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    first, *told = [json.loads(line) for line in done.stdout.splitlines()]
    killed = sum(line["killed"] for line in told)
    assert len(told) == KILLS
    print(f"seed {SEED}: {killed} of {KILLS} were killed before they had ended")
    assert killed >= KILLS // 4

    backups = Backups(folder)
    # Whatever there is, is whole: the first one, and those that had appeared before their kill.
    ids = backups.ids()
    assert ids[0] == first["first"]
    newest = [backups.read(name) for name in ids][-1]
    backups.restore(newest, tmp_path / "restored")
    found = prove_home(tmp_path / "restored", tmp_path / "scratch")
    assert found["versions"] == {"chain:2": 1}
    for name in ids[:-1:5]:
        backups.restore(backups.read(name), tmp_path / name)
    # Nothing half-made is in the way of the next one, or left behind by it.
    taken = backups.take(place.home)
    assert not list((folder / ".incoming").iterdir())
    named = {f.blob for name in backups.ids() for f in backups.read(name).files}
    assert {p.name for p in (folder / "blobs").iterdir()} == named
    backups.restore(taken.snapshot, tmp_path / "after")
