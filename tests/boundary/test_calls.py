"""What no proper client of gRPC sends, on a real server: the call is refused in words, or its connection ends;
and nobody else notices."""

from __future__ import annotations

import contextlib
import gzip
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tests import serving
from tests.boundary.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2,
    block,
    frame,
)
from tests.boundary.raw import Wire, request
from tests.serving import BODY, RunningServer, wait_until, write_model
from tritonclient.grpc import service_pb2

from dukou.serve.local_api import LocalApi

MODELS = Path(__file__).resolve().parents[2] / "conformance" / "models"
SERVICE = "/inference.GRPCInferenceService"
INFER, STREAM = f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelStreamInfer"
BODY_BYTES, HEADER_MS = 1_000_000, 400
CANCEL = struct.pack(">I", 8)
# Calls that one connection may give up before the server has seen to them: with more it is cut off.
GIVEN_UP = 15
# What floods may cost, of a process that has some 60 MB when it is idle.
GROWTH_BYTES = 64 * 2**20


class Place(NamedTuple):
    """A server with limits that are soon reached, and its engine's process."""

    server: RunningServer
    pid: int

    @property
    def memory_bytes(self) -> int:
        """What the engine's process has in memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    @property
    def in_flight(self) -> int:
        return int(LocalApi(Path(self.server.facts["socket"])).state()["gauges"]["in_flight"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    model = write_model(tmp_path_factory.mktemp("model") / "m.onnx")
    identity = MODELS / "identity_fp32.onnx"
    with serving.house() as house, house.serving(model, identity) as running:
        local = LocalApi(Path(running.facts["socket"]))
        table = local.table()
        assert table is not None
        table["limits"] |= {"body_bytes": BODY_BYTES, "header_ms": HEADER_MS}
        table["sequence"] += 1
        local.put_table(table)
        yield Place(running, int(running.status()["engine"]["pid"]))


@pytest.fixture(autouse=True)
def still_serving(place: Place) -> Iterator[None]:
    """Whatever was sent: the next call is answered by the same process, and nothing is left of the others."""
    yield
    asked = np.float32([[1, 2, 3]])
    with Http2(place.server.address) as http2:
        http2.send(http2.call(1, INFER) + _data(1, _message(asked, "after")))
        ((head, came),) = http2.ended_calls(1).values()
    assert head["grpc-status"] == "0", head
    _check(came, asked, "after")
    assert Path(f"/proc/{place.pid}").exists()
    wait_until(lambda: place.in_flight == 0, "nothing is in flight")


def _envelope(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


def _message(array: np.ndarray, name: str, model: str = "identity_fp32") -> bytes:
    asked = service_pb2.ModelInferRequest(model_name=model, id=name)
    asked.inputs.add(name="x", datatype="FP32", shape=array.shape)
    asked.raw_input_contents.append(array.astype(np.float32).tobytes())
    return _envelope(asked.SerializeToString())


def _data(stream: int, content: bytes, *, ends: bool = True) -> bytes:
    """Frames of data, none larger than a peer must take."""
    pieces = [content[at : at + 16384] for at in range(0, len(content), 16384)] or [b""]
    flags = [0] * (len(pieces) - 1) + [END_STREAM if ends else 0]
    return b"".join(
        frame(DATA, flag, stream, piece) for flag, piece in zip(flags, pieces, strict=True)
    )


def _messages(came: bytes) -> list[bytes]:
    messages = []
    while came:
        flag, length = struct.unpack(">BI", came[:5])
        assert flag == 0
        messages.append(came[5 : 5 + length])
        came = came[5 + length :]
    return messages


def _check(came: bytes, asked: np.ndarray, name: str) -> None:
    """Demands that this is the answer to that, and no other's."""
    (message,) = _messages(came)
    answer = service_pb2.ModelInferResponse.FromString(message)
    assert answer.id == name
    np.testing.assert_array_equal(
        np.frombuffer(answer.raw_output_contents[0], np.float32), asked.ravel()
    )


METHODS = [
    INFER,
    STREAM,
    "/tensorflow.serving.PredictionService/Predict",
    "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
]


@pytest.mark.parametrize("method", METHODS)
def test_a_length_over_the_limit_is_refused_before_what_it_announces(
    place: Place, method: str
) -> None:
    with Http2(place.server.address) as http2:
        # Five bytes, one by one, and nothing behind them.
        prefix = struct.pack(">BI", 0, BODY_BYTES + 1)
        pieces = (frame(DATA, 0, 1, prefix[at : at + 1]) for at in range(5))
        http2.send(http2.call(1, method) + b"".join(pieces))
        ((head, came),) = http2.ended_calls(1).values()
        assert (head["grpc-status"], head["dukou-code"], came) == (
            *("8", "request.body-too-large"),
            b"",
        )
        assert f"has {BODY_BYTES + 1} bytes" in head["grpc-message"]
        assert (
            f"`limits.body_bytes` of the serving table allows {BODY_BYTES}" in head["grpc-message"]
        )
        # The connection stays, and who still sends is not heard.
        http2.send(frame(DATA, END_STREAM, 1, b"x") + http2.call(3, INFER))
        http2.send(_data(3, _message(np.float32([[7, 8, 9]]), "3")))
        ((head, came),) = http2.ended_calls(3).values()
        assert head["grpc-status"] == "0"


@pytest.mark.parametrize("over", [False, True])
def test_a_message_of_the_limit_is_taken_and_one_byte_more_is_not(place: Place, over: bool) -> None:
    asked = service_pb2.ModelInferRequest(model_name="identity_fp32", id="")
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    asked.raw_input_contents.append(bytes(12))
    # Protobuf passes over fields that it does not know: here one of as many bytes as are left.
    text = asked.SerializeToString()
    rest = BODY_BYTES + over - len(text) - 5
    text += b"\xfa\x01" + bytes([rest & 0x7F | 0x80, rest >> 7 & 0x7F | 0x80, rest >> 14])
    message = text + bytes(BODY_BYTES + over - len(text))
    with Http2(place.server.address) as http2:
        http2.settled().send(http2.call(1, INFER) + _data(1, _envelope(message)))
        ((head, _),) = http2.ended_calls(1).values()
    assert head["grpc-status"] == ("8" if over else "0"), head


@pytest.mark.parametrize(
    ("came", "code", "words"),
    [
        (struct.pack(">BI", 0, 10) + b"abc", "wire.invalid-message", "has 10 bytes; 3 came"),
        (struct.pack(">BI", 0, 2) + b"abcd", "wire.invalid-message", "has 2 bytes; 4 came"),
        (b"\0\0\0", "wire.invalid-message", "3 bytes came"),
        (b"", "wire.invalid-message", "0 bytes came"),
        (b"\7\0\0\0\0", "wire.invalid-message", "neither 0 nor 1"),
        (b"\1\0\0\0\1x", "wire.invalid-message", "does not say how"),
    ],
)
def test_an_envelope_that_lies_is_refused(place: Place, came: bytes, code: str, words: str) -> None:
    with Http2(place.server.address) as http2:
        http2.send(http2.call(1, INFER) + frame(DATA, END_STREAM, 1, came))
        ((head, _),) = http2.ended_calls(1).values()
    assert (head["grpc-status"], head["dukou-code"]) == ("3", code)
    assert words in head["grpc-message"]


@pytest.mark.parametrize(
    ("method", "metadata", "code"),
    [
        (INFER, [("grpc-timeout", "60m")], "limits.deadline"),
        (INFER, [], "limits.slow-body"),
        (STREAM, [], "limits.slow-body"),
    ],
)
def test_half_a_message_is_not_waited_for_without_end(
    place: Place, method: str, metadata: list[tuple[str, str]], code: str
) -> None:
    whole = _message(np.float32([[1, 2, 3]]), "half")
    with Http2(place.server.address) as http2:
        http2.send(http2.call(1, method, *metadata) + frame(DATA, 0, 1, whole[:20]))
        ((head, _),) = http2.ended_calls(1).values()
    assert (head["grpc-status"], head["dukou-code"]) == ("4", code)


@pytest.mark.parametrize("method", [INFER, STREAM])
def test_a_message_that_comes_byte_by_byte_is_not_waited_for(place: Place, method: str) -> None:
    whole = _message(np.zeros((20_000, 3), np.float32), "slow")
    with Http2(place.server.address) as http2:
        http2.send(http2.call(1, method) + frame(DATA, 0, 1, whole[:20]))
        # Each byte is in time for the next one; all of them would take some three hours.
        with contextlib.suppress(OSError):
            for at in range(20, 50):
                time.sleep(HEADER_MS / 10_000)
                http2.send(frame(DATA, 0, 1, whole[at : at + 1]))
        ((head, _),) = http2.ended_calls(1).values()
    assert (head["grpc-status"], head["dukou-code"]) == ("4", "limits.slow-body")


@pytest.mark.parametrize("method", [INFER, STREAM])
def test_a_small_message_does_not_become_a_large_one(place: Place, method: str) -> None:
    packed = gzip.compress(bytes(64 * BODY_BYTES), compresslevel=9)
    assert len(packed) < BODY_BYTES
    before = place.memory_bytes
    with Http2(place.server.address) as http2:
        http2.settled().send(http2.call(1, method, ("grpc-encoding", "gzip")))
        http2.send(_data(1, _envelope(packed, 1)))
        ((head, came),) = http2.ended_calls(1).values()
    # A stream tells of a message in its place.
    words = head["grpc-message"] if method == INFER else came.decode(errors="replace")
    assert "`limits.body_bytes`" in words
    assert head["grpc-status"] == ("8" if method == INFER else "0")
    assert place.memory_bytes - before < GROWTH_BYTES


@pytest.mark.parametrize("method", [INFER, STREAM, "/grpc.health.v1.Health/Check", "/a.B/C"])
def test_a_call_over_http1_is_told_what_it_lacks(place: Place, method: str) -> None:
    with Wire(place.server.address) as wire:
        message = _message(np.float32([[1, 2, 3]]), "")
        wire.send(request(method, "Content-Type: application/grpc", "TE: trailers", body=message))
        wire.send(request("/v2/models/m/infer"))
        refused, answered = wire.read(), wire.read()
    assert refused is not None
    assert (refused.status, refused.said["code"]) == (505, "wire.unsupported")
    assert "come over HTTP/2, and this one came over HTTP/1.1" in refused.said["error"]
    assert answered is not None
    assert answered.status == 200, "the connection is HTTP/1.1's, and stays"


@pytest.mark.parametrize("method", [INFER, STREAM])
def test_calls_that_are_cancelled_as_fast_as_they_come_end_their_connection(
    place: Place, method: str
) -> None:
    before = place.memory_bytes
    with Http2(place.server.address) as flooding, Http2(place.server.address) as other:
        message = _message(np.float32([[1, 2, 3]]), "")
        with contextlib.suppress(OSError):
            for first in range(1, 40_001, 1000):
                streams = range(first, first + 1000, 2)
                flooding.send(
                    b"".join(
                        flooding.call(s, method)
                        + _data(s, message, ends=False)
                        + frame(RST_STREAM, 0, s, CANCEL)
                        for s in streams
                    )
                )
        other.send(other.call(1, INFER) + _data(1, message))
        ((head, _),) = other.ended_calls(1).values()
        assert head["grpc-status"] == "0", "nobody else notices"
        assert flooding.ended()
    wait_until(lambda: place.in_flight == 0, "nothing is in flight")
    assert place.memory_bytes - before < GROWTH_BYTES


def _continued(http2: Http2) -> Iterator[bytes]:
    yield frame(HEADERS, 0, 1, block((":method", "POST"), (":path", INFER)))
    filling = frame(CONTINUATION, 0, 1, block(*[(f"x-{i}", "a" * 100) for i in range(100)]))
    yield from (filling for _ in range(2000))


def _empty_continued(http2: Http2) -> Iterator[bytes]:
    yield frame(HEADERS, 0, 1, block((":method", "POST"), (":path", INFER)))
    yield from (frame(CONTINUATION, 0, 1) * 1000 for _ in range(200))


def _one_row_by_reference(http2: Http2) -> Iterator[bytes]:
    # A row of the table that the server keeps for us, and then that row again and again: a byte each.
    name, value = b"x-large", b"a" * 3500
    row = b"\x40" + bytes([len(name)]) + name + b"\x7f" + _seven(len(value) - 127) + value
    head = block((":method", "POST"), (":scheme", "http"), (":path", INFER)) + row
    for stream in range(1, 200, 2):
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, head + b"\xbe" * 12_000)
        head = block((":method", "POST"), (":scheme", "http"), (":path", INFER))


def _seven(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def _pings(http2: Http2) -> Iterator[bytes]:
    yield from (frame(PING, 0, 0, bytes(8)) * 1000 for _ in range(200))


def _settings(http2: Http2) -> Iterator[bytes]:
    yield from (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, n)) * 1000 for n in range(200))


def _windows(http2: Http2) -> Iterator[bytes]:
    yield http2.call(1, INFER)
    yield from (frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)) * 1000 for _ in range(200))


def _nothing_in_frames(http2: Http2) -> Iterator[bytes]:
    yield http2.call(1, STREAM)
    yield from (frame(DATA, 0, 1) * 1000 for _ in range(200))


FLOODS = [
    _continued,
    _empty_continued,
    _one_row_by_reference,
    _pings,
    _settings,
    _windows,
    _nothing_in_frames,
]


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_are_their_own_connection_s_matter(
    place: Place, flood: Callable[[Http2], Iterator[bytes]]
) -> None:
    """Frames without end, of which nothing is read: others are answered, and memory does not grow with them."""
    before = place.memory_bytes
    with Http2(place.server.address) as flooding, Http2(place.server.address) as other:
        flooding.give_up_after(5)
        # Who reads nothing is not written to without end either: then it cannot send.
        with contextlib.suppress(OSError):
            for pieces in flood(flooding):
                flooding.send(pieces)
        other.send(other.call(1, INFER) + _data(1, _message(np.float32([[1, 2, 3]]), "")))
        ((head, _),) = other.ended_calls(1).values()
        assert head["grpc-status"] == "0", "nobody else notices"
        assert place.memory_bytes - before < GROWTH_BYTES


def test_a_head_that_is_too_large_is_refused(place: Place) -> None:
    with Http2(place.server.address) as http2:
        large = block(*[(f"x-{i}", "a" * 100) for i in range(700)])
        start = http2.call(1, INFER)
        assert start[4] == END_HEADERS
        parts = [large[at : at + 16_000] for at in range(0, len(large), 16_000)]
        rest = [frame(CONTINUATION, 0, 1, part) for part in parts[:-1]]
        rest.append(frame(CONTINUATION, END_HEADERS, 1, parts[-1]))
        http2.send(start[:4] + b"\0" + start[5:] + b"".join(rest))
        ended = http2.ended_calls(1)
        # By its status where the whole of it was read, by the connection's end where not.
        assert not ended or ended[1][0].get(":status") != "200"


def test_a_peer_that_reads_nothing_keeps_its_own_answers_waiting_only(place: Place) -> None:
    asked = [np.full((20_000, 3), n, np.float32) for n in range(40)]
    with Http2(place.server.address, window=0) as slow, Http2(place.server.address) as other:
        slow.settled()
        other.settled()
        for place_of, array in enumerate(asked):
            stream = 1 + 2 * place_of
            slow.send(slow.call(stream, INFER) + _data(stream, _message(array, f"{stream}")))
        for stream in range(1, 41, 2):
            other.send(other.call(stream, INFER))
            other.send(_data(stream, _message(asked[1], f"{stream}")))
        for stream, (head, came) in other.ended_calls(*range(1, 41, 2)).items():
            assert head["grpc-status"] == "0"
            _check(came, asked[1], f"{stream}")
        # All of them are known, and none holds a place that others could have.
        wait_until(lambda: place.in_flight == 0, "nothing is in flight")
        # The windows open: each answer is its own, in any order.
        slow.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**20)))
        streams = range(1, 81, 2)
        answers = slow.ended_calls(*streams)
        assert sorted(answers) == list(streams)
        for array, stream in zip(asked, streams, strict=True):
            _check(answers[stream][1], array, f"{stream}")


def test_a_peer_that_takes_nothing_is_let_go(place: Place) -> None:
    """Here after what a head may take: 64 MiB wait for it."""
    answers, rows = 72, 79_000
    asked = np.zeros((rows, 3), np.float32)
    state = LocalApi(Path(place.server.facts["socket"])).state

    def answered() -> int:
        return sum(int(arm["requests"]) for arm in state()["arms"])

    before, first = state()["refused"].get("limits.slow-reader", 0), answered()
    with Http2(place.server.address, window=0) as gone:
        gone.settled().give_up_after(60)
        for number in range(answers):
            stream = 1 + 2 * number
            gone.send(gone.call(stream, INFER) + _data(stream, _message(asked, f"{stream}")))
            # The server's windows have room for a few.
            wait_until(lambda n=number: answered() > first + n - 3, "they are answered")
        assert gone.ended()
    assert state()["refused"]["limits.slow-reader"] == before + 1


@pytest.mark.parametrize("method", [INFER, STREAM])
def test_a_connection_that_is_cut_in_the_middle_of_an_answer(place: Place, method: str) -> None:
    before = place.memory_bytes
    message = _message(np.zeros((20_000, 3), np.float32), "")
    for _ in range(20):
        http2 = Http2(place.server.address, window=30_000)
        ends = method == INFER
        http2.settled().send(http2.call(1, method) + _data(1, message, ends=ends))
        kinds = []
        while DATA not in kinds:
            came = http2.read()
            assert came is not None
            kinds.append(came[0])
        http2.reset()
    wait_until(lambda: place.in_flight == 0, "nothing is in flight")
    assert place.memory_bytes - before < GROWTH_BYTES


def test_streams_that_are_cancelled_leave_those_beside_them(place: Place) -> None:
    """Many streams of calls on one connection, each given up in the middle but one."""
    arrays = [np.full((100, 3), n, np.float32) for n in range(GIVEN_UP)]
    with Http2(place.server.address) as http2:
        kept = 1
        http2.settled().send(http2.call(kept, STREAM))
        for number, array in enumerate(arrays):
            cancelled = 3 + 2 * number
            http2.send(http2.call(cancelled, STREAM))
            http2.send(_data(cancelled, _message(array, "gone") * 3, ends=False))
            http2.send(_data(kept, _message(array, f"{number}"), ends=False))
            http2.send(frame(RST_STREAM, 0, cancelled, CANCEL))
        http2.send(frame(DATA, END_STREAM, kept))
        ((head, came),) = http2.ended_calls(kept).values()
    assert head["grpc-status"] == "0"
    answers = [service_pb2.ModelStreamInferResponse.FromString(m) for m in _messages(came)]
    assert [answer.infer_response.id for answer in answers] == [str(n) for n in range(GIVEN_UP)]
    for answer, array in zip(answers, arrays, strict=True):
        raw = answer.infer_response.raw_output_contents[0]
        np.testing.assert_array_equal(np.frombuffer(raw, np.float32), array.ravel())


def test_rest_says_the_limit_and_the_setting_too(place: Place) -> None:
    body = BODY.encode().ljust(BODY_BYTES + 1)
    with Wire(place.server.address) as wire:
        # Nothing of the body is sent: its length is enough.
        wire.send(request("/v2/models/m/infer", body=body)[: -len(body)])
        reply = wire.read()
    assert reply is not None
    assert (reply.status, reply.said["code"]) == (413, "request.body-too-large")
    assert f"`limits.body_bytes` of the serving table allows {BODY_BYTES}" in reply.said["error"]
    with Http2(place.server.address) as http2:
        http2.settled().send(http2.request(1, "/v2/models/m/infer", b"", ends=False))
        http2.send(_data(1, body))
        assert http2.answers(1, 1) == {1: 413}


def test_settings_that_are_answered(place: Place) -> None:
    """Each of ours is acknowledged once, in its turn, whatever stands between."""
    with Http2(place.server.address) as http2:
        for _ in range(10):
            http2.send(frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678"))
        pongs = acknowledged = 0
        while pongs < 10 or acknowledged < 11:
            came = http2.read()
            assert came is not None
            pongs += came[0] == PING and came[1] == ACK
            acknowledged += came[0] == SETTINGS and came[1] == ACK
