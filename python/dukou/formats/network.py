"""What the readers of neural networks share: converted in a child process, proved equal here.

This process loads no framework: it reads the child's graph and arrays, runs the graph itself and
compares.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.formats.child import ANSWERS, USED, convert_in_child, load_arrays
from dukou.formats.finish import digest_files, finish_model
from dukou.formats.parity import Parity, check_parity
from dukou.formats.reader import ReadOptions
from dukou.formats.runtime import open_session, read_signature, run_session, runtime_errors, shorten
from dukou.model.model import Card, Lineage, Model

if TYPE_CHECKING:
    import numpy as np

    from dukou.formats.reader import Samples

    Array = np.ndarray[Any, Any]

_CHILD = "dukou.formats.network_convert"


def check_installed(path: Path, what: str, needs: Sequence[str], extra: str) -> None:
    """Says which package is missing, and the extra that brings it.

    Raises:
        InputError: `formats.missing-extra`.
    """
    for package in needs:
        if importlib.util.find_spec(package) is None:
            raise InputError(
                "formats.missing-extra",
                f"`{path}` is {what}, `{package}` is not installed",
                hint=f"pip install 'dukou[{extra}]'",
            )


def open_network(
    path: Path,
    *,
    kind: str,
    suffix: str,
    into: Path,
    samples: Samples | None,
    trust: bool,
    options: ReadOptions,
) -> Model:
    """The model of a network's file, or of the code that builds one.

    Args:
        path: the file, or the Python file of a factory.
        kind: what the child is to load: `script`, `export`, `checkpoint`, `keras` or `code`.
        suffix: that the framework goes by; the file's own may be any.
        into: where the graph will stay.
        samples: the user's rows.
        trust: whether the user vouches for code in the file.
        options: what the user says beside.

    Raises:
        InputError: one of the `formats.*` codes, or `data.mismatch`.
    """
    with tempfile.TemporaryDirectory(prefix="dukou-network-") as folder:
        work = Path(folder)
        file = work / f"model{suffix}"
        file.symlink_to(path.resolve())
        told = convert_in_child(
            _CHILD,
            path,
            work,
            samples,
            request={
                "file": str(file),
                "shown": str(path),
                "kind": kind,
                "trust": trust,
                "factory": options.factory,
                "inputs": [spec.to_json() for spec in options.inputs],
            },
            # Keras takes the backend that stands here; a file of Keras's runs on any.
            environment={"KERAS_BACKEND": "torch"},
        )
        graph = into / "graph.onnx"
        for made in work.glob("graph.*"):
            (into / made.name).write_bytes(made.read_bytes())
        used, answers = load_arrays(work / USED), load_arrays(work / ANSWERS)
    parity = _compare(path, graph, int(told["rows_a_run"]), used, answers)
    facts: dict[str, Any] = {"kind": told["kind"], "parity": parity.to_json()}
    if options.factory is not None:
        facts["factory"] = options.factory.rpartition("/")[2]
    if samples is None:
        facts["samples"] = "made up, seeded: give rows of your data for a proof that counts"
    return finish_model(
        graph,
        lineage=Lineage(
            str(path), told["framework"], digest_files(path), steps=(told["step"],), facts=facts
        ),
        samples=used,
        card=Card(title=path.stem),
    )


def _compare(
    path: Path, graph: Path, step: int, used: Mapping[str, Array], answers: Mapping[str, Array]
) -> Parity:
    """Every output against the framework's; the largest difference counts."""
    import numpy as np

    session = open_session(graph, str(path))
    signature = read_signature(str(path), session)
    total = max((len(array) for array in used.values()), default=1)
    parts = []
    for start in range(0, total, step):
        rows = {name: array[start : start + step] for name, array in used.items()}
        try:
            parts.append(run_session(session, signature, rows))
        except runtime_errors() as error:
            raise InputError(
                "formats.parity",
                f"`{path.name}` converted refuses rows that the framework takes: "
                f"{shorten(str(error))}",
            ) from error
    found = []
    for name, theirs in answers.items():
        if name not in parts[0]:
            raise InputError(
                "formats.parity",
                f"`{path.name}` converted gives {', '.join(f'`{n}`' for n in parts[0])}, the "
                f"framework gives `{name}` too",
            )
        ours = np.concatenate([np.atleast_1d(part[name]) for part in parts])
        whole = theirs.dtype.kind in "iub"
        found.append(
            check_parity(
                path.name,
                labels=(ours, theirs) if whole else None,
                numbers=None if whole else (ours, theirs),
                by_trees=False,
            )
        )
    return max(found, key=lambda parity: parity.largest / parity.scale)
