"""A network at hand in this process: what it takes, how it is asked, and the rows that it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.formats.child import load_arrays
from dukou.model.rows import count_rows, fit_rows
from dukou.model.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BATCH = "batch"
# Rows that are made up where the user gave none; the most that are compared of those he gave.
_INVENTED_ROWS, _MOST_ROWS = 64, 4096
# How many go through the network at once, where it takes any number.
_STEP_ROWS = 256
# A free axis beside the batch, in made-up rows.
_EXTENT = 12


@dataclass(frozen=True, slots=True)
class Program:
    """What a loader gives.

    Attributes:
        module: a `torch.nn.Module` (a scripted one, or any other) in evaluation mode; takes the
            inputs in order and gives a tensor, a sequence or a dictionary of tensors.
        inputs: names, dtypes and shapes; the first axis is `batch` unless the file fixes it.
        kind: what the file is, for people: `TorchScript`.
        exported: the `torch.export.ExportedProgram`, where the file is one.
        outputs: the names of the outputs, where the framework has names.
        framework: name and version.
    """

    module: Any
    inputs: tuple[TensorSpec, ...]
    kind: str
    framework: str
    exported: Any = None
    outputs: tuple[str, ...] = ()

    @property
    def fixed_rows(self) -> int | None:
        """The batch that the file fixes, where it does."""
        extents = [spec.shape[0] for spec in self.inputs if spec.shape]
        return next((extent for extent in extents if isinstance(extent, int)), None)


def find_rows(program: Program, samples: Path | None) -> dict[str, Array]:
    """The rows that both sides are asked: the user's, or seeded ones.

    Raises:
        InputError: `data.mismatch`.
    """
    if samples is None:
        rows = program.fixed_rows or _INVENTED_ROWS
        return invent(program.inputs, rows)
    given = load_arrays(samples)
    arrays = given["x"] if set(given) == {"x"} and len(program.inputs) == 1 else given
    fitted = fit_rows(Signature(program.inputs, ()), arrays)
    found = count_rows(fitted) or 0
    fixed = program.fixed_rows
    kept = min(found, _MOST_ROWS) if fixed is None else min(found, _MOST_ROWS) // fixed * fixed
    if kept == 0:
        raise InputError(
            "data.mismatch",
            f"the samples have {found} rows, the model takes {fixed or 1} at a time",
        )
    return {name: array[:kept] for name, array in fitted.items()}


def invent(inputs: Sequence[TensorSpec], rows: int, extent: int = _EXTENT) -> dict[str, Array]:
    """Seeded rows: normal numbers; whole numbers 0 and 1, which any vocabulary has."""
    import numpy as np

    rng = np.random.default_rng(0)
    made: dict[str, Array] = {}
    for spec in inputs:
        shape = [
            dim if isinstance(dim, int) else rows if axis == 0 else extent
            for axis, dim in enumerate(spec.shape)
        ]
        numbers = (
            rng.standard_normal(shape)
            if spec.dtype.startswith(("FP", "BF"))
            else rng.integers(0, 2, shape)
        )
        made[spec.name] = numbers.astype(spec.to_numpy())
    return made


def step_rows(program: Program) -> int:
    """How many rows go through at once."""
    return program.fixed_rows or _STEP_ROWS


def ask(path: str, program: Program, rows: Mapping[str, Array]) -> dict[str, Array]:
    """The framework's own answers, by output name.

    Raises:
        InputError: `data.mismatch`, where the network refuses its inputs.
    """
    import numpy as np
    import torch

    total, step = count_rows(rows) or 1, step_rows(program)
    parts: list[dict[str, Array]] = []
    with torch.no_grad():
        for start in range(0, total, step):
            arguments = [
                torch.from_numpy(np.ascontiguousarray(rows[spec.name][start : start + step]))
                for spec in program.inputs
            ]
            try:
                said = program.module(*arguments)
            except Exception as error:
                shapes = ", ".join(f"`{n}` {list(a.shape[1:])}" for n, a in rows.items())
                raise InputError(
                    "data.mismatch",
                    f"`{path}` itself refuses rows of {shapes}: {first_sentence(error)}",
                ) from error
            parts.append(name_outputs(path, program, said))
    return {
        name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]
    }


def name_outputs(path: str, program: Program, said: Any) -> dict[str, Array]:
    """What a network gave, by name: its own names, a dictionary's keys, `output` or `output_0` …"""
    flat = flatten_output(path, said)
    names = list(program.outputs) or list(flat)
    if len(names) != len(flat):
        names = list(flat)
    return {
        name: tensor.detach().cpu().numpy()
        for name, tensor in zip(names, flat.values(), strict=True)
    }


def flatten_output(path: str, said: Any) -> dict[str, Any]:
    """Tensors by name.

    Raises:
        InputError: `formats.cannot-convert`, for anything that is no tensor.
    """
    import torch

    items: dict[str, Any]
    if isinstance(said, torch.Tensor):
        items = {"output": said}
    elif isinstance(said, Mapping):
        items = {str(key): value for key, value in said.items() if value is not None}
    elif isinstance(said, tuple | list):
        items = {f"output_{i}": value for i, value in enumerate(said)}
        if len(items) == 1:
            items = {"output": said[0]}
    else:
        items = {}
    wrong = next((v for v in items.values() if not isinstance(v, torch.Tensor)), None)
    if not items or wrong is not None:
        kind = type(said if wrong is None else wrong).__name__
        raise InputError(
            "formats.cannot-convert",
            f"`{path}` gives a `{kind}`, a tensor or a list or dictionary of tensors is expected",
        )
    return items


def first_sentence(error: BaseException) -> str:
    """The first line of a framework's words that says something, without its terminal colours."""
    import re

    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # A TorchScript error begins with where it happened; its last line is the sentence.
    said = next((x for x in reversed(lines) if re.match(r"\w*(Error|Exception): ", x)), None)
    line = said or (lines or ["no words"])[0]
    return f"{type(error).__name__}: {line[:240]}"
