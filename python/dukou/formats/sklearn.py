"""scikit-learn's pickles come in: unpickled and converted in a child process, then proved equal here.

This process never unpickles: a pickle runs code. It reads the child's graph and arrays, runs the
graph itself and compares.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.formats.child import ANSWERS, USED, convert_in_child, load_arrays
from dukou.formats.finish import digest_files, finish_model
from dukou.formats.parity import Parity, check_parity
from dukou.formats.pickles import open_pickle_head
from dukou.formats.runtime import open_session, read_signature, run_session
from dukou.model.model import Card, Lineage, Model

if TYPE_CHECKING:
    import numpy as np

    from dukou.formats.reader import Samples

    Array = np.ndarray[Any, Any]

_CHILD = "dukou.formats.sklearn_convert"


class SklearnReader:
    """Reads pickled scikit-learn estimators and pipelines."""

    name = "sklearn"
    kind = "scikit-learn estimators and pipelines (pickle or joblib, compressed or not)"
    needs = ("sklearn", "joblib", "skl2onnx")

    def reads(self, head: bytes, path: Path) -> bool:
        """Whether it is a pickle that names scikit-learn's classes; nothing is loaded."""
        if not head or not path.is_file():
            return False
        content = open_pickle_head(path, head)
        return content is not None and b"sklearn." in content

    def load_model(self, path: Path, *, into: Path, samples: Samples | None, trust: bool) -> Model:
        """Converts by skl2onnx in a child, compares the answers, records golden samples."""
        if not trust:
            raise InputError(
                "formats.untrusted-pickle",
                f"`{path}` is a pickle: loading it runs the code that it carries, and nobody has "
                "vouched for it",
            )
        for package in self.needs:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    "formats.missing-extra",
                    f"`{path}` is a scikit-learn model, `{package}` is not installed",
                    hint="pip install 'dukou[sklearn]'",
                )
        with tempfile.TemporaryDirectory(prefix="dukou-sklearn-") as folder:
            work = Path(folder)
            told = convert_in_child(_CHILD, path, work, samples)
            graph = into / "graph.onnx"
            graph.write_bytes((work / "graph.onnx").read_bytes())
            used, answers = load_arrays(work / USED), load_arrays(work / ANSWERS)
        parity = _compare(path, graph, told, used, answers)
        steps = [f"convert skl2onnx {told['skl2onnx']}"]
        facts: dict[str, Any] = {"estimator": told["estimator"], "parity": parity.to_json()}
        if told["warnings"]:
            facts["warnings"] = told["warnings"]
        if samples is None:
            facts["samples"] = "made up, seeded: give rows of your data for a proof that counts"
        return finish_model(
            graph,
            lineage=Lineage(
                str(path),
                f"scikit-learn {told['sklearn']}",
                digest_files(path),
                steps=tuple(steps),
                facts=facts,
            ),
            samples=used,
            card=Card(title=path.stem, task=told["task"], labels=tuple(told["labels"])),
        )

    def write_example(self, into: Path) -> Path:
        """Logistic regression on iris, seeded, as `joblib` writes it."""
        import joblib
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression

        into.mkdir(parents=True, exist_ok=True)
        x, y = load_iris(return_X_y=True)
        path = into / "example.joblib"
        joblib.dump(LogisticRegression(max_iter=500, random_state=7).fit(x, y), path)
        return path


def _compare(
    path: Path,
    graph: Path,
    told: dict[str, Any],
    used: dict[str, Array],
    answers: dict[str, Array],
) -> Parity:
    from dukou.model.rows import fit_rows

    session = open_session(graph, str(path))
    signature = read_signature(str(path), session)
    ours = run_session(session, signature, fit_rows(signature, used))
    theirs = answers.get("label")
    numbers = answers.get("numbers")
    return check_parity(
        path.name,
        labels=(ours["label"], theirs) if theirs is not None else None,
        numbers=(ours[told["numbers"]], numbers) if numbers is not None else None,
        by_trees=bool(told["by_trees"]),
    )
