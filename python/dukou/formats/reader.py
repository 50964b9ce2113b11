"""What a source format is to the rest of the line: a `Reader`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dukou.model.model import Model
from dukou.model.signature import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Samples = Mapping[str, np.ndarray[Any, Any]] | np.ndarray[Any, Any]

# How much of a file's beginning `reads` is shown.
HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a user says beside a file that does not say everything itself.

    Attributes:
        factory: code that builds the model, `file.py:function` or `package.module:function`.
        inputs: what the model takes, where its file does not say.
    """

    factory: str | None = None
    inputs: tuple[TensorSpec, ...] = ()

    def __bool__(self) -> bool:
        return self.factory is not None or bool(self.inputs)


NO_OPTIONS = ReadOptions()


class Reader(Protocol):
    """Turns files of one kind into a `Model`. `dukou.testing.check_reader` is its contract.

    A reader never writes beside the source, never runs code out of it in this process, and
    reports every bad file as an `InputError` with a `formats.*` code.

    Attributes:
        name: its name in the table.
        kind: what it reads, for people: `ONNX graphs (.onnx)`.

    A reader may have more, each looked for by name: `needs`, the modules that its format needs
    beside dukou's own; `with_options(options) -> Reader`, where it makes use of `ReadOptions`.
    """

    name: str
    kind: str

    def reads(self, head: bytes, path: Path) -> bool:
        """Whether the content says so; the file's name must not matter.

        Args:
            head: the first `HEAD_BYTES` of the file; empty for a folder.
            path: the file or folder, for readers that must look further.
        """
        ...

    def load_model(self, path: Path, *, into: Path, samples: Samples | None, trust: bool) -> Model:
        """The model, its graph written into the folder `into`, with parity and golden samples.

        Args:
            path: what `reads` said yes to.
            into: an existing folder that belongs to this model alone.
            samples: rows of the user's data, as columns by name or one array; none where there
                are none: the reader then makes seeded ones.
            trust: whether the user vouches for a file whose loading runs code.

        Raises:
            InputError: one of the `formats.*` codes, or `data.mismatch` for samples that do not fit.
        """
        ...

    def write_example(self, into: Path) -> Path:
        """A small real model of this kind, seeded, for the contract suite and the docs."""
        ...
