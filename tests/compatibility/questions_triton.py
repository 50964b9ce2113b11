"""What only Triton is asked beside what every V2 server is: its extensions, binary data, the repository, gRPC.

The order counts: a model that is unloaded here is loaded again before somebody asks it.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from tests.compatibility.questions import ROWS, V2, Question

_FLAT = [value for row in ROWS for value in row]
_RAW = struct.pack("<8f", *_FLAT)
_LENGTH = "Inference-Header-Content-Length"


def _input(**other: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": _FLAT, **other}
    return {key: value for key, value in tensor.items() if value is not None}


def _infer(
    name: str,
    document: Any,
    *,
    model: str = "m",
    raw: bytes = b"",
    length: int | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Question:
    """JSON, and raw tensors behind it where there are any."""
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    said = dict(headers or {})
    if raw or length is not None:
        said[_LENGTH] = str(len(head) if length is None else length)
    return Question(name, "POST", f"/v2/models/{model}/infer", head + raw, said)


def _of_x(asked: str, /, **other: Any) -> Question:
    """One input, something about which is as `other` says."""
    return _infer(asked, {"inputs": [_input(**other)]})


def _with_outputs(name: str, *outputs: Any) -> Question:
    return _infer(name, {"inputs": [_input()], "outputs": list(outputs)})


def _classes(name: str, **parameters: Any) -> Question:
    """Classes of a model whose rows ride together: of another Triton has one list for all rows."""
    output = {"name": "probabilities", "parameters": parameters}
    return _infer(name, {"inputs": [_input()], "outputs": [output]}, model="scores")


def _binary(size: int = 32, **other: Any) -> dict[str, Any]:
    return _input(data=None, parameters={"binary_data_size": size}, **other)


def _pair(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "shape": [1, 2], "datatype": "FP32", **parameters}


def _texts(data: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "t", "shape": [1, 2], "datatype": "BYTES", "data": data}]}


def _raw_texts(name: str, raw: bytes) -> Question:
    tensor = {"name": "t", "shape": [1, 2], "datatype": "BYTES"}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    return _infer(name, {"inputs": [tensor]}, model="text", raw=raw)


def _wholes(name: str, data: Any) -> Question:
    tensor = {"name": "i", "shape": [1, 2], "datatype": "INT8", "data": data}
    return _infer(name, {"inputs": [tensor]}, model="small")


def _get(name: str, path: str) -> Question:
    return Question(name, "GET", path)


def _post(name: str, path: str, body: Any = None) -> Question:
    return Question(name, "POST", path, body)


_PLAIN = {"inputs": [_input()]}
_DEEP = b'{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":%s1%s}]}'
BODIES = [
    _infer("infer, JSON in, binary out", {"parameters": {"binary_data_output": True}, **_PLAIN}),
    _with_outputs(
        "infer, one output binary and one not",
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "probabilities"},
    ),
    _with_outputs("infer, outputs in another order", {"name": "probabilities"}, {"name": "label"}),
    _infer(
        "infer, binary_data_output beside a list of outputs",
        {
            "parameters": {"binary_data_output": True},
            "outputs": [{"name": "label"}],
            **_PLAIN,
        },
    ),
    _infer("infer, an empty list of outputs", {"outputs": [], **_PLAIN}),
    _infer("infer, binary in, JSON out", {"inputs": [_binary()]}, raw=_RAW),
    _infer(
        "infer, JSON and binary mixed",
        {
            "inputs": [
                _pair("a", parameters={"binary_data_size": 8}),
                _pair("b", data=[3.0, 4.0]),
            ]
        },
        model="two",
        raw=_RAW[:8],
    ),
    _infer("infer, raw: no JSON at all", b"", raw=_RAW[:16], length=0),
    _infer("raw, of two inputs", b"", model="two", raw=_RAW[:8], length=0),
    _infer("infer, no rows", {"inputs": [_input(shape=[0, 4], data=[])]}),
    _infer(
        "infer, FP16 as binary",
        {
            "inputs": [
                {
                    "name": "h",
                    "shape": [1, 2],
                    "datatype": "FP16",
                    "parameters": {"binary_data_size": 4},
                }
            ],
            "parameters": {"binary_data_output": True},
        },
        model="half",
        raw=b"\x00\x3c\x00\xc0",
    ),
    _infer(
        "FP16 as JSON",
        {
            "inputs": [{"name": "h", "shape": [1, 2], "datatype": "FP16", "data": [1.0, 2.0]}],
        },
        model="half",
    ),
    _infer(
        "FP16 as binary, answered as JSON",
        {
            "inputs": [
                {
                    "name": "h",
                    "shape": [1, 2],
                    "datatype": "FP16",
                    "parameters": {"binary_data_size": 4},
                }
            ],
        },
        model="half",
        raw=b"\x00\x3c\x00\xc0",
    ),
    _infer("infer, text", _texts(["渡口", "two"]), model="text"),
    _infer("infer, text with escapes", _texts(['"\\\n\t', "é\u2028"]), model="text"),
    _infer("numbers for text", _texts([1, 2]), model="text"),
    _raw_texts("infer, text as binary", b"\x03\0\0\0one\0\0\0\0"),
    _raw_texts("text as binary, a length beyond the end", b"\x03\0\0\0one\x09\0\0\0a"),
    _raw_texts("text as binary, an element too few", b"\x03\0\0\0one"),
    _raw_texts("text as binary, an element too many", b"\x01\0\0\0a" * 3),
    _infer(
        "infer, NaN and infinities",
        {
            "inputs": [
                _pair("a", data=[float("nan"), float("inf")]),
                _pair("b", data=[1.0, 2.0]),
            ],
            "outputs": [{"name": "sum"}],
        },
        model="two",
    ),
    _infer("infer, whole numbers for FP32", {"inputs": [_input(data=[1, 2, 3, 4, 5, 6, 7, 8])]}),
    _wholes("infer, INT8", [-128, 127]),
    _wholes("INT8, one too large", [1, 128]),
    _wholes("INT8, a fraction", [1, 1.5]),
    _wholes("INT8, a truth", [1, True]),
    _of_x("a truth for a number", data=[True] * 8),
    _of_x("null for a number", data=[None] * 8),
    _of_x("infer, nested otherwise than the shape", data=[_FLAT[:2], _FLAT[2:]]),
    _of_x("data that is no list", data=1.0),
    _of_x("no data", data=None),
    _of_x("no name", name=None),
    _of_x("no datatype", datatype=None),
    _of_x("another dtype", datatype="INT32", data=[1] * 8),
    _of_x("more elements than the shape says", data=[*_FLAT, 1.0]),
    _infer("infer, 64 rows", {"inputs": [_input(shape=[64, 4], data=[0.5] * 256)]}, model="scores"),
    _infer(
        "more rows than ride together",
        {"inputs": [_input(shape=[65, 4], data=[0.5] * 260)]},
        model="scores",
    ),
    _of_x("one dimension", shape=[8]),
    _of_x("three dimensions", shape=[1, 2, 4]),
    _of_x("no dimension", shape=[], data=[1.0]),
    _of_x("a negative dimension", shape=[-2, 4]),
    _of_x("a dimension that is text", shape=["2", 4]),
    _of_x("a dimension with a fraction", shape=[2.0, 4]),
    _of_x("a shape that is no list", shape=8),
    _of_x("data and a binary size", parameters={"binary_data_size": 32}),
    _infer("an input that comes twice", {"inputs": [_input(), _input()]}),
    _infer("one input of two", {"inputs": [_pair("a", data=[1.0, 2.0])]}, model="two"),
    _infer("inputs that are no list", {"inputs": {"x": _FLAT}}),
    _infer("an input that is no object", {"inputs": [1]}),
    _with_outputs("an output that is asked for twice", {"name": "label"}, {"name": "label"}),
    _with_outputs("an output without a name", {}),
    _with_outputs("an output that is no object", "label"),
    _infer("outputs that are no list", {"outputs": "label", **_PLAIN}),
    _infer("binary, shorter than it says", {"inputs": [_binary()]}, raw=_RAW[:16]),
    _infer("binary, longer than it says", {"inputs": [_binary()]}, raw=_RAW + b"abcd"),
    _infer("binary, another size than the shape's", {"inputs": [_binary(16)]}, raw=_RAW[:16]),
    _infer(
        "binary, a size that is text",
        {"inputs": [_input(data=None, parameters={"binary_data_size": "32"})]},
        raw=_RAW,
    ),
    _infer("a header longer than the body", _PLAIN, length=100_000),
    _infer("a header length that is no number", _PLAIN, length="all"),
    _infer("a negative header length", _PLAIN, length=-1),
    _infer("a list for a body", b"[]"),
    _infer("a number for a body", b"7"),
    _infer("a body with something behind it", json.dumps(_PLAIN).encode() + b"{}"),
    _infer("a body that is not UTF-8", b'{"inputs":[{"name":"\xff\xfe"}]}'),
    _infer("lists 200 deep", _DEEP % (b"[" * 200, b"]" * 200)),
]
SAID = [
    _infer("infer, an empty id", {"id": "", **_PLAIN}),
    _infer("an id that is a number", {"id": 7, **_PLAIN}),
    _infer(
        "infer, parameters of every kind",
        {"parameters": {"a": "text", "b": 1, "c": True, "d": 1.5}, **_PLAIN},
    ),
    _infer("parameters that are no object", {"parameters": [1], **_PLAIN}),
    _infer("a parameter that is an object", {"parameters": {"a": {}}, **_PLAIN}),
    _infer("a parameter that is null", {"parameters": {"a": None}, **_PLAIN}),
    _infer(
        "infer, priority and timeout",
        {"parameters": {"priority": 1, "timeout": 20_000_000}, **_PLAIN},
    ),
    _infer("a priority that is text", {"parameters": {"priority": "high"}, **_PLAIN}),
    _infer("a negative priority", {"parameters": {"priority": -1}, **_PLAIN}),
    _infer("a timeout that is text", {"parameters": {"timeout": "soon"}, **_PLAIN}),
    _infer("a parameter of Triton's own", {"parameters": {"triton_x": 1}, **_PLAIN}),
    _infer(
        "binary_data_output that is text", {"parameters": {"binary_data_output": "yes"}, **_PLAIN}
    ),
    _classes("infer, two classes", classification=2),
    _classes("infer, classes as binary", classification=1, binary_data=True),
    _classes("infer, more classes than there are", classification=9),
    _classes("no classes", classification=0),
    _classes("fewer classes than none", classification=-1),
    _classes("classes that are text", classification="2"),
    _with_outputs(
        "infer, an unknown parameter of an output", {"name": "label", "parameters": {"who": "me"}}
    ),
    _infer(
        "infer, gzip",
        gzip.compress(json.dumps(_PLAIN).encode(), mtime=0),
        headers={"Content-Encoding": "gzip"},
    ),
    _infer(
        "infer, deflate",
        zlib.compress(json.dumps(_PLAIN).encode()),
        headers={"Content-Encoding": "deflate"},
    ),
    _infer("an unknown coding", _PLAIN, headers={"Content-Encoding": "br"}),
    _infer("gzip that is none", _PLAIN, headers={"Content-Encoding": "gzip"}),
    _infer("infer, gzip is accepted", _PLAIN, headers={"Accept-Encoding": "gzip"}),
    _infer("infer, text/plain", _PLAIN, headers={"Content-Type": "text/plain"}),
    _infer(
        "infer, curl's form", _PLAIN, headers={"Content-Type": "application/x-www-form-urlencoded"}
    ),
]
PLACES = [
    _get("a version's metadata", "/v2/models/m/versions/1"),
    _get("an unknown version's metadata", "/v2/models/m/versions/9"),
    _get("a version that is no number", "/v2/models/m/versions/abc"),
    _get("a version's readiness", "/v2/models/m/versions/1/ready"),
    _get("an unknown version's readiness", "/v2/models/m/versions/9/ready"),
    _infer("infer, a version", _PLAIN, model="m/versions/1"),
    _infer("an unknown version, infer", _PLAIN, model="m/versions/9"),
    _get("config", "/v2/models/m/config"),
    _get("a version's config", "/v2/models/m/versions/1/config"),
    _get("an unknown model's config", "/v2/models/nobody/config"),
    _get("statistics of all", "/v2/models/stats"),
    _get("statistics of a model", "/v2/models/m/stats"),
    _get("statistics of a version", "/v2/models/m/versions/1/stats"),
    _get("an unknown model's statistics", "/v2/models/nobody/stats"),
    _get("an unknown version's statistics", "/v2/models/m/versions/9/stats"),
    _get("a query behind a path", "/v2/models/m?a=1"),
    _get("a slash behind a path", "/v2/models/m/"),
    _get("a slash behind the first", "/v2/"),
    _get("the models", "/v2/models"),
    _get("the root", "/"),
    _get("an encoded letter in a name", "/v2/models/%6d"),
    _infer("a model without a name", _PLAIN, model=""),
    _post("metadata by POST", "/v2/models/m"),
    _post("live by POST", "/v2/health/live"),
    Question("a model by DELETE", "DELETE", "/v2/models/m"),
    Question("infer by PUT", "PUT", "/v2/models/m/infer", _PLAIN),
    _get("a system's shared memory", "/v2/systemsharedmemory/status"),
    _get("a region of it", "/v2/systemsharedmemory/region/r/status"),
    _post(
        "shared memory registered",
        "/v2/systemsharedmemory/region/r/register",
        {"key": "/nothing", "byte_size": 64},
    ),
    _post("shared memory unregistered", "/v2/systemsharedmemory/unregister"),
    _of_x(
        "an input in shared memory",
        data=None,
        parameters={"shared_memory_region": "r", "shared_memory_byte_size": 32},
    ),
    _get("a GPU's shared memory", "/v2/cudasharedmemory/status"),
    _get("trace settings", "/v2/trace/setting"),
    _get("a model's trace settings", "/v2/models/m/trace/setting"),
    _get("log settings", "/v2/logging"),
    _post("generate", "/v2/models/text/generate", {"t": "a"}),
    _infer(
        "a sequence",
        {"parameters": {"sequence_id": 7, "sequence_start": True, "sequence_end": True}, **_PLAIN},
    ),
]
REPOSITORY = [
    _post("index", "/v2/repository/index"),
    _post("index, an empty object", "/v2/repository/index", {}),
    _post("index, ready ones", "/v2/repository/index", {"ready": True}),
    _post("index, not JSON", "/v2/repository/index", b"{"),
    _post("index, ready that is text", "/v2/repository/index", {"ready": "yes"}),
    _get("index by GET", "/v2/repository/index"),
    _post("index of one repository", "/v2/repository/r/index"),
    _post("unload", "/v2/repository/models/m/unload", {}),
    # It unloads behind its answer.
    Question("unloaded: index", "POST", "/v2/repository/index", until="(UNAVAILABLE.*){2}"),
    _infer("unloaded: infer", _PLAIN),
    _get("unloaded: metadata", "/v2/models/m"),
    _get("unloaded: ready", "/v2/models/m/ready"),
    _get("unloaded: config", "/v2/models/m/config"),
    _get("unloaded: statistics", "/v2/models/m/stats"),
    _get("unloaded: the server is ready", "/v2/health/ready"),
    _post("unload, what is unloaded", "/v2/repository/models/m/unload"),
    _post("load", "/v2/repository/models/m/load"),
    _get("loaded: ready", "/v2/models/m/ready"),
    _infer("infer, loaded", _PLAIN),
    _post("load, what is loaded", "/v2/repository/models/m/load"),
    _post("load, an unknown model", "/v2/repository/models/nobody/load"),
    _post("unload, an unknown model", "/v2/repository/models/nobody/unload"),
    _post("load, not JSON", "/v2/repository/models/m/load", b"{"),
    _post(
        "unload with dependents",
        "/v2/repository/models/two/unload",
        {"parameters": {"unload_dependents": True}},
    ),
    _post(
        "load with an unknown parameter",
        "/v2/repository/models/two/load",
        {"parameters": {"who": "me"}},
    ),
    _post(
        "load with a file",
        "/v2/repository/models/two/load",
        {"parameters": {"file:1/model.onnx": "AAAA"}},
    ),
    _post("load, as it was", "/v2/repository/models/two/load"),
    _get("load by GET", "/v2/repository/models/m/load"),
]
TRITON_REST = [*V2, *BODIES, *SAID, *PLACES, *REPOSITORY]
