"""ONNX goes onwards to OpenVINO's IR, asked for its answers by OpenVINO itself.

By the reader of OpenVINO's own runtime, not by its converter tool: the same frontend, and nothing is
reported to anybody.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dukou.base.errors import InputError
from dukou.formats.parity import Parity, check_parity
from dukou.formats.runtime import open_session, run_session
from dukou.formats.writer import Written
from dukou.model.model import Model

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class OpenVinoWriter:
    """Writes OpenVINO's intermediate representation, weights in FP32 as they are."""

    name: ClassVar[str] = "openvino"
    kind: ClassVar[str] = "OpenVINO IR (.xml, .bin)"
    needs: ClassVar[tuple[str, ...]] = ("openvino",)
    extra: ClassVar[str] = "openvino-ir"

    def write_model(self, model: Model, into: Path, stem: str) -> Written:
        """`STEM.xml` and `STEM.bin`, compared on the golden samples."""
        import openvino

        core = openvino.Core()
        try:
            network = core.read_model(str(model.graph))
        except RuntimeError as error:
            raise _refuse(model, error) from error
        for port, spec in zip(network.inputs, model.signature.inputs, strict=True):
            port.get_tensor().set_names({spec.name})
        for port, spec in zip(network.outputs, model.signature.outputs, strict=True):
            port.get_tensor().set_names({*port.get_names(), spec.name})
        file = into / f"{stem}.xml"
        openvino.save_model(network, str(file), compress_to_fp16=False)
        try:
            # One thread and full precision: what is compared is the model, not the machine.
            settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
            compiled = core.compile_model(str(file), "CPU", settings)
            parity = _compare(model, compiled)
        except RuntimeError as error:
            raise _refuse(model, error) from error
        version = openvino.__version__.partition("-")[0]
        return Written(file, f"openvino {version}", parity)


def _compare(model: Model, compiled: Any) -> Parity:
    session = open_session(model.graph, str(model.graph))
    found = []
    for inputs, _ in model.golden.samples if model.golden else ():
        expected = run_session(session, model.signature, inputs)
        said = compiled({spec.name: inputs[spec.name] for spec in model.signature.inputs})
        for index, spec in enumerate(model.signature.outputs):
            ours, theirs = said[index], expected[spec.name]
            whole = theirs.dtype.kind in "iubOU"
            found.append(
                check_parity(
                    model.graph.name,
                    labels=(ours, theirs) if whole else None,
                    numbers=None if whole else (ours, theirs),
                    by_trees=False,
                )
            )
    if not found:
        return Parity(0, 0, 0.0, 1.0, "no golden samples: nothing was compared")
    worst = max(found, key=lambda parity: parity.largest / parity.scale)
    rows = sum(parity.rows for parity in found) // len(model.signature.outputs)
    return Parity(rows, worst.labels_differ, worst.largest, worst.scale, worst.note)


def _refuse(model: Model, error: RuntimeError) -> InputError:
    words = str(error)
    operators = re.search(
        r"(?:No conversion rule found for operations?|not supported operations?|"
        r"doesn't support[^:]*|OpenVINO does not support[^:]*): ?([\w.,: ]+)",
        words,
    )
    if operators:
        said = f"OpenVINO has no `{operators[1].strip().rstrip('.')}`"
    else:
        lines = [line.strip() for line in words.splitlines() if line.strip()]
        # The first lines say where in OpenVINO's sources; the last is the sentence.
        said = f"OpenVINO does not take it: {(lines or ['no words'])[-1][:240]}"
    return InputError("formats.cannot-convert", f"`{Path(model.lineage.source).name}`: {said}")
