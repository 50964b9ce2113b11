"""Other servers, started with the tests' models in them, each in its own environment, and ours beside them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.compatibility.calls import Call, call
from tests.compatibility.calls_torchserve import TORCHSERVE_CALLS
from tests.compatibility.calls_triton import TRITON_CALLS
from tests.compatibility.questions import BESIDE, V1, V2, Address, Question, ask, differences
from tests.compatibility.questions_torchserve import MANAGEMENT, PREDICTIONS
from tests.compatibility.questions_triton import TRITON_REST
from tests.compatibility.starts import (
    TORCHSERVE_WORDS,
    Started,
    lay_one_file,
    lay_torchserve,
    lay_triton,
    start_kserve,
    start_mlserver,
    start_torchserve,
    start_triton,
)
from tests.serving import House, RunningServer

from dukou.serve.migrate.http.answer import Answer

ROOT = Path(__file__).parents[2]
ANSWERS = ROOT / "conformance" / "answers"
Asked = Question | Call
Doors = Mapping[str, Address]


class Peer(NamedTuple):
    """A server that the same is asked of.

    Attributes:
        title: what the page calls it.
        name: its package.
        environment: its own, under `build`.
        questions: protocol → what is asked of it, in an order that counts.
        lay: puts the models into a folder; what our server is started with.
        start: its command line, by the models' folder and one of its own.
        words: what it calls something → what we call it, in paths and answers.
        beside: fields of our errors that its need not have.
        is_recorded: whether its answers are kept, for whoever cannot start it.
    """

    title: str
    name: str
    environment: str
    questions: dict[str, Sequence[Asked]]
    lay: Callable[[Path], list[str | Path]]
    start: Callable[[Path, Path, Path], Started]
    words: Mapping[str, str] = {}
    beside: frozenset[str] = BESIDE
    is_recorded: bool = False

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / "build" / self.environment / "bin" / "python"

    @property
    def answers(self) -> Path:
        """Where its answers are kept."""
        return ANSWERS / f"{self.name}.json"

    def ours(self, text: str) -> str:
        """Its words as we say them."""
        for theirs, ours in self.words.items():
            text = text.replace(theirs, ours)
        return text


KSERVE = Peer("KServe", "kserve", "clients-venv", {"V2": V2, "V1": V1}, lay_one_file, start_kserve)
MLSERVER = Peer("MLServer", "mlserver", "mlserver-venv", {"V2": V2}, lay_one_file, start_mlserver)
TRITON = Peer(
    "Triton",
    "nvidia-pytriton",
    "bench-venv",
    {"V2": TRITON_REST, "V2 over gRPC": TRITON_CALLS},
    lay_triton,
    start_triton,
    is_recorded=True,
)
TORCHSERVE = Peer(
    "TorchServe",
    "torchserve",
    "torchserve-venv",
    {"Inference": PREDICTIONS, "gRPC": TORCHSERVE_CALLS, "Management": MANAGEMENT},
    lay_torchserve,
    start_torchserve,
    words=TORCHSERVE_WORDS,
    beside=frozenset({"error", "detail", "remedy", "request_id"}),
    is_recorded=True,
)
PEERS = (TRITON, TORCHSERVE, KSERVE, MLSERVER)


@contextlib.contextmanager
def running(peer: Peer, models: Path) -> Iterator[Doors]:
    """The server with the models of a folder, ended with the block."""
    assert peer.python.is_file(), f"`make .stamps/{peer.environment}` makes `{peer.python}`"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = peer.start(models, folder, peer.python)
        log = (folder / "log").open("wb")
        process = subprocess.Popen(
            started.command,
            env={**os.environ, **started.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            # It ends with all that it started.
            start_new_session=True,
        )
        try:
            _wait(process, started, folder / "log")
            yield started.doors
        finally:
            _end(process)
            log.close()


@contextlib.contextmanager
def serving_the_same(peer: Peer, house: House) -> Iterator[tuple[RunningServer, Path]]:
    """Our server with the models that the peer is given, and their folder."""
    with tempfile.TemporaryDirectory() as name, house.serving(*peer.lay(Path(name))) as server:
        yield server, Path(name)


def version_of(peer: Peer) -> str:
    """The version of its package."""
    command = f"from importlib.metadata import version; print(version({peer.name!r}))"
    done = subprocess.run(
        [peer.python, "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def answers_of(peer: Peer, doors: Doors, *, are_ours: bool) -> dict[str, dict[str, Answer]]:
    """Protocol → question → answer, all asked in their order."""

    def answer(asked: Asked) -> Answer:
        address = doors.get(asked.door, doors[""])
        if isinstance(asked, Call):
            return call(address, asked if not are_ours else asked.translated(peer.ours))
        return ask(address, asked._replace(path=peer.ours(asked.path)) if are_ours else asked)

    return {
        protocol: {asked.name: answer(asked) for asked in questions}
        for protocol, questions in peer.questions.items()
    }


def differing_of(
    peer: Peer, there: Mapping[str, Answer], here: Mapping[str, Answer]
) -> dict[str, list[str]]:
    """Question → how the answers differ."""

    def ours(answer: Answer) -> Answer:
        if not peer.words:
            return answer
        return answer._replace(body=peer.ours(answer.body.decode()).encode())

    return {
        name: differences(name, ours(answer), here[name], peer.beside)
        for name, answer in there.items()
    }


def compare_with(peer: Peer, house: House) -> dict[str, Any]:
    """All that is asked of a peer, by protocol, beside what our server answers; keeps its answers."""
    with serving_the_same(peer, house) as (server, models):
        here = answers_of(peer, {"": server.address}, are_ours=True)
        with running(peer, models) as doors:
            there = answers_of(peer, doors, are_ours=False)
    if peer.is_recorded:
        keep_answers(peer, there)
    found = {protocol: differing_of(peer, there[protocol], here[protocol]) for protocol in there}
    known = {"title": peer.title, "name": peer.name, "version": version_of(peer)}
    return {**known, "protocols": found}


def keep_answers(peer: Peer, there: Mapping[str, Mapping[str, Answer]]) -> None:
    """Writes a peer's answers down."""
    kept = {
        protocol: {name: _kept(answer) for name, answer in answers.items()}
        for protocol, answers in there.items()
    }
    ANSWERS.mkdir(exist_ok=True)
    text = json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=False) + "\n"
    peer.answers.write_text(text, encoding="utf-8")


def kept_answers(peer: Peer) -> dict[str, dict[str, Answer]]:
    """A peer's answers as they were written down."""
    kept = json.loads(peer.answers.read_text(encoding="utf-8"))
    return {
        protocol: {name: _answer(said) for name, said in answers.items()}
        for protocol, answers in kept.items()
    }


def _kept(answer: Answer) -> dict[str, Any]:
    """The status, the headers that are compared, and the body: as text where it is some.

    Of a long description only the fields are compared, and only they are kept.
    """
    headers = {name: value for name, value in answer.headers.items() if name in _KEPT}
    try:
        text = answer.body.decode()
        body = {"text": text if len(text) < _LONG else json.dumps(_emptied(json.loads(text)))}
    except UnicodeDecodeError:
        body = {"base64": base64.b64encode(answer.body).decode()}
    return {"status": answer.status, **({"headers": headers} if headers else {}), **body}


def _emptied(document: Any) -> Any:
    """A document without its texts."""
    if isinstance(document, dict):
        return {key: _emptied(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_emptied(value) for value in document]
    return "" if isinstance(document, str) else document


_LONG = 4096
_KEPT = ("inference-header-content-length", "content-encoding", "grpc-message")


def _answer(said: Mapping[str, Any]) -> Answer:
    body = said["text"].encode() if "text" in said else base64.b64decode(said["base64"])
    return Answer(said["status"], said.get("headers", {}), body)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
            break


def _wait(process: subprocess.Popen[bytes], started: Started, log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        said = log.read_text(errors="replace")
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        with contextlib.suppress(OSError):
            if all(
                ask(started.doors[""], question).status == 200 for question in started.ready_when
            ):
                return
        time.sleep(0.1)
