"""A migration in front of real servers: what goes through, what is compared, and that a flip loses nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.migration import Servers, migrating, two_servers
from tests.serving import House, Load, exchange, write_model

ROWS = json.dumps({"instances": [[1, 2, 3, 4]]})


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with two_servers(tmp_path_factory.mktemp("models")) as found:
        yield found


def test_equal_answers_then_a_flip_and_back(servers: Servers) -> None:
    house, old, new = servers
    with migrating(house, old.url, new.url) as migration:
        assert migration.facts["server"] == "dukou"
        for _ in range(5):
            through = exchange(migration.address, "POST", "/v1/models/m:predict", ROWS)
            assert through[:2] == exchange(old.address, "POST", "/v1/models/m:predict", ROWS)[:2]
        assert exchange(migration.address, "GET", "/v2/models/m")[0] == 200
        assert exchange(migration.address, "POST", "/v1/models/nobody:predict", ROWS)[0] == 404
        report = migration.report()
        assert report["forwarded"] == {"old": 7, "new": 0}
        assert (report["compared"], report["equal"], report["different"]) == (6, 6, 0)
        assert report["times"]["old"]["count"] == report["times"]["new"]["count"] == 6
        flipped = migration.say("--flip")
        assert flipped.returncode == 0, flipped.stderr
        assert json.loads(flipped.stdout)["side"] == "new"
        assert exchange(migration.address, "POST", "/v1/models/m:predict", ROWS)[0] == 200
        assert migration.say("--back").returncode == 0
        assert exchange(migration.address, "POST", "/v1/models/m:predict", ROWS)[0] == 200
        last = migration.end()
    assert last["forwarded"] == {"old": 8, "new": 1}
    assert (last["failed"], last["different"], last["unanswered"]) == (0, 0, 0)


def test_differences_are_told_and_hold_the_flip_up(servers: Servers) -> None:
    house, old, new = servers
    with migrating(house, old.url, new.url) as migration:
        early = migration.say("--flip")
        assert early.returncode == 3
        assert "[migrate.differs]" in early.stderr
        assert "nothing was compared yet" in early.stderr
        exchange(migration.address, "POST", "/v1/models/other:predict", ROWS)
        report = migration.report()
        assert report["different"] == 1
        (example,) = report["differences"]
        assert example["request"] == "POST /v1/models/other:predict"
        assert example["body"] == ROWS
        assert "`predictions[0].probabilities[" in example["difference"]
        refused = migration.say("--flip")
        assert refused.returncode == 3
        assert "of 1 compared answers 1 differ" in refused.stderr
        assert migration.say("--flip", "--force").returncode == 0
        assert migration.report()["side"] == "new"
        text = house.dukou("migrate", "--report", "--port", str(migration.port)).stdout
        assert "answers with dukou at" in text


def test_binary_tensors_and_large_bodies_pass_unchanged(servers: Servers) -> None:
    house, old, new = servers
    rows = np.random.default_rng(5).standard_normal((40_000, 4)).astype(np.float32)
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": list(rows.shape),
                    "parameters": {"binary_data_size": rows.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "X-Trace": "7"}

    def ask(address: tuple[str, int]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*address, timeout=30)
        try:
            connection.request("POST", "/v2/models/m/infer", head + rows.tobytes(), headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    with migrating(house, old.url, new.url) as migration:
        status, through, body = ask(migration.address)
        direct = ask(old.address)
        assert (status, body) == (200, direct[2])
        own = {"dukou-request-id", "connection", "date", "dukou-revision", "x-request-id"}
        assert {k: v for k, v in through.items() if k.lower() not in own} == {
            k: v for k, v in direct[1].items() if k.lower() not in own
        }
        report = migration.report()
        assert (report["compared"], report["equal"]) == (1, 1), report["differences"]


def test_a_flip_under_load_loses_nothing(servers: Servers) -> None:
    house, old, new = servers
    with migrating(house, old.url, new.url, "--share", "0.2") as migration:
        with Load(migration.address, "m", clients=4, keep=True) as load:
            load.more(150)
            for word in ("--flip", "--back", "--flip"):
                assert migration.say(word, "--force").returncode == 0
                load.more(150)
        last = migration.end()
    assert set(load.outcomes) == {"ok"}
    assert sum(last["forwarded"].values()) == load.outcomes["ok"]
    assert min(last["forwarded"].values()) >= 100
    assert last["failed"] == 0
    assert last["not_copied"]["by the share"] > 0


def test_the_new_side_gone_the_old_takes_over(servers: Servers, tmp_path: Path) -> None:
    house, old, _ = servers
    model = write_model(tmp_path / "m.onnx")
    with house.serving(model) as new, migrating(house, old.url, new.url) as migration:
        exchange(migration.address, "POST", "/v1/models/m:predict", ROWS)
        assert migration.say("--flip").returncode == 0
        new.end()
        assert exchange(migration.address, "POST", "/v1/models/m:predict", ROWS)[0] == 200
        report = migration.report()
        assert report["taken_over"] == 1
        again = migration.say("--flip", "--force")
        assert again.returncode == 3
        assert "[server.not-running]" in again.stderr


# --- servers that behave as servers may ---


@contextlib.contextmanager
def scripted(script: Callable[[socket.socket], None], *, known: bool = True) -> Iterator[str]:
    """A server whose every connection is one run of `script`; a known one answers `/v2` like Triton."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if known and b"GET /v2 " in connection.recv(65536, socket.MSG_PEEK):
                _head(connection)
                said = b'{"name": "triton"}'
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said
                )
                return
            script(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # `close` alone leaves `accept` waiting.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _head(connection: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("closed")
        found += piece
    return found


def test_an_answer_streams_while_the_request_still_comes(servers: Servers) -> None:
    """Piece by piece both ways: nothing waits for an end that has not come."""
    house, _, new = servers
    went_on = threading.Event()

    def script(connection: socket.socket) -> None:
        _head(connection)
        connection.sendall(
            b"HTTP/1.1 200 Fine\r\nX-Own: kept\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        )
        assert went_on.wait(20)
        connection.sendall(b"6\r\nsecond\r\n0\r\n\r\n")

    with scripted(script) as old, migrating(house, old, new.url) as migration:
        connection = http.client.HTTPConnection(*migration.address, timeout=20)
        connection.request("GET", "/anything")
        response = connection.getresponse()
        assert (response.reason, response.getheader("X-Own")) == ("Fine", "kept")
        assert response.read1(5) == b"first"
        went_on.set()
        assert response.read() == b"second"
        connection.close()
        assert migration.facts["server"] == "Triton"


def test_a_kept_connection_that_was_closed_costs_no_request(servers: Servers) -> None:
    house, _, new = servers

    def script(connection: socket.socket) -> None:
        # Says that it keeps the connection, and closes it after the first answer all the same.
        _head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with scripted(script) as old, migrating(house, old, new.url) as migration:
        connection = http.client.HTTPConnection(*migration.address, timeout=20)
        for _ in range(20):
            connection.request("GET", "/x")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"ok")
        connection.close()
        assert migration.report()["failed"] == 0


def test_an_early_refusal_of_a_large_body_reaches_the_client(servers: Servers) -> None:
    house, _, new = servers

    def script(connection: socket.socket) -> None:
        _head(connection)
        connection.sendall(
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
        )
        while connection.recv(65536):
            pass

    with scripted(script) as old, migrating(house, old, new.url) as migration:
        connection = http.client.HTTPConnection(*migration.address, timeout=20)
        connection.request("POST", "/v1/models/m:predict", b"x" * 3_000_000)
        response = connection.getresponse()
        assert (response.status, response.read()) == (413, b"no")
        connection.close()


def test_an_old_server_that_breaks_off_is_a_502(servers: Servers) -> None:
    house, _, new = servers

    def script(connection: socket.socket) -> None:
        _head(connection)

    with scripted(script) as old, migrating(house, old, new.url) as migration:
        status, said, _ = exchange(migration.address, "POST", "/v1/models/m:predict", ROWS)
        assert (status, said["code"]) == (502, "server.not-running")
        assert migration.report()["failed"] == 1


def test_what_is_no_http_is_refused(servers: Servers) -> None:
    house, old, new = servers
    with migrating(house, old.url, new.url) as migration:
        with socket.create_connection(migration.address, timeout=20) as connection:
            connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        connection = http.client.HTTPConnection(*migration.address, timeout=20)
        connection.request("POST", "/v1/models/m:predict", ROWS, {"Expect": "100-continue"})
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (("--report",), "migrate.not-running", 3),
        (("--from", "http://127.0.0.1:1", "--to", "http://127.0.0.1:2"), "server.not-running", 3),
        (("--from", "ftp://old"), "usage.invalid", 2),
        (("--from", "http://h:1", "--to", "http://h:1"), "usage.invalid", 2),
        (("--from", "http://h:1", "--share", "2"), "usage.invalid", 2),
        (("--from", "http://h:1"), "server.not-running", 3),
        ((), "usage.invalid", 2),
    ],
)
def test_what_is_refused(house: House, words: tuple[str, ...], code: str, status: int) -> None:
    done = house.dukou("migrate", *words)
    assert done.returncode == status, done.stderr
    assert f"[{code}]" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_server_of_no_kind_is_refused(house: House) -> None:
    def script(connection: socket.socket) -> None:
        _head(connection)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    with scripted(script, known=False) as old:
        done = house.dukou("migrate", "--from", old, "--to", "http://127.0.0.1:2")
    assert done.returncode == 6
    assert "(404 to `/v2`, 404 to `/v1/models`, 404 to `/ping`, 404 to `/`)" in done.stderr
    assert "[migrate.unknown-server]" in done.stderr


def test_off_loopback_it_is_asked_for(servers: Servers) -> None:
    house, old, new = servers
    words = ("migrate", "--from", old.url, "--to", new.url, "--host", "0.0.0.0", "--port", "0")
    done = house.dukou(*words)
    assert done.returncode == 4
    assert "[access.off-loopback]" in done.stderr
