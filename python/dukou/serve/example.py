"""A request that a model answers: made from its signature, or from a golden sample where there is one.

Tensors here are the protocol's JSON: `{"name", "datatype", "shape", "data"}` with flat `data`.
"""

from __future__ import annotations

import json
import shlex
from math import prod
from typing import Any

_ZEROS: dict[str, Any] = {"BOOL": False, "BYTES": "text", "FP16": 0.0, "FP32": 0.0, "FP64": 0.0}
# These have no JSON form: the binary extension carries them.
_BINARY_ONLY = ("FP16", "BF16")
# Past this a line is no longer one that a person pastes.
LONGEST_BODY = 2000


def example_inputs(
    signature: dict[str, Any], golden: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]] | None:
    """Input tensors of one row that the model answers.

    Args:
        signature: `{"inputs": [{"name", "dtype", "shape"}], …}`; a free dimension is no integer.
        golden: the input tensors of a golden sample, where there is one.

    Returns:
        The tensors; None where an input's dtype cannot travel as JSON.
    """
    specs = signature["inputs"]
    if any(spec["dtype"] in _BINARY_ONLY for spec in specs):
        return None
    if golden is not None:
        return _first_row(golden, specs)
    tensors = []
    for spec in specs:
        shape = [extent if _is_fixed(extent) else 1 for extent in spec["shape"]]
        zero = _ZEROS.get(spec["dtype"], 0)
        tensors.append(
            {
                "name": spec["name"],
                "datatype": spec["dtype"],
                "shape": shape,
                "data": [zero] * prod(shape),
            }
        )
    return tensors


def _is_fixed(extent: Any) -> bool:
    return isinstance(extent, int) and extent >= 0


def _first_row(tensors: list[dict[str, Any]], specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = {tensor["shape"][0] if tensor["shape"] else None for tensor in tensors}
    free = all(spec["shape"] and not _is_fixed(spec["shape"][0]) for spec in specs)
    if not free or len(rows) != 1 or not rows.pop():
        return tensors
    return [
        tensor
        | {"shape": [1, *tensor["shape"][1:]], "data": tensor["data"][: prod(tensor["shape"][1:])]}
        for tensor in tensors
    ]


def request_body(tensors: list[dict[str, Any]]) -> str:
    """The V2 request, in as few characters as carry every value exactly."""
    inputs = [tensor | {"data": _short(tensor)} for tensor in tensors]
    return json.dumps({"inputs": inputs}, separators=(",", ":"), ensure_ascii=False)


def rows_argument(tensors: list[dict[str, Any]]) -> str:
    """What `dukou predict` takes for the same: rows of the only input, or tensors by name."""
    nested = {tensor["name"]: nest(_short(tensor), tensor["shape"]) for tensor in tensors}
    only = next(iter(nested.values())) if len(nested) == 1 else None
    whole = only if isinstance(only, list) else nested
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False)


def curl_line(url: str, model: str, body: str) -> str:
    """A command that sends the request, for any shell; `body` may be `@file`."""
    secure = url.startswith("https:")
    key = '--cacert "$DUKOU_CACERT" -H "Authorization: Bearer $DUKOU_KEY" ' if secure else ""
    return f"curl -s {key}{url}/v2/models/{model}/infer -d {shlex.quote(body)}"


def predict_line(url: str, model: str, argument: str) -> str:
    """The same by `dukou predict`; `argument` may be a file."""
    return f"dukou predict {model} --url {url} {shlex.quote(argument)}"


def _short(tensor: dict[str, Any]) -> list[Any]:
    if tensor["datatype"] not in ("FP32", "FP64"):
        return list(tensor["data"])
    # Nine digits carry every float32 exactly.
    digits = 9 if tensor["datatype"] == "FP32" else 17
    short = (float(f"{value:.{digits}g}") for value in tensor["data"])
    return [int(value) if value.is_integer() and abs(value) < 1e9 else value for value in short]


def nest(flat: list[Any], shape: list[int]) -> Any:
    """Flat elements as nested lists."""
    if not shape:
        return flat[0]
    if len(shape) == 1:
        return flat
    size = prod(shape[1:])
    return [nest(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]
