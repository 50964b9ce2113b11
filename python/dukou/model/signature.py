"""What a model takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import BugError

if TYPE_CHECKING:
    import numpy as np

# The protocol's name → NumPy's. `crates/dukou-types/src/dtype.rs` holds the same list.
NUMPY_NAMES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "BF16": "bfloat16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
PROTOCOL_NAMES = {numpy: name for name, numpy in NUMPY_NAMES.items()}

# A fixed extent, a symbol (the same wherever it stands in one request), or any number.
Dim = int | str | None


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named input or output.

    Attributes:
        name: as in the graph.
        dtype: the Open Inference Protocol's name (`FP32`, `INT64`, `BYTES` …).
        shape: extents; a symbol or None where any number is allowed.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    def __post_init__(self) -> None:
        if self.dtype not in NUMPY_NAMES:
            raise BugError("bug.internal", f"`{self.dtype}` is not a dtype of the protocol")

    def to_numpy(self) -> np.dtype[Any]:
        """The NumPy dtype; `object` for BYTES, `ml_dtypes`' for BF16."""
        import numpy as np

        if self.dtype == "BF16":
            import ml_dtypes

            wide: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
            return wide
        return np.dtype(NUMPY_NAMES[self.dtype])

    def to_json(self) -> dict[str, Any]:
        """As in a manifest's config and in the engine's tables."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> TensorSpec:
        """The inverse of `to_json`."""
        return cls(document["name"], document["dtype"], tuple(document["shape"]))


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs, in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def has_free_rows(self) -> bool:
        """Whether the first dimension of every input and output is free: what batching needs."""
        specs = (*self.inputs, *self.outputs)
        return bool(self.inputs) and all(s.shape and not isinstance(s.shape[0], int) for s in specs)

    def to_json(self) -> dict[str, Any]:
        """As in a manifest's config."""
        return {
            "inputs": [s.to_json() for s in self.inputs],
            "outputs": [s.to_json() for s in self.outputs],
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Signature:
        """The inverse of `to_json`."""
        return cls(
            tuple(TensorSpec.from_json(s) for s in document["inputs"]),
            tuple(TensorSpec.from_json(s) for s in document["outputs"]),
        )
