"""Real servers for the tests: a small model, `dukou serve` as a child process, and load on it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dukou.fleet.folder import FleetFolder
from dukou.fleet.look import look_at_fleets
from dukou.serve.folder import ServerFolder

FEATURES, CLASSES = 4, 3
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "data": [1, 2, 3, 4]}]}
)


def write_model(path: Path, *, scale: float = 1.0) -> Path:
    """A linear classifier: `x` FP32 [n, 4] → `label` INT64 [n], `probabilities` FP32 [n, 3]."""
    rng = np.random.default_rng(7)
    weights = (rng.standard_normal((FEATURES, CLASSES)) * scale).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=-1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES]),
        ],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


class House:
    """A home and a runtime folder of a test's own, and `dukou` run in them."""

    def __init__(self, home: Path, runtime: Path) -> None:
        self.home = home
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")},
            "DUKOU_HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
        }

    def dukou(
        self, *words: str | Path, stdin: str = "", timeout_s: float = 50
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "dukou", *map(str, words)],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @contextlib.contextmanager
    def serving(self, *words: str | Path, port: int = 0) -> Iterator[RunningServer]:
        """A server, ended with the block."""
        with self._until_ended("serve", "--json", "--port", str(port), *words) as (process, facts):
            yield RunningServer(self, process, facts)

    @contextlib.contextmanager
    def fleet(self, *words: str | Path) -> Iterator[RunningFleet]:
        """A fleet, ended with the block."""
        words = ("fleet", "up", "--json", "--port", "0", *words)
        with self._until_ended(*words) as (process, facts):
            yield RunningFleet(self, process, facts)

    @contextlib.contextmanager
    def _until_ended(
        self, *words: str | Path
    ) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dukou", *map(str, words)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise AssertionError(f"no server: {process.communicate()[1]}")
            facts = json.loads(line)
            if "url" not in facts:
                raise AssertionError(f"no server: {facts}")
            yield process, facts
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=40)


class RunningServer:
    """One `dukou serve` in the background."""

    def __init__(self, house: House, process: subprocess.Popen[str], facts: dict[str, Any]) -> None:
        self.house = house
        self.process = process
        self.facts = facts
        self.url = str(facts["url"])
        parts = urllib.parse.urlsplit(self.url)
        self.address = (str(parts.hostname), int(parts.port or 0))

    def status(self) -> dict[str, Any]:
        """This server in `dukou status --json`."""
        done = self.house.dukou("status", "--json")
        assert done.returncode == 0, done.stderr
        servers = json.loads(done.stdout)["servers"]
        return next(s for s in servers if s["pid"] == self.process.pid)

    def ask(
        self, model: str, body: str = BODY, version: str | None = None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """One inference on a connection of its own: status, document, headers."""
        middle = f"/versions/{version}" if version else ""
        return exchange(self.address, "POST", f"/v2/models/{model}{middle}/infer", body)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Sends a signal and waits: the exit status and what stood on stderr."""
        self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=40)
        return self.process.returncode, stderr


class RunningFleet(RunningServer):
    """One `dukou fleet up` in the background; its address is the gateway's."""

    def status(self) -> dict[str, Any]:
        """This fleet as `dukou fleet status --json` shows it, without a process for each look."""
        runtime = Path(self.house.environment["XDG_RUNTIME_DIR"], "dukou")
        folder = FleetFolder(next(runtime.glob(f"fleet-*-{self.process.pid}")))
        document = folder.read(folder.fleet)
        assert document is not None
        (found,) = look_at_fleets([document], window_s=0.0)
        return found

    def healthy(self) -> int:
        """How many replicas the gateway finds healthy."""
        return int(self.status()["healthy"])

    def pids(self, replica: dict[str, Any]) -> list[int]:
        """The processes of a replica: its supervisor, engine and control."""
        folder = ServerFolder(Path(replica["socket"]).parent)
        server = folder.read(folder.document)
        assert server is not None and server["pid"] == replica["pid"]
        children = [server[name] for name in ("engine", "control") if server[name] is not None]
        return [server["pid"], *(child["pid"] for child in children)]


def exchange(
    address: tuple[str, int], method: str, path: str, body: str | None = None
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        text = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, json.loads(text) if text else {}, headers
    finally:
        connection.close()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts."""
    try:
        state = Path("/proc", str(pid), "stat").read_text(encoding="utf-8").rpartition(")")[2]
    except OSError:
        return True
    return state.split()[0] == "Z"


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Asks again and again; fails where it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not in {timeout_s:g} s: {what}"
        time.sleep(0.005)


class Load:
    """Clients that ask one request after the other and count what became of each.

    `ok`, a status (`503`), `refused` (no connection), `lost` (no whole answer on a connection that
    stood).
    """

    def __init__(self, address: tuple[str, int], model: str, *, clients: int, keep: bool) -> None:
        self._address = address
        self._path = f"/v2/models/{model}/infer"
        self._keep = keep
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the load; every client has finished its request."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def more(self, count: int) -> None:
        """Waits for so many further answers."""
        wanted = self.outcomes["ok"] + count
        wait_until(lambda: self.outcomes["ok"] >= wanted, f"{count} more answers: {self.outcomes}")

    def hear(self, response: http.client.HTTPResponse, body: bytes) -> None:
        """What else is to be looked at in an answer; by the thread that asked."""

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        while not self._stop.is_set():
            outcome, version = self._once(connection)
            with self._lock:
                self.outcomes[outcome] += 1
                if version:
                    self.versions[version] += 1
            if outcome == "refused":
                self._stop.wait(0.01)
        connection.close()

    def _once(self, connection: http.client.HTTPConnection) -> tuple[str, str | None]:
        try:
            if connection.sock is None:
                connection.connect()
                assert connection.sock is not None
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            connection.close()
            return "refused", None
        try:
            connection.request("POST", self._path, BODY)
            response = connection.getresponse()
            self.hear(response, response.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            return "lost", None
        if not self._keep or response.getheader("connection", "").lower() == "close":
            connection.close()
        outcome = "ok" if response.status == 200 else str(response.status)
        return outcome, response.getheader("dukou-version")


class Callers(Load):
    """Load whose clients watch what they are shown, each for itself.

    `backwards` has the revisions that a client saw after a later one, `wrong` the answers to the one
    question that differ from the first of the same version.
    """

    def __init__(self, address: tuple[str, int], model: str, *, clients: int) -> None:
        self._mine = threading.local()
        self._first: dict[str | None, Any] = {}
        self.backwards: list[tuple[int, int]] = []
        self.wrong: list[Any] = []
        super().__init__(address, model, clients=clients, keep=True)

    def hear(self, response: http.client.HTTPResponse, body: bytes) -> None:
        """Compares."""
        if response.status != 200:
            return
        said = response.getheader("dukou-revision") or "r0"
        revision, before = int(said.removeprefix("r")), getattr(self._mine, "revision", 0)
        if revision < before:
            self.backwards.append((before, revision))
        self._mine.revision = revision
        outputs = [output["data"] for output in json.loads(body)["outputs"]]
        first = self._first.setdefault(response.getheader("dukou-version"), outputs)
        if not all(np.allclose(a, b, atol=1e-5) for a, b in zip(first, outputs, strict=True)):
            self.wrong.append(outputs)

    def failures(self) -> int:
        """Requests without an answer, or with an error."""
        return sum(count for outcome, count in self.outcomes.items() if outcome != "ok")


@contextlib.contextmanager
def house(names: Sequence[str] = ("home",)) -> Iterator[House]:
    """A house in a folder with a short path (a socket's has room for 107 bytes), taken away again."""
    with tempfile.TemporaryDirectory(prefix="dk-") as folder:
        yield House(Path(folder, names[0]), Path(folder))
