"""Convert: the trained model becomes an ONNX graph, proved equal on the held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dukou.lifecycle.keep import load_model, save_model
from dukou.lifecycle.runner import digest_of
from dukou.lifecycle.stage import Line
from dukou.lifecycle.stages.data import TEST
from dukou.lifecycle.tags import (
    check_answers,
    make_golden_private,
    policy_of,
    record_golden_of,
    secret_of,
    travel_marks,
)
from dukou.model.model import Card, Lineage, Model


class ConvertStage:
    """Leaves a kept model (`dukou.lifecycle.keep`) in `model/`."""

    name = "convert"
    needs = ("data", "train")
    revision = 2
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """The card, which travels with the model, and what its golden samples are made of."""
        depends: dict[str, Any] = {"model": line.project.model.model_dump()}
        golden = line.project.data.golden
        marks = {
            "privacy": travel_marks(line),
            "golden": golden and digest_of([line.project.path(golden)]),
        }
        return depends | {name: mark for name, mark in marks.items() if mark is not None}

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:
        """Raises InputError `formats.*`."""
        source = line.folder("train") / line.facts("train")["model"]
        model = convert_trained(line, source, rows=line.folder("data") / TEST, into=into / "model")
        wanted = line.project.model
        card = Card(
            title=wanted.title or wanted.name,
            task=wanted.task,
            description=wanted.description,
            license=wanted.license,
            labels=model.card.labels,
        )
        lineage = model.lineage
        facts = {**lineage.facts, "data": line.facts("data")["digest"]}
        facts["seed"] = line.facts("train")["seed"]
        # The path of a cache says nothing to anyone: the file's own name does.
        lineage = Lineage(**{**asdict(lineage), "source": source.name, "facts": facts})
        model = model.replace(card=card, lineage=lineage)
        policy, golden = policy_of(line), line.project.data.golden
        check_answers(policy, model)
        if golden is not None:
            model = record_golden_of(model, line.project.path(golden), line.project.data.target)
        model = make_golden_private(model, policy, secret_of(line, policy))
        save_model(model, into / "model")
        parity = lineage.facts.get("parity")
        return {
            "framework": lineage.framework,
            "size_bytes": model.size_bytes(),
            "signature": model.signature.to_json(),
            "golden": len(model.golden.samples) if model.golden else 0,
            "parity": _say_parity(parity),
        }

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        return f"{facts['framework']} to ONNX, {facts['size_bytes']:,} bytes. {facts['parity']}"


def convert_trained(line: Line, source: Path, *, rows: Path, into: Path) -> Model:
    """What the project's own command has just left, as a `Model` with proof on `rows`.

    The project vouches for its own pickle by naming the command that made it.
    """
    from dukou.evaluate.data import load_table
    from dukou.formats.open import open_model

    samples = load_table(rows).split_target(line.project.data.target).features
    return open_model(source, into=into, samples=samples, trust_pickle=True)


def load_converted(line: Line) -> Model:
    """The model that the convert stage kept."""
    return load_model(line.folder("convert") / "model")


def _say_parity(parity: Mapping[str, Any] | None) -> str:
    if parity is None:
        return "It was a graph already."
    return (
        f"Answers equal the framework's on {parity['rows']:,} rows: largest difference "
        f"{parity['largest_difference']:.1e}." + (f" {parity['note']}" if parity["note"] else "")
    )
