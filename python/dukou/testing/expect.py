"""How the suites complain, and what they compare."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from dukou.model.golden import GoldenSamples
    from dukou.model.model import Model

    Array = np.ndarray[Any, Any]


def expect(holds: bool, sentence: str) -> None:
    """Raises AssertionError with the sentence of the contract that does not hold."""
    if not holds:
        raise AssertionError(sentence)


def digest_folder(folder: Path) -> dict[str, str]:
    """Every file below a folder with its digest: to see what was touched."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def expect_golden(model: Model) -> None:
    """The graph itself, run afresh, reproduces its golden samples, also after a trip through JSON."""
    import onnxruntime

    from dukou.model.golden import GoldenSamples

    golden = model.golden
    expect(golden is not None and len(golden.samples) > 0, "the model has no golden samples")
    assert golden is not None  # noqa: S101 - for the type checker; expected above
    session = onnxruntime.InferenceSession(str(model.graph), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in model.signature.outputs]
    for kept in (golden, GoldenSamples.from_json(golden.to_json(model.signature))):
        for inputs, outputs in kept.samples:
            got = dict(zip(names, session.run(names, dict(inputs)), strict=True))
            for name in names:
                _expect_agreement(kept, name, got[name], outputs[name])


def _expect_agreement(golden: GoldenSamples, name: str, got: Array, expected: Array) -> None:
    import numpy as np

    expect(
        got.shape == expected.shape,
        f"golden output `{name}` is {list(expected.shape)}, the graph gives {list(got.shape)}",
    )
    if got.dtype.kind == "f":
        near = np.allclose(
            got, expected, golden.tolerance.relative, golden.tolerance.absolute, equal_nan=True
        )
    else:
        near = bool((got == expected).all())
    expect(near, f"golden output `{name}` is not what the graph gives")
    if name == golden.classes:
        expect(
            bool((got.argmax(-1) == expected.argmax(-1)).all()),
            f"golden output `{name}` names other classes than the graph",
        )


def expect_signature(model: Model) -> None:
    """The signature is that of a session of the graph, in its order."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model.graph), providers=["CPUExecutionProvider"])
    for specs, values in (
        (model.signature.inputs, session.get_inputs()),
        (model.signature.outputs, session.get_outputs()),
    ):
        said = [(s.name, len(s.shape), [d for d in s.shape if isinstance(d, int)]) for s in specs]
        is_ = [(v.name, len(v.shape), [d for d in v.shape if isinstance(d, int)]) for v in values]
        expect(said == is_, f"the signature says {said}, the graph {is_}")
