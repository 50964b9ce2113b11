"""The child's work in this process, where the frameworks are imported once for all tests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from tests.frameworks import require

from dukou.formats.child import ANSWERS, SAMPLES, USED, load_arrays, save_arrays
from dukou.model.signature import TensorSpec

Arrays = Mapping[str, np.ndarray[Any, Any]]


class Converted:
    """What came of one conversion."""

    def __init__(self, folder: Path, told: dict[str, Any]) -> None:
        self.told = told
        self.proto = onnx.load(str(folder / "graph.onnx"))
        self.session = onnxruntime.InferenceSession(str(folder / "graph.onnx"))
        self.used, self.answers = load_arrays(folder / USED), load_arrays(folder / ANSWERS)

    def inputs(self) -> dict[str, list[Any]]:
        return {value.name: value.shape for value in self.session.get_inputs()}

    def check(self, rows: int | None = None) -> None:
        """Its answers are the framework's, on `rows` of the rows that were asked."""
        kept = {name: array[:rows] for name, array in self.used.items()}
        names = list(self.answers)
        for name, said in zip(names, self.session.run(names, kept), strict=True):
            np.testing.assert_allclose(said, self.answers[name][:rows], rtol=1e-4, atol=1e-5)


def convert(
    path: Path,
    kind: str,
    folder: Path,
    *,
    factory: str | None = None,
    inputs: Sequence[TensorSpec] = (),
    samples: Arrays | None = None,
    trust: bool = False,
) -> Converted:
    require("torch", "onnxscript")
    # Read at Keras's first import, in this whole process.
    os.environ.setdefault("KERAS_BACKEND", "torch")
    from dukou.formats.network_convert.__main__ import convert as serve

    folder.mkdir()
    if samples is not None:
        save_arrays(folder / SAMPLES, samples)
    request = {
        "file": str(path),
        "shown": path.name,
        "kind": kind,
        "trust": trust,
        "factory": factory,
        "inputs": [spec.to_json() for spec in inputs],
        "samples": samples is not None,
    }
    return Converted(folder, serve(folder, request))
