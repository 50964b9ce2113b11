"""Keras's files come in, on its PyTorch backend in a child process; code in them only where trusted."""

from __future__ import annotations

import dataclasses
import mmap
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dukou.formats.archive import check_archive, list_archive
from dukou.formats.network import check_installed, open_network
from dukou.formats.reader import NO_OPTIONS, ReadOptions
from dukou.model.model import Model

if TYPE_CHECKING:
    from dukou.formats.reader import Samples

_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class KerasReader:
    """Reads what `model.save` writes: `.keras`, and `.h5` of old."""

    options: ReadOptions = NO_OPTIONS

    name: ClassVar[str] = "keras"
    kind: ClassVar[str] = "Keras models (.keras, .h5)"
    needs: ClassVar[tuple[str, ...]] = ("keras", "h5py", "torch", "onnxscript")

    def reads(self, head: bytes, path: Path) -> bool:
        """Whether it is an archive or an HDF5 file with a model's configuration; nothing is loaded."""
        if head.startswith(b"PK\x03\x04"):
            names = list_archive(path)
            return any(re.search(r"(^|/)model\.weights\.(h5|npz)$", name) for name in names)
        if not head.startswith(_HDF5):
            return False
        # Weights alone are read where the user names what builds the model.
        return self.options.factory is not None or _has_configuration(path)

    def with_options(self, options: ReadOptions) -> KerasReader:
        """A reader that knows what the user says beside the file."""
        return dataclasses.replace(self, options=options)

    def load_model(self, path: Path, *, into: Path, samples: Samples | None, trust: bool) -> Model:
        """Converts by torch.onnx in a child, compares the answers, records golden samples."""
        with path.open("rb") as file:
            is_archive = file.read(4) == b"PK\x03\x04"
        if is_archive:
            check_archive(path, "a Keras model")
        check_installed(path, "a Keras model", self.needs, "keras")
        weights_only = not is_archive and not _has_configuration(path)
        return open_network(
            path,
            kind="keras",
            suffix=".keras" if is_archive else ".weights.h5" if weights_only else ".h5",
            into=into,
            samples=samples,
            trust=trust,
            options=self.options,
        )

    def write_example(self, into: Path) -> Path:
        """Two dense layers, seeded."""
        # Read when Keras is imported for the first time; its own choice may not be installed.
        os.environ.setdefault("KERAS_BACKEND", "torch")
        into.mkdir(parents=True, exist_ok=True)
        path = into / "example.keras"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras to its own authors
            _make_example().save(path)
        return path


def _make_example() -> Any:
    import keras
    import numpy as np

    model = keras.Sequential(
        [
            keras.Input((6,), name="x"),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.Dense(3, activation="softmax", name="probabilities"),
        ],
        name="example",
    )
    rng = np.random.default_rng(7)
    model.set_weights([rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def _has_configuration(path: Path) -> bool:
    """Whether the file has the attribute that holds a model's layers, beside its weights."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"model_config") >= 0
