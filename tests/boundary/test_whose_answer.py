"""No answer is another request's: every dialect at once on one connection, its frames dealt out like cards.

Each request asks a model that gives back what it takes, so that an answer says whose it is.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests import serving
from tests.boundary.http2 import DATA, END_STREAM, RST_STREAM, Http2, frame
from tests.boundary.raw import Wire, request
from tests.boundary.tensorflow_stubs import make_ndarray, make_tensor_proto, predict_pb2
from tests.compatibility.clients.torchserve_messages import messages
from tests.serving import RunningServer
from tritonclient.grpc import service_pb2

MODEL = "identity_fp32"
IDENTITY = Path(__file__).resolve().parents[2] / "conformance" / "models" / f"{MODEL}.onnx"
TORCHSERVE = messages()
CANCEL = struct.pack(">I", 8)
# Calls that one connection may give up before the server has seen to them: with more it is cut off.
GIVEN_UP = 15
Array = np.ndarray[Any, Any]


class Dialect(NamedTuple):
    """How something is asked.

    Attributes:
        path: by the model; a call of gRPC where it has two names.
        ask: the body, of an array, a name of the request and a model.
        heard: the array of an answer; demands its name where the dialect has one.
    """

    path: str
    ask: Callable[[Array, str, str], bytes]
    heard: Callable[[bytes, str], Any]

    @property
    def is_grpc(self) -> bool:
        """Whether it is a call."""
        return "." in self.path


def _v2_call(array: Array, name: str, model: str) -> bytes:
    asked = service_pb2.ModelInferRequest(model_name=model, id=name)
    asked.inputs.add(name="x", datatype="FP32", shape=array.shape)
    asked.raw_input_contents.append(array.tobytes())
    return bytes(asked.SerializeToString())


def _v2_called(message: bytes, name: str) -> Any:
    answer = service_pb2.ModelInferResponse.FromString(message)
    assert answer.id == name
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(-1, 3)


def _tensorflow_call(array: Array, name: str, model: str) -> bytes:
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = model
    asked.inputs["x"].CopyFrom(make_tensor_proto(array, content=len(name) % 2 == 0))
    return bytes(asked.SerializeToString())


def _tensorflow_called(message: bytes, name: str) -> Any:
    return make_ndarray(predict_pb2.PredictResponse.FromString(message).outputs["y"])


def _torchserve_call(array: Array, name: str, model: str) -> bytes:
    data = json.dumps(array.tolist()).encode()
    asked = TORCHSERVE["PredictionsRequest"](model_name=model, input={"data": data})
    return bytes(asked.SerializeToString())


def _torchserve_called(message: bytes, name: str) -> Any:
    return json.loads(TORCHSERVE["PredictionResponse"].FromString(message).prediction)


def _v2_body(array: Array, name: str, model: str) -> bytes:
    x = {"name": "x", "datatype": "FP32", "shape": array.shape, "data": array.ravel().tolist()}
    return json.dumps({"id": name, "inputs": [x]}).encode()


def _v2_heard(body: bytes, name: str) -> Any:
    said = json.loads(body)
    assert said["id"] == name
    (output,) = said["outputs"]
    return np.reshape(output["data"], output["shape"])


def _rows(key: str) -> Callable[[Array, str, str], bytes]:
    return lambda array, name, model: json.dumps({key: array.tolist()}).encode()


def _predictions(body: bytes, name: str) -> Any:
    return json.loads(body)["predictions"]


DIALECTS = (
    Dialect("/inference.GRPCInferenceService/ModelInfer", _v2_call, _v2_called),
    Dialect("/tensorflow.serving.PredictionService/Predict", _tensorflow_call, _tensorflow_called),
    Dialect(
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
        _torchserve_call,
        _torchserve_called,
    ),
    Dialect("/v2/models/{}/infer", _v2_body, _v2_heard),
    Dialect("/v1/models/{}:predict", _rows("instances"), _predictions),
    Dialect("/predictions/{}", _rows("data"), lambda body, name: json.loads(body)),
    Dialect("/{}/predict", _rows("instances"), _predictions),
)
REST = [dialect for dialect in DIALECTS if not dialect.is_grpc]


class Asked(NamedTuple):
    """A request that was made."""

    dialect: Dialect
    name: str
    array: Array

    def check(self, body: bytes) -> None:
        """Demands that this is its answer, and no other's."""
        heard = np.asarray(self.dialect.heard(body, self.name), np.float32)
        np.testing.assert_array_equal(heard.reshape(-1, 3), self.array)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving.house() as house, house.serving(IDENTITY) as running:
        yield running


def _make(number: int, chance: random.Random, dialects: Any) -> Asked:
    # One row of TorchServe is answered bare: it is compared by its elements.
    rows = chance.choice([1, 1, 2, 30, 600])
    array = np.full((rows, 3), number, np.float32) + np.arange(3, dtype=np.float32) / 4
    return Asked(chance.choice(dialects), f"{number}", array)


def _frames(stream: int, asked: Asked, model: str, http2: Http2, chance: random.Random) -> Any:
    body = asked.dialect.ask(asked.array, asked.name, model)
    if asked.dialect.is_grpc:
        head = http2.call(stream, asked.dialect.path)
        body = struct.pack(">BI", 0, len(body)) + body
    else:
        head = http2.head(stream, asked.dialect.path.format(model))
    cuts = sorted({0, len(body), *(chance.randrange(len(body)) for _ in range(4))})
    # No frame is larger than a peer must take.
    places = sorted({*cuts, *range(0, len(body), 16384)})
    parts = [body[a:b] for a, b in itertools.pairwise(places)]
    pieces = [frame(DATA, 0, stream, part) for part in parts]
    return [head, *pieces, frame(DATA, END_STREAM, stream)]


@pytest.mark.parametrize("seed", range(4))
def test_over_http2(server: RunningServer, seed: int) -> None:
    """Good, bad and cancelled ones, of all sizes."""
    chance = random.Random(seed)
    with Http2(server.address) as http2:
        queues: dict[int, list[bytes]] = {}
        good: dict[int, Asked] = {}
        bad: dict[int, Asked] = {}
        gone = 0
        for stream in range(1, 401, 2):
            asked = _make(stream, chance, DIALECTS)
            kind = chance.choice(["good", "good", "good", "bad", "gone"])
            if kind == "gone" and gone == GIVEN_UP:
                kind = "good"
            gone += kind == "gone"
            model = "nothing" if kind == "bad" else MODEL
            frames = _frames(stream, asked, model, http2, chance)
            if kind == "gone":
                cut = chance.randrange(1, len(frames))
                frames[cut:] = [frame(RST_STREAM, 0, stream, CANCEL)]
            else:
                (bad if kind == "bad" else good)[stream] = asked
            queues[stream] = frames
        # Streams begin in their order; what is theirs comes whenever it does. No more are open than may be.
        waiting, open_streams, out = sorted(queues), [], []
        while waiting or open_streams:
            begins = len(open_streams) < 60 and chance.random() < 0.3
            if waiting and (begins or not open_streams):
                open_streams.append(waiting.pop(0))
                out.append(queues[open_streams[-1]].pop(0))
                continue
            stream = chance.choice(open_streams)
            out.append(queues[stream].pop(0))
            if not queues[stream]:
                open_streams.remove(stream)
        http2.settled().send(b"".join(out))
        answers = http2.ended_calls(*good, *bad)
        assert len(answers) == len(good) + len(bad)
        for stream, asked in good.items():
            head, came = answers[stream]
            if asked.dialect.is_grpc:
                assert head["grpc-status"] == "0", head
                flag, length = struct.unpack(">BI", came[:5])
                assert (flag, length) == (0, len(came) - 5)
                came = came[5:]
            else:
                assert head[":status"] == "200", came
            asked.check(came)
        for stream, asked in bad.items():
            head, came = answers[stream]
            if asked.dialect.is_grpc:
                assert (head["grpc-status"], came) != ("0", b"")
                assert "nothing" in head["grpc-message"]
            else:
                assert head[":status"] == "404"
                assert b"nothing" in came
        ids = {head["dukou-request-id"] for head, _ in answers.values()}
        assert len(ids) == len(answers)


@pytest.mark.parametrize("seed", range(4))
def test_over_http1(server: RunningServer, seed: int) -> None:
    """A pipeline of good and bad, on many connections at once, one of which breaks."""
    chance = random.Random(seed)
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address)) for _ in range(6)]
        expected: list[list[tuple[Asked, bool]]] = [[] for _ in wires]
        sends: list[bytes] = [b""] * len(wires)
        for number in range(240):
            which = chance.randrange(len(wires))
            asked, is_good = _make(number, chance, REST), chance.random() < 0.8
            model = MODEL if is_good else "nothing"
            body = asked.dialect.ask(asked.array, asked.name, model)
            expected[which].append((asked, is_good))
            sends[which] += request(asked.dialect.path.format(model), body=body)
        # The first breaks in the middle of what it sends.
        wires[0].send(sends[0][: len(sends[0]) // 2])
        wires[0].reset()
        places = [0] * len(wires)
        while any(at < len(send) for at, send in zip(places[1:], sends[1:], strict=True)):
            which = chance.randrange(1, len(wires))
            count = chance.randrange(1, 20_000)
            wires[which].send(sends[which][places[which] : places[which] + count])
            places[which] += count
        for wire, all_of_it in list(zip(wires, expected, strict=True))[1:]:
            for asked, is_good in all_of_it:
                reply = wire.read()
                assert reply is not None
                if is_good:
                    assert reply.status == 200, reply.body
                    asked.check(reply.body)
                else:
                    assert reply.status == 404
                    assert b"nothing" in reply.body
