"""A Model kept in a folder between two stages: the graph with its weights, and `model.json`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from dukou.model.golden import GoldenSamples
from dukou.model.model import Card, Lineage, Model
from dukou.model.signature import Signature

DOCUMENT = "model.json"


def save_model(model: Model, folder: Path) -> None:
    """Writes `model` into `folder`, with every file beside its graph that belongs to it."""
    folder.mkdir(parents=True, exist_ok=True)
    if model.graph.parent.resolve() != folder.resolve():
        import onnx

        proto = onnx.load(str(model.graph))
        onnx.save(proto, str(folder / "graph.onnx"))
        graph = "graph.onnx"
    else:
        graph = model.graph.name
    document = {
        "graph": graph,
        "signature": model.signature.to_json(),
        "lineage": asdict(model.lineage),
        "card": asdict(model.card),
        "variant": model.variant,
    }
    (folder / DOCUMENT).write_text(json.dumps(document, indent=1), encoding="utf-8")
    golden = folder / "golden.json"
    if model.golden is not None:
        golden.write_bytes(model.golden.to_json(model.signature))
    else:
        golden.unlink(missing_ok=True)


def load_model(folder: Path) -> Model:
    """The inverse of `save_model`."""
    document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    lineage, card, golden = document["lineage"], document["card"], folder / "golden.json"
    lineage["steps"] = tuple(lineage["steps"])
    card["labels"] = tuple(card["labels"])
    return Model(
        graph=folder / document["graph"],
        signature=Signature.from_json(document["signature"]),
        lineage=Lineage(**lineage),
        golden=GoldenSamples.from_json(golden.read_bytes()) if golden.is_file() else None,
        card=Card(**card),
        variant=document["variant"],
    )
