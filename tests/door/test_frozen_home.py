"""A home that may be read and not written: a copy, a mount, another user's. Looking works; changing is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.registry_house import publish
from tests.serving import House

# Root may write whatever the mode says, unless it gives that up.
_HUMBLE = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


@pytest.fixture
def frozen(house: House, tmp_path: Path) -> Iterator[House]:
    house.home.mkdir(mode=0o700)
    publish(house, tmp_path, seed=1)
    (house.home / ".registry.lock").unlink()
    paths = [house.home, *house.home.rglob("*")]
    modes = {path: path.stat().st_mode & 0o777 for path in paths}
    for path in paths:
        path.chmod(modes[path] & 0o555)
    yield house
    for path, mode in modes.items():
        path.chmod(mode)


def dukou(house: House, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dukou", *map(str, words)]
    if os.geteuid() == 0:
        assert shutil.which("setpriv"), "install util-linux"
        command = _HUMBLE + command
    return subprocess.run(
        command, env=house.environment, capture_output=True, text=True, timeout=50, check=False
    )


def test_what_only_looks_works(frozen: House) -> None:
    shown = dukou(frozen, "models", "chain")
    assert shown.returncode == 0, shown.stderr
    assert "chain:1" in shown.stdout
    assert dukou(frozen, "clean", "--dry-run").returncode == 0
    examined = dukou(frozen, "doctor").stdout
    assert "may not be written to by this user" in examined
    assert "1 version; the audit chain verifies" in examined


def test_what_changes_something_is_refused_in_a_sentence(frozen: House) -> None:
    for words in (("promote", "chain:1", "--now"), ("clean",)):
        done = dukou(frozen, *words)
        assert done.returncode == 5, done.stdout
        assert "[store.not-writable]" in done.stderr and "Traceback" not in done.stderr


def test_a_registry_of_an_older_dukou_is_not_upgraded_there(frozen: House) -> None:
    import sqlite3

    file = frozen.home / "registry.db"
    frozen.home.chmod(0o700)
    file.chmod(0o600)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")
    database.close()
    file.chmod(0o400)
    frozen.home.chmod(0o500)
    done = dukou(frozen, "models")
    assert done.returncode == 5
    assert "may only be read, and is of step 0001" in done.stderr
