"""What every reader ends with: a graph in its place is checked, read, and becomes a `Model`."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError
from dukou.formats.golden import record_golden
from dukou.formats.runtime import open_session, read_signature, run_session, shorten, translate
from dukou.model.model import Card, Lineage, Model

if TYPE_CHECKING:
    from dukou.formats.reader import Samples


def finish_model(graph: Path, *, lineage: Lineage, samples: Samples | None, card: Card) -> Model:
    """The checked model of a graph that stands where it will stay.

    Raises:
        InputError: `formats.corrupt`, `formats.unsupported-operator`, `formats.cannot-convert`.
    """
    try:
        return _finish(graph, lineage, samples, card)
    except UnicodeDecodeError as error:
        raise InputError(
            "formats.corrupt", f"`{lineage.source}` is damaged: a name in it is not UTF-8"
        ) from error


def _finish(graph: Path, lineage: Lineage, samples: Samples | None, card: Card) -> Model:
    # The graph may be a copy or a conversion: errors name what the user has.
    name = lineage.source
    warning = check_graph(graph, name)
    session = open_session(graph, name)
    signature = read_signature(name, session)
    golden, reason = record_golden(
        signature, lambda inputs: run_session(session, signature, inputs), samples
    )
    facts = dict(lineage.facts)
    if warning:
        facts["shape_inference"] = warning
    if reason:
        facts["golden"] = reason
    return Model(graph, signature, dataclasses.replace(lineage, facts=facts), golden, card)


def check_graph(graph: Path, name: str) -> str:
    """Runs ONNX's checker and shape inference; returns what only the latter complains of.

    Shape inference is stricter than the runtime (a wrong annotation changes no answer), so its
    complaint is kept as a fact; what the checker refuses is refused.
    """
    import onnx

    try:
        onnx.checker.check_model(str(graph), full_check=False)
    except UnicodeDecodeError:
        raise
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        refusal = translate(name, str(error))
        if refusal.code != "formats.unsupported-operator":
            raise refusal from error
        # The checker's own list of operators may be older than the runtime's: that one decides.
        return shorten(str(error))
    try:
        onnx.checker.check_model(str(graph), full_check=True)
    except UnicodeDecodeError:
        raise
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        ValueError,
        RuntimeError,
    ) as error:
        return shorten(re.sub(r"^\[\w+Error\]\s*", "", str(error)))
    return ""


def digest_files(*paths: Path) -> str:
    """`sha256:` of a file, or of the digests of several."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(digests) == 1:
        return f"sha256:{digests[0]}"
    return f"sha256:{hashlib.sha256(' '.join(digests).encode()).hexdigest()}"
