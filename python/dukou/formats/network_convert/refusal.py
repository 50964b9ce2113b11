"""Why a network cannot be written as ONNX, in one sentence that names the operator or the axis."""

from __future__ import annotations

import re
from typing import Any

from dukou.base.errors import InputError
from dukou.formats.network_convert.program import Program, first_sentence

# How the exporters name what they cannot do, most telling first.
_OPERATORS = (
    r"Exporting the operator '([\w:.]+)' to ONNX",
    r"No (?:ONNX function|decompositions?) (?:found|registered) for .*?op='([\w.:]+)'",
    r"op(?:erator)? ['\"`]?((?:aten|prim|torchvision|quantized|\w+)(?:::|\.)[\w.]+)['\"`]?",
    r"Unsupported FX nodes: \{'call_function': \['([\w.:]+)'",
)


def exporter() -> str:
    """Name and version."""
    import torch

    return f"torch.onnx {torch.__version__.partition('+')[0]}"


class FixedAxisError(InputError):
    """An axis that is to stay free cannot, by this exporter."""


def as_symbol(name: str) -> str:
    """The name of an axis as the exporter takes it."""
    return re.sub(r"\W", "_", name)


def refuse(path: str, program: Program, error: BaseException) -> InputError:
    """What an exporter raised, as a refusal of ours; `FixedAxisError` where an axis is the matter."""
    words = _all_words(error)
    axis = _fixed_axis(words, program)
    if axis is not None:
        spec, place = axis
        shape = ["12" if i == place else str(dim) for i, dim in enumerate(spec.shape)]
        return FixedAxisError(
            "formats.cannot-convert",
            f"`{path}`: axis {place} (`{spec.shape[place]}`) of input `{spec.name}` cannot stay free: "
            "the network's code takes it apart step by step, or fixes it",
            hint=f"give it a length: `--input '{spec.name}:{spec.dtype}[{','.join(shape)}]'`",
        )
    for pattern in _OPERATORS:
        found = re.search(pattern, words)
        if found:
            return InputError(
                "formats.cannot-convert",
                f"`{path}`: operator `{found[1]}` cannot be written as ONNX by {exporter()}",
            )
    return InputError(
        "formats.cannot-convert", f"`{path}` does not convert: {first_sentence(_root(error))}"
    )


def _fixed_axis(words: str, program: Program) -> tuple[Any, int] | None:
    """The input and the axis that the exporter says cannot be free."""
    if not re.search(r"onstraints violated|conflicts between user-specified", words):
        return None
    wanted = re.findall(
        r"\((\w+)\)|\b(\w+) = (?:None|\d+)|arguments\[(\d+)\]\D+shape\[(\d+)\]", words
    )
    named = {part for group in wanted for part in group if part}
    free = [
        (spec, axis)
        for spec in program.inputs
        for axis, dim in enumerate(spec.shape)
        if isinstance(dim, str)
    ]
    for spec, axis in free:
        if as_symbol(str(spec.shape[axis])) in named:
            return spec, axis
    inner = [found for found in free if found[1] > 0]
    return next(iter(inner or free), None)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _all_words(error: BaseException) -> str:
    texts = []
    at: BaseException | None = error
    while at is not None:
        texts.append(re.sub(r"\x1b\[[0-9;]*m", "", str(at)))
        at = at.__cause__ or at.__context__
    return "\n".join(texts)
