"""What Triton is asked over gRPC, by its own messages. What is changed here is put back."""

from __future__ import annotations

import struct
from typing import Any

from tests.compatibility.calls import Call
from tests.compatibility.questions import ROWS
from tritonclient.grpc import service_pb2 as pb

_SERVICE = "/inference.GRPCInferenceService"
_RAW = struct.pack("<8f", *(value for row in ROWS for value in row))


def _ask(name: str, method: str, request: Any, answer: Any = None) -> Call:
    message = answer or getattr(pb, f"{method}Response")
    return Call(name, f"{_SERVICE}/{method}", [request], message)


def _request(model: str = "m", **fields: Any) -> Any:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[2, 4])
    request.raw_input_contents.append(_RAW)
    for key, value in fields.items():
        setattr(request, key, value)
    return request


def _infer(name: str, request: Any) -> Call:
    return _ask(name, "ModelInfer", request)


def _typed(field: str, values: list[Any], datatype: str = "FP32") -> Any:
    request = _request()
    del request.raw_input_contents[:]
    request.inputs[0].datatype = datatype
    getattr(request.inputs[0].contents, field).extend(values)
    return request


def _of_input(**fields: Any) -> Any:
    """The one input is another than it should be."""
    request = _request()
    shape = fields.pop("shape", None)
    for key, value in fields.items():
        setattr(request.inputs[0], key, value)
    if shape is not None:
        request.inputs[0].shape[:] = shape
    return request


def _raw(*contents: bytes) -> Any:
    request = _request()
    request.raw_input_contents[:] = contents
    return request


def _twice() -> Any:
    request = _request()
    request.inputs.add(name="x", datatype="FP32", shape=[2, 4])
    request.raw_input_contents.append(_RAW)
    return request


def _both() -> Any:
    request = _request()
    request.inputs[0].contents.fp32_contents.extend([1.0] * 8)
    return request


def _with_output(name: str, **parameters: Any) -> Any:
    request = _request("scores" if parameters else "m")
    output = request.outputs.add(name=name)
    for key, value in parameters.items():
        output.parameters[key].int64_param = value
    return request


def _with_parameter(kind: str, value: Any, key: str = "who") -> Any:
    request = _request()
    setattr(request.parameters[key], kind, value)
    return request


def _pair() -> Any:
    request = pb.ModelInferRequest(model_name="two")
    request.inputs.add(name="a", datatype="FP32", shape=[1, 2])
    request.raw_input_contents.append(_RAW[:8])
    return request


def _texts(raw: bytes) -> Any:
    request = pb.ModelInferRequest(model_name="text")
    request.inputs.add(name="t", datatype="BYTES", shape=[1, 2])
    request.raw_input_contents.append(raw)
    return request


def _stream(name: str, *requests: Any, metadata: tuple[tuple[str, str], ...] = ()) -> Call:
    method, answer = f"{_SERVICE}/ModelStreamInfer", pb.ModelStreamInferResponse
    return Call(name, method, requests, answer, metadata, streams=True)


_REGISTER = pb.SystemSharedMemoryRegisterRequest(name="r", key="/nothing", byte_size=64)
TRITON_CALLS = [
    _ask("live", "ServerLive", pb.ServerLiveRequest()),
    _ask("ready", "ServerReady", pb.ServerReadyRequest()),
    _ask("server metadata", "ServerMetadata", pb.ServerMetadataRequest()),
    _ask("model ready", "ModelReady", pb.ModelReadyRequest(name="m")),
    _ask("model ready, a version", "ModelReady", pb.ModelReadyRequest(name="m", version="1")),
    _ask("unknown model, ready", "ModelReady", pb.ModelReadyRequest(name="nobody")),
    _ask("model metadata", "ModelMetadata", pb.ModelMetadataRequest(name="m")),
    _ask("unknown model, metadata", "ModelMetadata", pb.ModelMetadataRequest(name="nobody")),
    _ask("config", "ModelConfig", pb.ModelConfigRequest(name="m")),
    _ask("unknown model, config", "ModelConfig", pb.ModelConfigRequest(name="nobody")),
    _infer("infer", _request()),
    _infer("infer, with an id", _request(id="seven")),
    _infer("infer, a version", _request(model_version="1")),
    _infer("infer, one output", _with_output("label")),
    _infer("infer, typed elements", _typed("fp32_contents", [v for row in ROWS for v in row])),
    _infer("infer, text", _texts(b"\x03\0\0\0one\0\0\0\0")),
    _infer("infer, a text parameter", _with_parameter("string_param", "me")),
    _infer("infer, a parameter of 64 bits", _with_parameter("uint64_param", 2**63)),
    _infer("infer, priority", _with_parameter("uint64_param", 1, "priority")),
    _infer("infer, a timeout", _with_parameter("int64_param", 20_000_000, "timeout")),
    _infer("infer, two classes", _with_output("probabilities", classification=2)),
    _infer("no classes", _with_output("probabilities", classification=0)),
    _infer("unknown model, infer", _request("nobody")),
    _infer("no model", _request("")),
    _infer("unknown version, infer", _request(model_version="9")),
    _infer("a version that is no number", _request(model_version="abc")),
    _infer("unknown dtype", _of_input(datatype="FLOAT")),
    _infer("another dtype", _of_input(datatype="INT32")),
    _infer("another number of columns", _of_input(shape=[2, 5])),
    _infer("one dimension", _of_input(shape=[8])),
    _infer("a negative dimension", _of_input(shape=[-2, 4])),
    _infer("an unknown input", _of_input(name="z")),
    _infer("an unknown output", _with_output("z")),
    _infer("an input that comes twice", _twice()),
    _infer("one input of two", _pair()),
    _infer("no inputs", pb.ModelInferRequest(model_name="m")),
    _infer("fewer bytes than the shape says", _raw(_RAW[:16])),
    _infer("more bytes than the shape says", _raw(_RAW + b"abcd")),
    _infer("more raw contents than inputs", _raw(_RAW, _RAW)),
    _infer("no contents", _raw()),
    _infer("raw contents and typed ones", _both()),
    _infer("elements of another type", _typed("int_contents", [1] * 8)),
    _infer("fewer elements than the shape says", _typed("fp32_contents", [1.0])),
    _infer("text whose length reaches beyond the end", _texts(b"\x09\0\0\0a")),
    _stream("stream, two requests", _request(id="a"), _request(id="b")),
    _stream("stream, one of them wrong", _request("nobody", id="a"), _request(id="b")),
    _stream(
        "streamed, a failure ends it",
        _request("nobody"),
        _request(),
        metadata=(("triton_grpc_error", "true"),),
    ),
    _ask("statistics", "ModelStatistics", pb.ModelStatisticsRequest(name="m")),
    _ask("unknown model, statistics", "ModelStatistics", pb.ModelStatisticsRequest(name="nobody")),
    _ask("index", "RepositoryIndex", pb.RepositoryIndexRequest()),
    _ask("index, ready ones", "RepositoryIndex", pb.RepositoryIndexRequest(ready=True)),
    _ask(
        "load",
        "RepositoryModelLoad",
        pb.RepositoryModelLoadRequest(model_name="two"),
    ),
    _ask(
        "load, an unknown model",
        "RepositoryModelLoad",
        pb.RepositoryModelLoadRequest(model_name="nobody"),
    ),
    _ask(
        "unload, an unknown model",
        "RepositoryModelUnload",
        pb.RepositoryModelUnloadRequest(model_name="nobody"),
    ),
    _ask(
        "a system's shared memory",
        "SystemSharedMemoryStatus",
        pb.SystemSharedMemoryStatusRequest(),
    ),
    _ask("a GPU's shared memory", "CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest()),
    _ask("shared memory registered", "SystemSharedMemoryRegister", _REGISTER),
    _ask("trace settings", "TraceSetting", pb.TraceSettingRequest()),
    _ask("log settings", "LogSettings", pb.LogSettingsRequest()),
]
