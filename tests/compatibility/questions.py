"""The same requests, good and bad, asked of our server and of another; how their answers differ.

What is compared: the status; which fields there are; numbers, within a tolerance; how tensors travel. What an error
says in words is each server's own, and so is what ours says beside it, but for the words that clients look at
(TorchServe's `type` and `message`).
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import struct
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from dukou.serve.migrate.compare import Tolerance
from dukou.serve.migrate.http.answer import Answer, compare

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]]
# What our errors say beside the protocol's `error`.
BESIDE = frozenset({"code", "remedy", "request_id"})
# Fields of an answer whose words are compared: ours begin with theirs.
_WORDS = ("type", "message", "status")
# Of an inference: whether tensors travel as bytes, and whether the body is compressed.
_HOW = ("inference-header-content-length", "content-encoding")
_JSON = {"Content-Type": "application/json"}
Address = tuple[str, int]


class Question(NamedTuple):
    """One request.

    Attributes:
        name: what it tries.
        method: of HTTP.
        path: of it.
        body: JSON where it is not bytes.
        headers: beside those that the connection sets.
        door: which of a server's ports it is for; its first one where it has no such port.
        until: asked again until this expression is found in the answer, where a server takes its time.
    """

    name: str
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = {}
    door: str = ""
    until: str = ""


def _tensor(**other: Any) -> dict[str, Any]:
    flat = [value for row in ROWS for value in row]
    return {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": flat, **other}


def _infer(name: str, document: Any, *, model: str = "m") -> Question:
    return Question(name, "POST", f"/v2/models/{model}/infer", document, _JSON)


def _binary() -> Question:
    raw = struct.pack("<8f", *(value for row in ROWS for value in row))
    tensor = {
        "name": "x",
        "shape": [2, 4],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = json.dumps(document).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Question("infer, binary both ways", "POST", "/v2/models/m/infer", head + raw, headers)


V2 = [
    Question("live", "GET", "/v2/health/live"),
    Question("ready", "GET", "/v2/health/ready"),
    Question("server metadata", "GET", "/v2"),
    Question("model metadata", "GET", "/v2/models/m"),
    Question("model ready", "GET", "/v2/models/m/ready"),
    _infer("infer, flat data", {"inputs": [_tensor()]}),
    _infer("infer, nested data", {"inputs": [_tensor(data=ROWS)]}),
    _infer("infer, with an id", {"id": "seven", "inputs": [_tensor()]}),
    _infer("infer, one output", {"inputs": [_tensor()], "outputs": [{"name": "label"}]}),
    _infer("infer, with parameters", {"parameters": {"who": "me"}, "inputs": [_tensor()]}),
    _binary(),
    Question("infer, no content type", "POST", "/v2/models/m/infer", {"inputs": [_tensor()]}),
    _infer("unknown model, infer", {"inputs": [_tensor()]}, model="nobody"),
    Question("unknown model, metadata", "GET", "/v2/models/nobody"),
    Question("unknown model, ready", "GET", "/v2/models/nobody/ready"),
    _infer("unknown dtype", {"inputs": [_tensor(datatype="FLOAT")]}),
    _infer("fewer elements than the shape says", {"inputs": [_tensor(data=[1.0])]}),
    _infer("another number of columns", {"inputs": [_tensor(shape=[1, 3], data=[1, 2, 3])]}),
    _infer("text for a number", {"inputs": [_tensor(data=["a"] * 8)]}),
    _infer("no inputs", {"inputs": []}),
    _infer("no field `inputs`", {}),
    _infer("no field `shape`", {"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}),
    _infer("an unknown input", {"inputs": [_tensor(), _tensor(name="z")]}),
    _infer("an unknown output", {"inputs": [_tensor()], "outputs": [{"name": "z"}]}),
    _infer("not JSON", b"{"),
    _infer("an empty body", b""),
    Question("infer by GET", "GET", "/v2/models/m/infer"),
    Question("unknown path", "GET", "/v2/nothing"),
]
V1 = [
    Question("models", "GET", "/v1/models"),
    Question("model status", "GET", "/v1/models/m"),
    Question("predict", "POST", "/v1/models/m:predict", {"instances": ROWS}, _JSON),
    Question("predict, neither field", "POST", "/v1/models/m:predict", {"x": 1}, _JSON),
    Question("predict, not JSON", "POST", "/v1/models/m:predict", b"{", _JSON),
    Question("unknown model", "POST", "/v1/models/nobody:predict", {"instances": ROWS}, _JSON),
    Question("unknown model, status", "GET", "/v1/models/nobody"),
    Question("predict by GET", "GET", "/v1/models/m:predict"),
]


def ask(address: Address, question: Question) -> Answer:
    """Asks, and again where the answer is one that does not come at once."""
    deadline = time.monotonic() + 30
    while True:
        answer = _ask_once(address, question)
        if re.search(question.until.encode(), answer.body):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)


def _ask_once(address: Address, question: Question) -> Answer:
    """Asks on a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        body = question.body
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(question.method, question.path, body, dict(question.headers))
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        said, coding = response.read(), headers.get("content-encoding")
        if coding is not None:
            said = {"gzip": gzip.decompress, "deflate": zlib.decompress}[coding](said)
        return Answer(response.status, headers, said)
    finally:
        connection.close()


def differences(
    name: str, there: Answer, here: Answer, beside: Collection[str] = BESIDE
) -> list[str]:
    """How two answers to the question of a name differ, in words; nothing where they are alike.

    Args:
        name: of the question.
        there: the other server's answer.
        here: ours.
        beside: fields of our errors that the other's need not have.
    """
    if there.status != here.status:
        return [f"{there.status} there, {here.status} here"]
    found = []
    old, new = _document(there), _document(here)
    left, right = set(_fields(old)), set(_fields(new))
    right -= set(beside) if _failed(here) else set()
    for where, fields in (("there", left - right), ("here", right - left)):
        if fields:
            found.append(f"only {where}: {_listed(sorted(fields))}")
    if isinstance(old, dict) and isinstance(new, dict):
        for key in _WORDS:
            if key in old and not str(new.get(key)).startswith(str(old[key])):
                found.append(f"`{key}` is {old[key]!r} there, {new.get(key)!r} here")
    # Of a description the fields are compared, of an answer the numbers as well.
    if name.startswith(("infer", "predict", "stream")):
        for header in _HOW:
            if (header in there.headers) is not (header in here.headers):
                where = "there" if header in there.headers else "here"
                found.append(f"only {where}: the header `{header}`")
        number = compare(there, here, Tolerance())
        found += [] if number is None else [number]
    return found


def _failed(answer: Answer) -> bool:
    """Whether it is a failure of HTTP, or of gRPC, whose statuses are small numbers."""
    return answer.status >= 400 or 0 < answer.status < 100


def _listed(fields: list[str]) -> str:
    """The fields, of many the first."""
    names = ", ".join(f"`{name}`" for name in fields[:12])
    return names if len(fields) <= 12 else f"{names} and {len(fields) - 12} more"


def _document(answer: Answer) -> Any:
    length = answer.headers.get("inference-header-content-length")
    try:
        return json.loads(answer.body if length is None else answer.body[: int(length)])
    except ValueError:
        return "no JSON" if answer.body else "nothing"


def _fields(document: Any, place: str = "") -> Iterator[str]:
    """The fields of a document, by their places: `outputs[].name`."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield from _fields(value, f"{place}.{name}" if place else name)
            yield f"{place}.{name}" if place else name
    elif isinstance(document, list):
        for each in document[:8]:
            if isinstance(each, dict | list):
                yield from _fields(each, place + "[]")
    elif place == "":
        yield str(document)
