"""A graph meets the installed ONNX Runtime: does it load, what does it take, what does it answer.

The runtime's words are translated here, once, into dukou's codes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.model.signature import Dim, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

    Array = np.ndarray[Any, Any]

# The runtime's names of dtypes → the protocol's.
_DTYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}

# The runtime's (and the checker's) words → code and sentence; `{}` are the pattern's groups.
_WORDS: tuple[tuple[str, str, str], ...] = (
    (
        r"No Op registered for (\S+) with domain_version of (\d+)",
        "formats.unsupported-operator",
        "operator `{0}` does not exist in opset {1} as onnxruntime {runtime} knows it",
    ),
    (
        r"([\w.]*):(\w+)\((-?\d+)\) is not a registered function/op",
        "formats.unsupported-operator",
        "operator `{1}` of domain `{0}` is unknown to onnxruntime {runtime}",
    ),
    (
        r"Could not find an implementation for (\w+)\((\d+)\)",
        "formats.unsupported-operator",
        "operator `{0}` (opset {1}) has no implementation for these dtypes in onnxruntime {runtime}",
    ),
    (
        r"Opset (\d+) is.*?for domain (\S+) is till opset (\d+)",
        "formats.unsupported-operator",
        "opset {0} of domain `{1}` is asked for, onnxruntime {runtime} has up to {2}",
    ),
    (
        r"[Uu]nsupported model IR version: (\d+), max supported IR version: (\d+)",
        "formats.unsupported-operator",
        "IR version {0} is asked for, onnxruntime {runtime} has up to {1}",
    ),
    (
        r"ir_version (\d+) is higher than the checker's \((\d+)\)",
        "formats.unsupported-operator",
        "IR version {0} is asked for, the installed onnx has up to {1}",
    ),
    (
        r"[Ee]xternal data.*?escapes|Absolute path not allowed",
        "formats.external-data-outside",
        "weights lie outside its folder",
    ),
    (
        r"[Ee]xternal data.*?does not exist",
        "formats.external-data-missing",
        "a file of weights is not there",
    ),
)


def translate(name: str, words: str) -> InputError:
    """The runtime's refusal of the model that the user calls `name`, as an error of ours."""
    import onnxruntime

    for pattern, code, sentence in _WORDS:
        found = re.search(pattern, words, re.DOTALL)
        if found:
            said = sentence.format(*found.groups(), runtime=onnxruntime.__version__)
            return InputError(code, f"`{name}`: {said}")
    return InputError("formats.corrupt", f"`{name}` is not a valid graph: {shorten(words)}")


def shorten(words: str) -> str:
    """The first sentence of the runtime's or the checker's words, without its source paths."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", words)
    text = re.sub(r"/\S*onnxruntime\S*:\d+ [^\n]*?\)(?= )", "", text)
    text = re.sub(r"\S*/\S*\.(?:cc|cpp|h):\d+\S*", "", text)
    text = re.sub(r"Load model from .*? failed:\s*", "", text)
    line = next((part for part in text.splitlines() if part.strip()), "no reason given")
    return re.sub(r"\s+", " ", line).strip().rstrip(".")[:300]


def runtime_errors() -> tuple[type[Exception], ...]:
    """What the runtime raises for a bad graph or a bad request."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "EPFail",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    found = tuple(getattr(state, name) for name in names if hasattr(state, name))
    return (*found, RuntimeError, ValueError, TypeError)


def open_session(path: Path, name: str) -> onnxruntime.InferenceSession:
    """A session on the CPU, one thread, quiet.

    Args:
        path: the graph.
        name: what the user calls it.

    Raises:
        InputError: `formats.unsupported-operator`, `formats.corrupt` or an external-data code.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except runtime_errors() as error:
        raise translate(name, str(error)) from error


def read_signature(name: str, session: onnxruntime.InferenceSession) -> Signature:
    """Inputs and outputs with dtypes, extents, symbols.

    Raises:
        InputError: `formats.cannot-convert`, where one of them is no dense tensor of the protocol.
    """
    return Signature(
        tuple(_spec(name, "input", value) for value in session.get_inputs()),
        tuple(_spec(name, "output", value) for value in session.get_outputs()),
    )


def _spec(name: str, side: str, value: Any) -> TensorSpec:
    found = re.fullmatch(r"tensor\((\w+)\)", value.type)
    dtype = _DTYPES.get(found.group(1)) if found else None
    if dtype is None:
        raise InputError(
            "formats.cannot-convert",
            f"{side} `{value.name}` of `{name}` is a `{value.type}`, a dense tensor of a dtype "
            "of the Open Inference Protocol is expected",
        )
    return TensorSpec(value.name, dtype, tuple(_dim(extent) for extent in value.shape or ()))


def _dim(extent: int | str | None) -> Dim:
    if isinstance(extent, int):
        return extent if extent >= 0 else None
    return extent or None


def run_session(
    session: onnxruntime.InferenceSession, signature: Signature, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """The graph's answers by output name; what the runtime raises passes through."""
    names = [spec.name for spec in signature.outputs]
    if not any(s.dtype == "BF16" for s in (*signature.inputs, *signature.outputs)):
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    return _run_with_bfloat16(session, signature, inputs)


def _run_with_bfloat16(
    session: onnxruntime.InferenceSession, signature: Signature, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """The binding knows no NumPy bfloat16: its bits travel as uint16, and come out by address."""
    import ctypes

    import ml_dtypes
    import numpy as np
    import onnxruntime
    from onnx import TensorProto

    def wrap(spec: TensorSpec) -> Any:
        array = np.ascontiguousarray(inputs[spec.name])
        if spec.dtype == "BF16":
            return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
                array.view(np.uint16), TensorProto.BFLOAT16
            )
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)

    values = session.run_with_ort_values(
        [s.name for s in signature.outputs], {s.name: wrap(s) for s in signature.inputs}
    )
    found: dict[str, Array] = {}
    for spec, value in zip(signature.outputs, values, strict=True):
        if spec.dtype == "BF16":
            shape = tuple(value.shape())
            bits = (ctypes.c_uint16 * int(np.prod(shape))).from_address(value.data_ptr())
            copy = np.frombuffer(bytes(bits), dtype=ml_dtypes.bfloat16)
            found[spec.name] = copy.reshape(shape)
        else:
            found[spec.name] = value.numpy()
    return found
