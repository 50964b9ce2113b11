"""A user's mistakes and a machine's misfortunes, each through its real door.

One sentence, a stable code, the status of its family, no traceback; and what was there is still there.
What `tests/door`, `tests/chaos` and `tests/security` try already is not tried again.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests import serving
from tests.chaos.test_publish import own_mounts
from tests.registry_house import publish
from tests.serving import House, exchange, wait_until, write_model

TRAIN = """
import os, joblib, numpy as np
from sklearn.linear_model import LogisticRegression
rows = np.loadtxt(os.environ["DUKOU_DATA"], delimiter=",", skiprows=1)
model = LogisticRegression(max_iter=500).fit(rows[:, :4], rows[:, 4].astype(int))
joblib.dump(model, os.path.join(os.environ["DUKOU_OUTPUT"], "model.joblib"))
"""
PROJECT = """
version = 1
[model]
name = "iris"
task = "classification"
[data]
path = "data.csv"
target = "target"
[train]
command = "python train.py"
files = ["train.py"]
seed = 0
[evaluate]
cross_validation = 0
gates = ["accuracy >= 0.80"]
[optimize]
passes = []
[deploy]
alias = "champion"
"""


def _write_project(folder: Path) -> Path:
    from sklearn.datasets import load_iris

    features, target = load_iris(return_X_y=True)
    rows = np.unique(np.column_stack([features, target]), axis=0)
    folder.mkdir()
    np.savetxt(folder / "data.csv", rows, "%g", delimiter=",", header="a,b,c,d,target", comments="")
    (folder / "train.py").write_text(TRAIN)
    (folder / "dukou.toml").write_text(PROJECT)
    return folder


class Shipped:
    """A project, a home where it has come to `optimize`, and one where version 1 is published."""

    def __init__(self, folder: Path) -> None:
        self.project = _write_project(folder / "iris")
        self.prepared, self.home = folder / "prepared", folder / "home"
        house = House(self.home, folder)
        done = house.dukou("ship", self.project, "--until", "optimize")
        assert done.returncode == 0, done.stderr
        shutil.copytree(self.home, self.prepared)
        done = house.dukou("ship", self.project)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return Shipped(tmp_path_factory.mktemp("shipped"))


@pytest.fixture
def copied(shipped: Shipped, house: House, tmp_path: Path) -> tuple[House, Path]:
    """A house and a project of the test's own, with version 1 published."""
    shutil.copytree(shipped.home, house.home)
    return house, shutil.copytree(shipped.project, tmp_path / "iris")


def _said(done: subprocess.CompletedProcess[str], status: int, code: str) -> str:
    """Holds a command to the form of an error: its sentence."""
    assert "Traceback (most recent call last)" not in done.stderr
    assert done.returncode == status, done.stderr
    *_, sentence, hint = done.stderr.rstrip("\n").splitlines()
    assert sentence.endswith(f"[{code}]"), done.stderr
    assert hint.startswith("hint: ")
    return sentence


def _edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def _append(path: Path, more: str) -> None:
    path.write_text(path.read_text() + more)


def _digests(home: Path) -> dict[str, str]:
    """What every blob and the index hold."""
    files = (path for path in (home / "store").rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _versions(house: House) -> list[tuple[int, list[str]]]:
    done = house.dukou("models", "iris", "--json")
    assert done.returncode == 0, done.stderr
    return [(v["version"], v["aliases"]) for v in json.loads(done.stdout)["versions"]]


def _replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD_PROJECTS: dict[str, tuple[Callable[[Path], object], int, str, str]] = {
    "a folder in its place": (
        lambda p: _replace_with_folder(p / "dukou.toml"), 2, "project.not-found", "iris",
    ),
    "not UTF-8": (
        lambda p: (p / "dukou.toml").write_bytes(b"\xff\xfe\0"), 2, "project.invalid", "UTF-8",
    ),
    "not TOML": (
        lambda p: _edit(p / "dukou.toml", "[model]", "[model"), 2, "project.invalid", "line 3",
    ),
    "empty": (lambda p: (p / "dukou.toml").write_text(""), 2, "project.invalid", "`version`"),
    "of a later dukou": (
        lambda p: _edit(p / "dukou.toml", "version = 1", "version = 99"), 2, "project.invalid", "99",
    ),
    "a key that is none": (
        lambda p: _edit(p / "dukou.toml", "seed =", "sede ="), 2, "project.invalid", "`train.sede`",
    ),
    "no data": (lambda p: (p / "data.csv").unlink(), 2, "project.invalid", "data.csv"),
    "no such target": (
        lambda p: _edit(p / "dukou.toml", '"target"', '"tarte"'), 2, "data.missing-column", "`tarte`",
    ),
    "a row too short": (
        lambda p: _append(p / "data.csv", "1,2\n"), 2, "data.unreadable", "2 cells",
    ),
    "a metric that is none": (
        lambda p: _edit(p / "dukou.toml", "accuracy", "acuracy"), 2, "evaluate.unknown-metric",
        "`acuracy`",
    ),
    "a gate that fails": (
        lambda p: _edit(p / "dukou.toml", "accuracy >= 0.80", "accuracy.lower >= 0.999"), 2,
        "evaluate.gate-failed", "accuracy.lower >= 0.999",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_PROJECTS)
def test_a_project_that_is_wrong_changes_nothing(copied: tuple[House, Path], case: str) -> None:
    house, project = copied
    break_it, status, code, word = BAD_PROJECTS[case]
    before = _digests(house.home)
    break_it(project)
    assert word in _said(house.dukou("ship", project), status, code)
    assert _digests(house.home) == before
    assert _versions(house) == [(1, ["champion"])]


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("raise ValueError('my own mistake')", "my own mistake"),
        ("print('done')", "left none"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
    ],
)
def test_a_training_that_fails_changes_nothing(
    copied: tuple[House, Path], script: str, word: str
) -> None:
    house, project = copied
    (project / "train.py").write_text(script)
    done = house.dukou("ship", project)
    assert done.returncode == 2, done.stderr
    assert "[project.train-failed]" in done.stderr
    assert word in done.stderr
    assert "dukou/lifecycle" not in done.stderr, (
        "its own traceback is the script's matter, not ours"
    )
    assert _versions(house) == [(1, ["champion"])]


def test_ctrl_c_in_the_middle_leaves_no_trace(copied: tuple[House, Path], tmp_path: Path) -> None:
    house, project = copied
    before = _digests(house.home)
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    (project / "train.py").write_text(
        f"import os, time\nopen({str(begun)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "dukou", "ship", str(project)],
        env=house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test that runs in the background of a shell inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    training = int(begun.read_text())
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    wait_until(lambda: serving.is_gone(training), "the training has ended too")
    assert _digests(house.home) == before
    (project / "train.py").write_text(TRAIN)
    assert house.dukou("ship", project).returncode == 0


def test_a_signing_key_that_is_gone_is_not_replaced(copied: tuple[House, Path]) -> None:
    house, project = copied
    key = house.home / "keys" / "signing.pem"
    content = key.read_bytes()
    key.unlink()
    _edit(project / "dukou.toml", "[data]", 'title = "another"\n[data]')
    before = _digests(house.home)
    assert "signing.pem" in _said(house.dukou("ship", project), 4, "trust.missing-key")
    assert _digests(house.home) == before
    assert _versions(house) == [(1, ["champion"])]
    key.write_bytes(content)
    assert house.dukou("ship", project).returncode == 0
    assert _versions(house) == [(1, []), (2, ["champion"])]


@pytest.mark.parametrize("kind", ["cut", "other bytes"])
def test_a_registry_that_is_damaged_is_left_as_it_is(
    house: House, tmp_path: Path, kind: str
) -> None:
    publish(house, tmp_path, seed=1)
    path = house.home / "registry.db"
    whole = path.read_bytes()
    damaged = whole[:3000] if kind == "cut" else b"hello\n" * 1000
    path.write_bytes(damaged)
    for words in (["models"], ["models", "chain"], ["serve", "chain", "--port", "0"]):
        sentence = _said(house.dukou(*words), 3, "registry.unreadable")
        assert "registry.db" in sentence
    assert path.read_bytes() == damaged
    path.write_bytes(whole)
    with house.serving("chain") as server:
        assert server.ask("chain")[0] == 200


@pytest.mark.parametrize("layer", ["graph", "golden"])
def test_a_flipped_byte_is_not_served_at_the_start_either(
    house: House, tmp_path: Path, layer: str
) -> None:
    version = publish(house, tmp_path, seed=1)
    digest = next(
        part["digest"] for part in version.manifest["layers"] if layer in part["mediaType"]
    )
    blob = house.home / "store" / "blobs" / "sha256" / digest.removeprefix("sha256:")
    whole = blob.read_bytes()
    blob.chmod(0o600)
    for place in (0, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        blob.write_bytes(flipped)
        done = house.dukou("serve", "chain", "--port", "0")
        assert digest in _said(done, 4, "package.digest-mismatch")
        assert done.stdout == ""
    blob.write_bytes(whole)
    with house.serving("chain") as server:
        assert server.ask("chain")[0] == 200


def test_a_store_that_is_deleted_under_a_server_is_not_missed(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=1)
    with house.serving("chain") as server:
        shutil.rmtree(house.home / "store")
        assert server.ask("chain")[0] == 200
        # Control finds nothing that changed; a new alias it cannot follow, and says so.
        assert server.status()["ready"]
        assert server.ask("chain")[0] == 200


def test_a_home_that_is_deleted_under_a_server_does_not_end_it(
    house: House, tmp_path: Path
) -> None:
    with house.serving(write_model(tmp_path / "m.onnx")) as server:
        engine = server.status()["engine"]["pid"]
        shutil.rmtree(house.home)
        assert server.ask("m")[0] == 200
        os.kill(engine, signal.SIGKILL)
        wait_until(lambda: serving.is_gone(engine), "the engine's end")
        # It may have lost its table; it may not be gone.
        status, _, _ = exchange(server.address, "GET", "/v2/health/live")
        assert status == 200


class _NotDukou(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def _answering(content: bytes) -> Iterator[str]:
    """Something that listens, answers everybody the same and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(content)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def _http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


STRANGERS = {
    "nothing": b"",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "text": _http("200 OK", b"hello"),
    "cut": _http("200 OK", b"hello")[:-3],
    "null": _http("200 OK", b"null"),
    "error": _http("500 Oh", b""),
    "elsewhere": _http("302 Found", b"", "Location: http://example.org/"),
    "empty": _http("200 OK", b"{}"),
    "strange": _http("200 OK", b'{"inputs": [{"name": 3, "shape": "x"}], "outputs": 7}'),
}


@pytest.mark.parametrize(
    "content",
    [pytest.param(content, id=name) for name, content in STRANGERS.items()],
)
def test_asking_what_is_not_dukou(house: House, content: bytes) -> None:
    with _answering(content) as url:
        done = house.dukou("predict", "m", "[[1]]", "--url", url)
    assert "Traceback" not in done.stderr
    assert done.returncode in (3, 6), done.stderr
    assert done.stderr.startswith("error: ")
    assert "[client.server-error]" in done.stderr or "[server.not-running]" in done.stderr
    assert done.stdout == ""


def test_asking_another_web_server(house: House) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _NotDukou) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{web.server_address[1]}"
        done = house.dukou("predict", "m", "[[1]]", "--url", url)
        web.shutdown()
        thread.join()
    assert "404" in _said(done, 6, "client.server-error")


def test_a_home_that_may_not_be_written_to(copied: tuple[House, Path]) -> None:
    """Root ignores modes: the home is mounted read-only in mounts of the command's own."""
    house, project = copied
    before = _digests(house.home)
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    for words in (["ship", str(project)], ["serve", "iris", "--port", "0"]):
        done = subprocess.run(
            [
                *own_mounts(),
                "sh",
                "-c",
                script,
                str(house.home),
                sys.executable,
                "-m",
                "dukou",
                *words,
            ],
            env=house.environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert str(house.home) in _said(done, 5, "store.not-writable")
    assert _digests(house.home) == before


def test_a_disk_that_fills_while_shipping(shipped: Shipped, tmp_path: Path) -> None:
    child = Path(__file__).with_name("full_disk_child.py")
    done = subprocess.run(
        [
            *[*own_mounts(), sys.executable, str(child)],
            *[str(shipped.project), str(shipped.prepared), str(tmp_path)],
            *["12", "100"],
        ],
        capture_output=True,
        text=True,
        timeout=58,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    attempts = [json.loads(line) for line in done.stdout.splitlines()]
    for attempt in attempts:
        assert "Traceback" not in attempt["stderr"]
        assert attempt["status"] in (0, 5), attempt["stderr"]
        if attempt["status"]:
            *_, sentence, hint = attempt["stderr"].splitlines()
            assert sentence.endswith("[store.disk-full]"), attempt["stderr"]
            assert hint.startswith("hint: ")
        # With space it goes through, and it is the same version 1.
        assert attempt["again"] == 0
        assert [v["version"] for v in attempt["versions"]] == [1]
        assert attempt["half_written"] == []
    assert attempts[0]["status"] == 5
