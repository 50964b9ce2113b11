"""A model on its way through the line: a graph in memory, what it takes and gives, where it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dukou.model.golden import GoldenSamples
from dukou.model.signature import Signature


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a model came from.

    Attributes:
        source: the file it was read from, as the user wrote it.
        framework: `onnx`, `sklearn` … and its version, as `scikit-learn 1.9.1`.
        source_digest: `sha256:` of that file.
        parent: the digest of the version that this was made from, where there is one.
        steps: what was done since, in order: `convert skl2onnx 1.20`, `quantize int8 dynamic` …
        facts: anything else worth keeping (data digest, seed, commit), JSON-able.
    """

    source: str
    framework: str
    source_digest: str
    parent: str | None = None
    steps: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Card:
    """What a person should know of a model; printed in the report and kept in the artifact."""

    title: str = ""
    task: str = ""
    description: str = ""
    license: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """An ONNX graph with its signature and golden samples.

    Attributes:
        graph: path of an ONNX file; external data, if any, lies in the same folder.
        signature: inputs and outputs in the graph's order.
        golden: requests with expected answers; none for a model that was only looked at.
        lineage: where it came from.
        card: what a person should know.
        variant: the name of this form: `original`, `int8` …
    """

    graph: Path
    signature: Signature
    lineage: Lineage
    golden: GoldenSamples | None = None
    card: Card = Card()
    variant: str = "original"

    def size_bytes(self) -> int:
        """Bytes of the graph file and of the files of weights beside it that it names."""
        import onnx
        from onnx.external_data_helper import uses_external_data

        proto = onnx.load(str(self.graph), load_external_data=False)
        names: set[str] = {
            entry.value
            for tensor in proto.graph.initializer
            if uses_external_data(tensor)
            for entry in tensor.external_data
            if entry.key == "location"
        }
        return self.graph.stat().st_size + sum(
            (self.graph.parent / name).stat().st_size for name in names
        )

    def replace(self, **changes: Any) -> Model:
        """The same model with some fields changed."""
        return dataclasses.replace(self, **changes)
