"""TensorFlow Serving's REST; KServe's V1 where a server does not tell signatures."""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from collections.abc import Sequence
from typing import Any

from dukou.base.errors import RemoteError
from dukou.serve.dialects.rows import outputs_of
from dukou.serve.dialects.table import Ask, Document, Target
from dukou.serve.example import nest

# TensorFlow's names of dtypes → V2's.
_DTYPES = {
    "DT_BOOL": "BOOL",
    "DT_UINT8": "UINT8",
    "DT_UINT16": "UINT16",
    "DT_UINT32": "UINT32",
    "DT_UINT64": "UINT64",
    "DT_INT8": "INT8",
    "DT_INT16": "INT16",
    "DT_INT32": "INT32",
    "DT_INT64": "INT64",
    "DT_HALF": "FP16",
    "DT_BFLOAT16": "BF16",
    "DT_FLOAT": "FP32",
    "DT_DOUBLE": "FP64",
    "DT_STRING": "BYTES",
}
_SIGNATURE = "serving_default"


class TensorFlow:
    """Asked in columns, by the names of the signature `serving_default`."""

    def __init__(self) -> None:
        self._outputs: list[Document] = []

    def metadata(self, ask: Ask, target: Target) -> Document | None:
        """`GET …/metadata`; None where the server, KServe's, has no such path."""
        try:
            said = ask("GET", _path(target) + "/metadata")
        except RemoteError as error:
            if "'detail'" in error.message:  # the framework's own 404, not the model's
                return None
            raise
        try:
            signatures = said["metadata"]["signature_def"]["signature_def"]
            signature = signatures.get(_SIGNATURE) or next(iter(signatures.values()))
            found = {side: _specs(signature[side]) for side in ("inputs", "outputs")}
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise RemoteError(
                "client.server-error",
                f"the metadata of `{target.model}` has no signature that could be read",
                hint="is it a server of TensorFlow Serving's kind?",
            ) from error
        self._outputs = found["outputs"]
        return {"name": target.model, **found}

    def infer(self, ask: Ask, target: Target, request: Document) -> Document:
        """`POST …:predict` with `inputs`."""
        inputs = {each["name"]: nest(each["data"], each["shape"]) for each in request["inputs"]}
        answer = ask("POST", _path(target) + ":predict", {"inputs": inputs})
        if not isinstance(answer, dict) or "outputs" not in answer:
            raise RemoteError("client.server-error", f"the answer has no `outputs`: {answer}"[:300])
        outputs = answer["outputs"]
        if len(self._outputs) == 1:  # its name is left out
            outputs = {self._outputs[0]["name"]: outputs}
        return {"outputs": [_output(name, value) for name, value in outputs.items()]}

    def infer_rows(self, ask: Ask, target: Target, rows: Sequence[Any]) -> Document:
        """`POST …:predict` with `instances`."""
        return outputs_of(ask("POST", _path(target) + ":predict", {"instances": list(rows)}))


def _path(target: Target) -> str:
    words = ["models", target.model]
    if target.version is not None:
        words += ["versions", target.version]
    elif target.alias is not None:
        words += ["labels", target.alias]
    return "/v1/" + "/".join(urllib.parse.quote(word, safe="") for word in words)


def _specs(said: dict[str, Any]) -> list[Document]:
    """In the order of their names: a signature's own order is nobody's promise."""
    return [
        {
            "name": name,
            "datatype": _DTYPES[info["dtype"]],
            "shape": [int(dim["size"]) for dim in info["tensor_shape"].get("dim", [])],
        }
        for name, info in sorted(said.items())
    ]


def _output(name: str, value: Any) -> Document:
    value = _text(value)
    if not isinstance(value, list):
        return {"name": name, "shape": [], "data": [value]}
    return {"name": name, "shape": [len(value)], "data": value}


def _text(value: Any) -> Any:
    """`{"b64": …}` as text, where it is UTF-8; as it came where it is not."""
    if isinstance(value, list):
        return [_text(each) for each in value]
    if isinstance(value, dict) and list(value) == ["b64"]:
        try:
            return base64.b64decode(value["b64"], validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError, TypeError, ValueError):
            return value
    return value
