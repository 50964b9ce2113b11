"""Golden samples: inputs with the answers that a version must reproduce wherever it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.model.signature import PROTOCOL_NAMES, Signature

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an answer may be from the expected one: `|a - b| <= absolute + relative * |b|`."""

    absolute: float = 1e-4
    relative: float = 1e-3


@dataclass(frozen=True, slots=True)
class GoldenSamples:
    """A few requests with the answers of the very variant that they are packaged with.

    Attributes:
        samples: (inputs by name, outputs by name); arrays as the signature says, object for BYTES.
        tolerance: for floating outputs; integers, booleans and strings must be equal.
        classes: the output whose argmax along the last axis must agree, where there is one.
    """

    samples: tuple[tuple[Arrays, Arrays], ...]
    tolerance: Tolerance = Tolerance()
    classes: str | None = None

    def to_json(self, signature: Signature) -> bytes:
        """The blob that the engine reads: V2 requests with V2 answers (`spec/artifact.md`)."""
        document = {
            "format": 1,
            "tolerance": {
                "absolute": self.tolerance.absolute,
                "relative": self.tolerance.relative,
            },
            "classes": self.classes,
            "samples": [
                {
                    "inputs": [_tensor(s.name, inputs[s.name]) for s in signature.inputs],
                    "outputs": [_tensor(s.name, outputs[s.name]) for s in signature.outputs],
                }
                for inputs, outputs in self.samples
            ],
        }
        return json.dumps(document, separators=(",", ":"), allow_nan=True).encode()

    @classmethod
    def from_json(cls, blob: bytes) -> GoldenSamples:
        """The inverse of `to_json`."""
        document = json.loads(blob)
        return cls(
            tuple(
                (
                    {t["name"]: _array(t) for t in sample["inputs"]},
                    {t["name"]: _array(t) for t in sample["outputs"]},
                )
                for sample in document["samples"]
            ),
            Tolerance(**document["tolerance"]),
            document["classes"],
        )


def _tensor(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    flat = array.reshape(-1)
    if array.dtype == object or array.dtype.kind in "US":
        data: list[Any] = [x.decode() if isinstance(x, bytes) else str(x) for x in flat]
        dtype = "BYTES"
    else:
        dtype = PROTOCOL_NAMES[array.dtype.name]
        data = (flat.astype("float32") if dtype in ("FP16", "BF16") else flat).tolist()
    return {"name": name, "datatype": dtype, "shape": list(array.shape), "data": data}


def _array(tensor: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    from dukou.model.signature import TensorSpec

    dtype = TensorSpec(tensor["name"], tensor["datatype"], ()).to_numpy()
    return np.asarray(tensor["data"], dtype=dtype).reshape(tensor["shape"])
