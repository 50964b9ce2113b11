"""The local API's client: what an engine may answer, and every way in which it may fail to."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dukou.base.errors import DukouError, RemoteError, StateError
from dukou.serve.local_api import LocalApi

Answering = Callable[[bytes], LocalApi]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """A Unix socket that answers one call with fixed bytes."""
    folder = Path(tempfile.mkdtemp(prefix="dukou-test-"))
    threads: list[threading.Thread] = []
    heard: list[bytes] = []

    def answer(content: bytes) -> LocalApi:
        path = folder / f"{len(threads)}.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()

        def once() -> None:
            with listener, listener.accept()[0] as connection:
                heard.append(connection.recv(1 << 16))
                connection.sendall(content)

        thread = threading.Thread(target=once)
        thread.start()
        threads.append(thread)
        return LocalApi(path, timeout_s=10)

    yield answer
    for thread in threads:
        thread.join(10)
    shutil.rmtree(folder)


def _response(status: str, document: object) -> bytes:
    body = json.dumps(document).encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def test_an_answer_is_read(answering: Answering) -> None:
    assert answering(_response("200 OK", {"epoch": "e"})).state() == {"epoch": "e"}


def test_no_table_yet_is_none(answering: Answering) -> None:
    error = {"error": {"code": "server.not-ready", "message": "no table"}}
    assert answering(_response("404 Not Found", error)).table() is None


def test_chunks_are_joined(answering: Answering) -> None:
    answer = (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'
    )
    assert answering(answer).state() == {"a": 1}


def test_the_engines_error_keeps_its_code_and_place(answering: Answering) -> None:
    error = {
        "code": "table.golden-mismatch",
        "message": "sample 1 differs",
        "remedy": "package it again",
        "model": "digits",
        "version": "3",
    }
    with pytest.raises(StateError) as refused:
        answering(_response("422 Unprocessable Entity", {"error": error})).put_table({})
    assert refused.value.code == "table.golden-mismatch"
    assert refused.value.message == "`digits:3`: sample 1 differs"
    assert refused.value.hint == "package it again"


def test_a_code_that_both_sides_have_keeps_its_family(answering: Answering) -> None:
    error = {"code": "formats.corrupt", "message": "it ends early"}
    with pytest.raises(DukouError) as refused:
        answering(_response("422 Unprocessable Entity", {"error": error})).put_table({})
    assert (refused.value.family, refused.value.exit_status) == ("input", 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"nonsense\r\n\r\n",
    ],
)
def test_half_an_answer_is_none(answering: Answering, answer: bytes) -> None:
    with pytest.raises(RemoteError) as refused:
        answering(answer).state()
    assert refused.value.code == "engine.unreachable"


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(RemoteError) as refused:
        LocalApi(tmp_path / "none.sock").state()
    assert refused.value.code == "engine.unreachable"
    assert "none.sock" in refused.value.message
