"""What a target format is to the rest of the line: a `Writer`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dukou.formats.parity import Parity
from dukou.model.model import Model


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer left.

    Attributes:
        file: the one to hand to whoever runs it; others lie beside it.
        tool: name and version of what wrote it.
        parity: how close the other runtime's answers come to ONNX Runtime's on the golden samples.
    """

    file: Path
    tool: str
    parity: Parity


class Writer(Protocol):
    """Turns a `Model` into files of another runtime. `dukou.testing.check_writer` is its contract.

    A writer never changes the model, writes into the folder that it is given alone, and proves what
    it wrote: that runtime answers the golden samples as ONNX Runtime does.

    Attributes:
        name: its name in the table, and after `dukou convert --to`.
        kind: what it writes, for people: `OpenVINO IR (.xml, .bin)`.
        needs: the modules that it needs beside dukou's own.
        extra: the extra of dukou's that brings them.
    """

    name: str
    kind: str
    needs: tuple[str, ...]
    extra: str

    def write_model(self, model: Model, into: Path, stem: str) -> Written:
        """Writes the model.

        Args:
            model: with golden samples.
            into: an existing folder; nothing of this name is in it.
            stem: of the files' names.

        Raises:
            InputError: `formats.cannot-convert`, naming what the target lacks; `formats.parity`,
                where its answers differ.
        """
        ...
