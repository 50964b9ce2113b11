"""What no proper client sends: the server answers or closes, never mistakes one request for another."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import serving
from tests.boundary.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2,
    block,
    count,
    frame,
)
from tests.boundary.raw import HOST, Wire, request, statuses
from tests.serving import BODY, RunningServer, wait_until, write_model

from dukou.serve.local_api import LocalApi

INFER = "/v2/models/m/infer"
LINE = f"POST {INFER} HTTP/1.1\r\n".encode() + HOST
GOOD = request(INFER)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY.encode())
BODY_BYTES, HEADER_MS = 100_000, 400


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with limits that are soon reached."""
    model = write_model(tmp_path_factory.mktemp("model") / "m.onnx")
    with serving.house() as house, house.serving(model) as running:
        local = LocalApi(Path(running.facts["socket"]))
        table = local.table()
        assert table is not None
        table["limits"] |= {"body_bytes": BODY_BYTES, "header_ms": HEADER_MS}
        table["sequence"] += 1
        local.put_table(table)
        yield running


@pytest.fixture(autouse=True)
def still_serving(server: RunningServer) -> Iterator[None]:
    """Whatever was sent: the next one is answered, and the engine is the same process."""
    engine = server.status()["engine"]["pid"]
    yield
    with Wire(server.address) as wire:
        wire.send(GOOD)
        reply = wire.read()
        assert reply is not None
        assert reply.status == 200
    assert server.status()["engine"]["pid"] == engine


def _framed(headers: bytes, body: bytes) -> bytes:
    """A request with a framing of its own, and a good one that must not be taken for its body."""
    return LINE + headers + b"\r\n" + body + GOOD


LENGTH = b"Content-Length: %d\r\n" % len(BODY)
REFUSED_FRAMINGS = {
    "two lengths": _framed(b"Content-Length: 5\r\n" + LENGTH, BODY.encode()),
    "two lengths, the other first": _framed(LENGTH + b"Content-Length: 5\r\n", BODY.encode()),
    "a list of lengths": _framed(b"Content-Length: 5, 5\r\n", b"hello"),
    "a length with a sign": _framed(b"Content-Length: +5\r\n", b"hello"),
    "a negative length": _framed(b"Content-Length: -1\r\n", b""),
    "a hexadecimal length": _framed(b"Content-Length: 0x5\r\n", b"hello"),
    "a length beyond 64 bits": _framed(b"Content-Length: 18446744073709551621\r\n", b"hello"),
    "an unknown coding": _framed(b"Transfer-Encoding: xchunked\r\n", CHUNKED),
    "chunked and then another": _framed(b"Transfer-Encoding: chunked, identity\r\n", CHUNKED),
    "a space before the colon": _framed(b"Transfer-Encoding : chunked\r\n" + LENGTH, CHUNKED),
    "a folded header": _framed(b"X: a\r\n Transfer-Encoding: chunked\r\n" + LENGTH, CHUNKED),
    "a header without a name": _framed(b": chunked\r\n" + LENGTH, CHUNKED),
    "a zero byte in a header": _framed(b"X: \0\r\n" + LENGTH, BODY.encode()),
    "HTTP/0.9": b"GET /v2\r\n\r\n" + GOOD,
    "HTTP/2.0 in the line": b"GET /v2 HTTP/2.0\r\n\r\n" + GOOD,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + GOOD,
    "zeros": bytes(1000) + GOOD,
    "a header of 1 MB": LINE + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n" + GOOD,
    "a path of 1 MB": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n" + GOOD,
    "a thousand headers": LINE + b"X: a\r\n" * 1000 + LENGTH + b"\r\n" + BODY.encode() + GOOD,
}


@pytest.mark.parametrize("case", REFUSED_FRAMINGS)
def test_a_request_whose_end_is_doubtful_is_the_last(server: RunningServer, case: str) -> None:
    with Wire(server.address) as wire:
        wire.send(REFUSED_FRAMINGS[case])
        (reply,) = wire.read_to_end()
    assert reply.status in (400, 414, 431)
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize("order", [1, -1], ids=["length first", "coding first"])
def test_a_length_beside_chunks_does_not_count(server: RunningServer, order: int) -> None:
    headers = [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"][::order]
    with Wire(server.address) as wire:
        wire.send(_framed(b"".join(headers), CHUNKED))
        (reply,) = wire.read_to_end()
    assert (reply.status, reply.headers["connection"]) == (200, "close")


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\nhello\r\n0\r\n\r\n",
        b"5 5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloworld\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"a" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n",
        b"0\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    ],
    ids=["no number", "two numbers", "negative", "longer", "overflow", "extension", "trailer"],
)
def test_chunks_that_are_none_end_the_connection(server: RunningServer, chunks: bytes) -> None:
    with Wire(server.address) as wire:
        wire.send(_framed(b"Transfer-Encoding: chunked\r\n", chunks))
        (reply,) = wire.read_to_end()
    assert (reply.status, reply.said["code"]) == (400, "wire.invalid-request")


def test_good_and_bad_in_one_pipeline_are_answered_in_order(server: RunningServer) -> None:
    bad = request(INFER, body=b'{"inputs": [{')
    nothing = request("/nothing", method="GET", body=b"")
    with Wire(server.address) as wire:
        wire.send((GOOD + bad + nothing) * 50 + GOOD)
        replies = [wire.read() for _ in range(151)]
        assert [reply and reply.status for reply in replies] == [200, 400, 404] * 50 + [200]
        ids = {reply.headers["dukou-request-id"] for reply in replies if reply}
    assert len(ids) == 151


@pytest.mark.parametrize("size", [10, 50_000, 5_000_000])
@pytest.mark.parametrize(
    ("path", "status"),
    [("/v2/models/none/infer", 404), ("/v2/models/m/generate", 501), (INFER, 413)],
)
def test_a_refusal_before_the_body_says_whether_the_connection_stays(
    server: RunningServer, path: str, status: int, size: int
) -> None:
    """The body comes only after its refusal: the next request is answered, or was told to go elsewhere."""
    if status == 413:
        size += BODY_BYTES
    whole = request(path, body=b" " * size)
    with Wire(server.address) as wire:
        wire.send(whole[:-size])
        first = wire.read()
        assert first is not None
        assert first.status == status
        if first.headers.get("connection") != "close":
            wire.send(whole[-size:] + GOOD)
            second = wire.read()
            assert second is not None, "the connection was closed, and nobody had said so"
            assert second.status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit(server: RunningServer, chunked: bool) -> None:
    body = b" " * (BODY_BYTES + 1)
    with Wire(server.address) as wire:
        if chunked:
            wire.send(LINE + b"Transfer-Encoding: chunked\r\n\r\n")
            wire.send(b"%x\r\n%b\r\n" % (len(body), body))
        else:
            wire.send(LINE + b"Content-Length: %d\r\n\r\n" % len(body))
        reply = wire.read()
    assert reply is not None
    assert (reply.status, reply.said["code"]) == (413, "request.body-too-large")
    assert f"allows {BODY_BYTES}" in reply.said["error"]
    assert str(len(body)) in reply.said["error"]


def test_a_body_of_the_limit_is_taken(server: RunningServer) -> None:
    with Wire(server.address) as wire:
        wire.send(request(INFER, body=BODY.encode().ljust(BODY_BYTES)))
        reply = wire.read()
    assert reply is not None
    assert reply.status == 200


def test_a_client_that_waits_for_leave_to_send(server: RunningServer) -> None:
    expect = "Expect: 100-continue"
    with Wire(server.address) as wire:
        wire.send(request(INFER, expect)[: -len(BODY)])
        leave = wire.read()
        assert leave is not None
        assert leave.status == 100
        wire.send(BODY.encode())
        reply = wire.read()
        assert reply is not None
        assert reply.status == 200
    for path, size, status in [(INFER, 10**9, 413), ("/v2/models/none/infer", 10, 404)]:
        with Wire(server.address) as wire:
            wire.send(request(path, expect, f"Content-Length: {size}", body=b"", length=False))
            refused = wire.read()
            assert refused is not None
            assert refused.status == status, "nobody sends what is not wanted"


def test_a_slow_head_costs_its_own_connection_only(server: RunningServer) -> None:
    with Wire(server.address) as slow, Wire(server.address) as idle, Wire(server.address) as other:
        slow.send(b"POST /v2/mod")
        idle.send(GOOD)
        assert idle.read() is not None
        for _ in range(20):
            other.send(GOOD)
            assert other.read() is not None
        assert slow.read() is None
        # Between requests nobody owes anything.
        idle.send(GOOD)
        assert idle.read() is not None


def test_clients_that_leave_in_the_middle(server: RunningServer) -> None:
    for leave in (Wire.reset, lambda wire: wire.__exit__()):
        for cut in (1, len(LINE), len(GOOD) - 1, len(GOOD)):
            for _ in range(20):
                wire = Wire(server.address)
                wire.send(GOOD[:cut])
                leave(wire)
    wait_until(lambda: _gauge(server, "in_flight") == 0, "nothing is in flight")
    with Wire(server.address) as wire:
        wire.send(GOOD[:-1])
        wire.finish()
        assert statuses(wire.read_to_end()) in ([], [400], [499])
    with Wire(server.address) as wire:
        wire.send(GOOD)
        wire.finish()
        # One who says at once that nothing more will come may be taken for one who left.
        assert statuses(wire.read_to_end()) in ([], [200])


FOREIGN = [
    ("/v2", ["Host: evil.example"], "access.foreign-host"),
    ("/v2", ["Host: localhost.evil.example"], "access.foreign-host"),
    ("/v2", ["Host: 127.0.0.1.nip.example:80"], "access.foreign-host"),
    ("/v2", ["Host: 0.0.0.0"], "access.foreign-host"),
    ("/v2", ["Host: 2130706433"], "access.foreign-host"),
    ("/v2", ["Host: "], "access.foreign-host"),
    ("/v2", ["Host: localhost", "Origin: http://evil.example"], "access.foreign-origin"),
    ("/v2", ["Host: localhost", "Origin: null"], "access.foreign-origin"),
    ("/v2", ["Host: localhost:1", "Origin: http://localhost:2"], "access.foreign-origin"),
    ("http://evil.example/v2", ["Host: localhost"], "access.foreign-host"),
    ("http://localhost@evil.example/v2", ["Host: localhost"], "access.foreign-host"),
]


@pytest.mark.parametrize(("target", "headers", "code"), FOREIGN)
def test_a_stranger_s_page_is_refused(
    server: RunningServer, target: str, headers: list[str], code: str
) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        with Wire(server.address) as wire:
            wire.send("\r\n".join([f"{method} {target} HTTP/1.1", *headers, "", ""]).encode())
            reply = wire.read()
        assert reply is not None
        assert not any(name.startswith("access-control") for name in reply.headers)
        if method == "GET":
            assert (reply.status, reply.said["code"]) == (403, code)
        else:
            assert reply.status in (403, 404, 405)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("http://localhost/v2", ["Host: evil.example"]),
        ("http://127.0.0.1:99/v2", ["Host: localhost"]),
        ("/v2", ["Host: [::1]:8080"]),
        ("/v2", ["Host: LocalHost:8080", "Origin: http://LocalHost:8080"]),
    ],
)
def test_our_own_names_are_taken(server: RunningServer, target: str, headers: list[str]) -> None:
    """A whole address in the request line counts more than `Host` (RFC 9112, 3.2.2)."""
    with Wire(server.address) as wire:
        wire.send("\r\n".join([f"GET {target} HTTP/1.1", *headers, "", ""]).encode())
        reply = wire.read()
    assert reply is not None
    assert reply.status == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/models/%2e%2e/infer", 404, "request.unknown-model"),
        ("/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd/infer", 404, "request.unknown-model"),
        ("/v2/models/../../etc/passwd", 404, "wire.unknown-path"),
        ("/v2/models/%00/infer", 404, "request.unknown-model"),
        ("/v2/models/m%00/infer", 404, "request.unknown-model"),
        ("/v2/models/m%0d%0aX:%20y/infer", 404, "request.unknown-model"),
        ("/v2/models/%ff/infer", 400, "wire.invalid-request"),
        ("/v2/models/m%/infer", 400, "wire.invalid-request"),
        ("/v2/models/m%6/infer", 400, "wire.invalid-request"),
        ("/v2/models/%C0%AE/infer", 400, "wire.invalid-request"),
        ("/v2/models/%E6%B8%A1%E5%8F%A3/infer", 404, "request.unknown-model"),
        ("/v2/models//infer", 404, "request.unknown-model"),
        ("//v2/models/m/infer", 404, "wire.unknown-path"),
        ("/v2/models/M/infer", 404, "request.unknown-model"),
        ("/v2/models/m/infer/", 404, "wire.unknown-path"),
        ("/v2/models/m\\/infer", 404, "request.unknown-model"),
        ("/v2/models/" + "a" * 5000 + "/infer", 404, "request.unknown-model"),
        ("/v2/models/m/versions/%2e%2e/infer", 404, "request.unknown-version"),
        ("/v2/models/m/versions/01/infer", 404, "request.unknown-version"),
        ("/v2/models/m/versions//infer", 404, "request.unknown-version"),
        ("/v2/models/m/aliases/%2f/infer", 404, "request.unknown-version"),
    ],
)
def test_odd_names(server: RunningServer, path: str, status: int, code: str) -> None:
    with Wire(server.address) as wire:
        wire.send(request(path))
        reply = wire.read()
    assert reply is not None
    assert (reply.status, reply.said["code"]) == (status, code)
    assert len(reply.said["error"]) < 300
    assert reply.said["error"].isprintable()


def test_head_and_other_methods(server: RunningServer) -> None:
    with Wire(server.address) as wire:
        wire.send(request("/v2", method="GET", body=b""))
        got = wire.read()
        wire.send(request("/v2", method="HEAD", body=b""))
        head = wire.read(of_head=True)
        assert got is not None
        assert head is not None
        assert (head.status, head.headers["content-length"]) == (200, str(len(got.body)))
        for path, method, status, allowed in [
            (INFER, "HEAD", 405, "POST"),
            (INFER, "OPTIONS", 405, "POST"),
            ("/v2", "DELETE", 405, "GET"),
            ("/nothing", "HEAD", 404, None),
            ("*", "OPTIONS", 404, None),
            ("example.org:80", "CONNECT", 403, None),
        ]:
            wire.send(request(path, method=method, body=b""))
            reply = wire.read(of_head=method == "HEAD")
            assert reply is not None
            assert (reply.status, (reply.headers.get("allow") or "").split(", ")[0] or None) == (
                status,
                allowed,
            )
        # And after all of them, on the same connection:
        wire.send(GOOD)
        reply = wire.read()
        assert reply is not None
        assert reply.status == 200


def test_http2_with_many_streams(server: RunningServer) -> None:
    """Good and bad side by side, more than may be open at once, and bodies that nobody wanted."""
    body = BODY.encode()
    with Http2(server.address) as http2:
        paths = [INFER if number % 3 else "/v2/models/none/infer" for number in range(200)]
        for first in (1, 401):
            http2.send(
                b"".join(http2.request(first + 2 * i, path, body) for i, path in enumerate(paths))
            )
            assert count(http2.answers(first, 200)) == {200: 133, 404: 67}
        bad = (http2.request(801 + 2 * i, INFER, b"{") for i in range(100))
        http2.send(b"".join(bad))
        assert count(http2.answers(801, 100)) == {400: 100}
        # Refused before their bodies end: the streams end, the connection stays.
        owed = (http2.request(1001 + 2 * i, paths[0], b" ", ends=False) for i in range(100))
        http2.send(b"".join(owed))
        assert count(http2.answers(1001, 100)) == {404: 100}
        # 300 at once: what is over the limit of 256 is turned away, the others are held.
        held = [http2.request(1201 + 2 * i, INFER, body, ends=False) for i in range(300)]
        http2.send(b"".join(held))
        turned_away = http2.answers(1201, 44)
        assert count(turned_away) == {"reset": 44}
        ends = (frame(0, 1, s) for s in range(1201, 1801, 2) if s not in turned_away)
        http2.send(b"".join(ends))
        assert count(http2.answers(1201, 256, besides=turned_away)) == {200: 256}


def test_http2_floods_end_their_own_connection(server: RunningServer) -> None:
    cancel = struct.pack(">I", 8)
    with Http2(server.address) as resetting:
        streams = range(1, 10_001, 2)
        flood = (
            resetting.request(stream, INFER, BODY.encode(), ends=False)
            + frame(RST_STREAM, 0, stream, cancel)
            for stream in streams
        )
        with contextlib.suppress(OSError):
            resetting.send(b"".join(flood))
        assert resetting.ended()
    with Http2(server.address) as endless:
        endless.send(frame(HEADERS, 0, 1, block((":method", "GET"), (":path", "/v2"))))
        filling = frame(CONTINUATION, 0, 1, block(*[(f"x-{i}", "a" * 100) for i in range(100)]))
        with contextlib.suppress(OSError):
            for _ in range(2000):
                endless.send(filling)
        assert endless.ended()
    for wrong in (
        frame(DATA, END_STREAM, 1, b"x"),  # of no stream
        frame(HEADERS, END_HEADERS | END_STREAM, 2, block((":method", "GET"))),  # even
        frame(HEADERS, END_HEADERS, 1, b"\xff" * 20),  # no header block
        frame(SETTINGS, 0, 0, b"12345"),  # no whole setting
        frame(WINDOW_UPDATE, 0, 0, bytes(4)),  # by nothing
        frame(DATA, 0, 1, bytes(20_000)),  # larger than agreed
    ):
        with Http2(server.address) as http2:
            http2.send(wrong)
            assert http2.ended(), wrong[:20]
    wait_until(lambda: _gauge(server, "in_flight") == 0, "nothing is in flight")


def _gauge(server: RunningServer, name: str) -> int:
    return int(server.status()["state"]["gauges"][name])
