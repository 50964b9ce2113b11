"""Folders of running servers: private, found while they live, swept when they are gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dukou.base.errors import StateError, TrustError
from dukou.serve.folder import (
    ServerFolder,
    find_server,
    new_folder,
    running_servers,
    runtime_folder,
)


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Not pytest's own folder: the path of a socket has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="dukou-test-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def _document(folder: ServerFolder, models: list[str], url: str, started: float) -> None:
    document = {"started": started, "models": models, "url": url, "state_dir": "/nowhere"}
    folder.write(folder.document, document)


def test_it_is_private(base: Path) -> None:
    assert runtime_folder() == base / "dukou"
    assert (base / "dukou").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_to_is_refused(base: Path) -> None:
    (base / "dukou").mkdir()
    (base / "dukou").chmod(0o777)
    with pytest.raises(TrustError) as refused:
        runtime_folder()
    assert refused.value.code == "access.foreign-folder"


def test_a_link_in_its_place_is_refused(base: Path) -> None:
    (base / "elsewhere").mkdir(mode=0o700)
    (base / "dukou").symlink_to(base / "elsewhere")
    with pytest.raises(TrustError):
        runtime_folder()


def test_a_long_path_gives_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    folder = runtime_folder()
    assert folder == Path(tempfile.gettempdir()) / f"dukou-{os.geteuid()}"
    longest = ServerFolder(folder / f"{'n' * 40}-4194304").socket
    assert len(os.fsencode(longest)) <= 107


def test_living_servers_are_found_newest_last(base: Path) -> None:
    folders = [new_folder(name) for name in ("old", "new")]
    locks = [folder.hold() for folder in folders]
    for age, folder in enumerate(folders):
        _document(folder, ["digits"], f"http://127.0.0.1:{age}", started=float(age))
    assert [folder.id for folder, _ in running_servers()] == [folder.id for folder in folders]
    assert find_server("digits") == "http://127.0.0.1:1"
    for lock in locks:
        os.close(lock)
    assert list(running_servers()) == []
    assert list((base / "dukou").iterdir()) == []


def test_a_killed_server_is_swept_with_its_state(base: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from dukou.serve.folder import new_folder\n"
        "folder = new_folder('digits')\n"
        "lock = folder.hold()\n"
        "print(folder.path, flush=True)\n"
        "time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    folder = ServerFolder(Path(child.stdout.readline().strip()))
    state = tmp_path / "servers" / folder.id
    state.mkdir(parents=True)
    folder.write(
        folder.document,
        {"started": 0.0, "models": ["digits"], "url": "http://x", "state_dir": str(state)},
    )
    assert find_server("digits") == "http://x"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with pytest.raises(StateError) as refused:
        find_server("digits")
    assert refused.value.code == "server.not-running"
    assert not state.exists()
    assert not folder.path.exists()


def test_a_broken_document_sweeps_nothing_else(base: Path, tmp_path: Path) -> None:
    keep = tmp_path / "precious"
    keep.mkdir()
    folder = new_folder("digits")
    os.close(folder.hold())
    folder.document.write_text(json.dumps({"started": 0, "state_dir": str(keep)}))
    assert list(running_servers()) == []
    assert keep.exists()


def test_who_serves_something_else_is_named(base: Path) -> None:
    folder = new_folder("iris")
    lock = folder.hold()
    _document(folder, ["iris"], "http://127.0.0.1:1", 0.0)
    with pytest.raises(StateError, match="`iris`"):
        find_server("digits")
    os.close(lock)
