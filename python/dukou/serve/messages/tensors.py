"""Tensors in the messages of V2 and of TensorFlow ↔ plain values.

A plain tensor is its datatype as V2 names it, its shape and its elements, flat: whichever server wrote it, in
whichever of its forms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from dukou.serve.messages.elements import read_elements, write_elements

Tensor = dict[str, Any]
# V2's datatype → the field of its typed contents.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
# TensorFlow's number of a dtype → V2's datatype, and the field of its elements one by one.
_TENSORFLOW = {
    1: ("FP32", "float_val"),
    2: ("FP64", "double_val"),
    3: ("INT32", "int_val"),
    4: ("UINT8", "int_val"),
    5: ("INT16", "int_val"),
    6: ("INT8", "int_val"),
    7: ("BYTES", "string_val"),
    9: ("INT64", "int64_val"),
    10: ("BOOL", "bool_val"),
    14: ("BF16", "half_val"),
    17: ("UINT16", "int_val"),
    19: ("FP16", "half_val"),
    22: ("UINT32", "uint32_val"),
    23: ("UINT64", "uint64_val"),
}
# What a few bytes may claim to be.
_MOST = 1 << 26
_NUMBERS = {datatype: number for number, (datatype, _) in _TENSORFLOW.items()}


def plain_tensor(datatype: str, shape: Sequence[int], data: list[Any]) -> Tensor:
    """A tensor as the rest of this package has it."""
    return {"datatype": datatype, "shape": list(shape), "data": data}


def read_v2_tensors(tensors: Iterable[Any], raw: Iterable[bytes]) -> dict[str, Tensor]:
    """The tensors of a message of V2 by their names, in its order.

    Args:
        tensors: its inputs or outputs.
        raw: their raw contents, where it has those.

    Raises:
        LookupError, ValueError: as `read_elements`.
    """
    pieces = list(raw)
    found = {}
    for index, tensor in enumerate(tensors):
        if index < len(pieces):
            data = read_elements(tensor.datatype, pieces[index])
        else:
            field = _CONTENTS.get(tensor.datatype)
            data = [] if field is None else _plain(getattr(tensor.contents, field))
        found[tensor.name] = plain_tensor(tensor.datatype, tensor.shape, data)
    return found


def tensorflow_datatype(number: int) -> str:
    """V2's name of TensorFlow's dtype.

    Raises:
        LookupError: V2 has none.
    """
    return _TENSORFLOW[number][0]


def read_tensorflow_tensor(proto: Any) -> Tensor:
    """A `TensorProto`, in any of its forms.

    Raises:
        LookupError, ValueError: as `read_elements`.
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    datatype, field = _TENSORFLOW[proto.dtype]
    if proto.tensor_content:
        return plain_tensor(datatype, shape, read_elements(datatype, proto.tensor_content))
    values = list(getattr(proto, field))
    if field == "half_val":
        # The bits of each, in the low half of an int32.
        bits = b"".join((value & 0xFFFF).to_bytes(2, "little") for value in values)
        values = read_elements(datatype, bits)
    count = math.prod(shape)
    if count > _MOST:
        raise ValueError(f"a tensor of {count} elements is more than is read")
    if 0 < len(values) < count:
        # Equal ones at the end are written once.
        values += [values[-1]] * (count - len(values))
    return plain_tensor(datatype, shape, _plain(values))


def read_tensorflow_tensors(tensors: Any) -> dict[str, Tensor]:
    """A map of `TensorProto`s by their names, in the order of these.

    Raises:
        LookupError, ValueError: as `read_elements`.
    """
    return {name: read_tensorflow_tensor(tensors[name]) for name in sorted(tensors)}


def write_tensorflow_tensor(tensor: Tensor, proto: Any) -> None:
    """Fills a `TensorProto`: `tensor_content`, but for text, which has no such form.

    Raises:
        LookupError, ValueError, TypeError, OverflowError: as `write_elements`.
    """
    proto.dtype = _NUMBERS[tensor["datatype"]]
    for extent in tensor["shape"]:
        proto.tensor_shape.dim.add(size=extent)
    if tensor["datatype"] == "BYTES":
        texts = (each.encode() if isinstance(each, str) else each for each in tensor["data"])
        proto.string_val.extend(texts)
    else:
        proto.tensor_content = write_elements(tensor["datatype"], tensor["data"])


def _plain(values: Iterable[Any]) -> list[Any]:
    return [
        each.decode("utf-8", "backslashreplace") if isinstance(each, bytes) else each
        for each in values
    ]
