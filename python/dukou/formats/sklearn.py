"""scikit-learn's pickles come in: unpickled and converted in a child process, then proved equal here.

This process never unpickles: a pickle runs code. It reads the child's graph and arrays, runs the
graph itself and compares.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
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
_NEEDED = ("sklearn", "joblib", "skl2onnx")


class SklearnReader:
    """Reads pickled scikit-learn estimators and pipelines."""

    name = "sklearn"
    kind = "scikit-learn estimators and pipelines (pickle or joblib, compressed or not)"

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
        for package in _NEEDED:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    "formats.missing-extra",
                    f"`{path}` is a scikit-learn model, `{package}` is not installed",
                    hint="pip install 'dukou[sklearn]'",
                )
        with tempfile.TemporaryDirectory(prefix="dukou-sklearn-") as folder:
            work = Path(folder)
            told = _convert(path, work, samples)
            graph = into / "graph.onnx"
            graph.write_bytes((work / "graph.onnx").read_bytes())
            used, answers = _load_arrays(work / "used.npz"), _load_arrays(work / "answers.npz")
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


def _convert(path: Path, work: Path, samples: Samples | None) -> dict[str, Any]:
    """Runs the child; what it wrote in `result.json`."""
    if samples is not None:
        _save_samples(work / "samples.npz", samples)
    request = work / "request.json"
    request.write_text(
        json.dumps({"path": str(path.resolve()), "samples": samples is not None}), "utf-8"
    )
    import dukou

    home = str(Path(dukou.__file__).resolve().parents[1])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", _CHILD, str(work)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "default"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    result = work / "result.json"
    if done.returncode != 0 or not result.is_file():
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise InputError(
            "formats.corrupt",
            f"`{path}` cannot be unpickled: the process that loaded it ended with status "
            f"{done.returncode} ({' '.join(last)[:200] or 'no words'})",
        )
    told: dict[str, Any] = json.loads(result.read_text("utf-8"))
    if "error" in told:
        raise InputError(told["error"]["code"], told["error"]["message"])
    return told


def _save_samples(file: Path, samples: Samples) -> None:
    import numpy as np

    if isinstance(samples, np.ndarray):
        samples = {"x": samples}
    # Text travels as fixed-width unicode: an object array would be a pickle. Names may hold
    # anything, so that the arrays go by number.
    arrays = {}
    for number, column in enumerate(samples.values()):
        array = np.asarray(column)
        arrays[f"column{number}"] = array.astype(str) if array.dtype == object else array
    names = np.array([str(name) for name in samples])
    np.savez(file, names=names, **arrays)  # type: ignore[arg-type]


def _load_arrays(file: Path) -> dict[str, Array]:
    import numpy as np

    with np.load(file, allow_pickle=False) as archive:
        names = [str(name) for name in archive["names"]]
        return {name: archive[f"column{i}"] for i, name in enumerate(names)}


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
