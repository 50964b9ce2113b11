"""What a network takes, in a user's words: `x:FP32[batch,1,8,8]`."""

from __future__ import annotations

import re

from dukou.base.errors import InputError
from dukou.model.signature import NUMPY_NAMES, Dim, TensorSpec


def parse_input(text: str) -> TensorSpec:
    """An input by name, dtype (FP32 where absent) and extents; words are axes of any length.

    Raises:
        InputError: `usage.invalid`, with the form that is expected.
    """
    found = re.fullmatch(r"([^:\[\]]+?)(?::(\w+))?\[([^\[\]]*)\]", text.strip())
    if not found:
        raise _refuse(text, "a name and extents in brackets are expected")
    dtype = (found[2] or "FP32").upper()
    if dtype not in NUMPY_NAMES or dtype == "BYTES":
        raise _refuse(text, f"`{found[2]}` is not one of {', '.join(_NUMBERS)}")
    return TensorSpec(found[1], dtype, tuple(_extent(text, e.strip()) for e in found[3].split(",")))


_NUMBERS = tuple(name for name in NUMPY_NAMES if name != "BYTES")


def _extent(text: str, said: str) -> Dim:
    if re.fullmatch(r"[1-9]\d{0,8}", said):
        return int(said)
    if re.fullmatch(r"[A-Za-z_]\w*", said):
        return said
    raise _refuse(text, f"`{said}` is neither a length nor the name of an axis")


def _refuse(text: str, why: str) -> InputError:
    return InputError(
        "usage.invalid", f"`--input {text}`: {why}", hint="for example 'x:FP32[batch,1,8,8]'"
    )
