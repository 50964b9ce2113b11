"""Unpickles a scikit-learn model, converts it, asks it for its own answers; run by the reader.

    python -m dukou.formats.sklearn_convert FOLDER

Reads `request.json` (and `samples.npz`) in FOLDER; writes `graph.onnx`, `used.npz` (the rows that
were asked), `answers.npz` (the framework's answers) and `result.json`. A failure that is the
model's becomes `{"error": {"code", "message"}}` there; anything else ends the process.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.formats.child import ANSWERS, SAMPLES, USED, ConversionError, save_arrays, serve_request
from dukou.formats.sklearn_convert.graph import convert_graph
from dukou.formats.sklearn_convert.table import Table, read_table

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def main(folder: Path) -> None:
    """Serves one request, see the module."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")

        def serve(request: dict[str, Any]) -> dict[str, Any]:
            samples = folder / SAMPLES if request["samples"] else None
            told = _serve(folder, Path(request["path"]), samples)
            return {**told, "warnings": _version_warnings(heard)}

        serve_request(folder, serve)


def _serve(folder: Path, path: Path, samples: Path | None) -> dict[str, Any]:
    model = _unpickle(path)
    import skl2onnx
    import sklearn

    table = read_table(path, model, samples)
    classifier = hasattr(model, "classes_")
    answers = _ask(path, model, table, classifier)
    graph, outputs = convert_graph(path, model, table, classifier)
    (folder / "graph.onnx").write_bytes(graph)
    save_arrays(folder / USED, table.used())
    save_arrays(folder / ANSWERS, answers)
    return {
        "estimator": _describe(model),
        "sklearn": sklearn.__version__,
        "skl2onnx": skl2onnx.__version__,
        "task": "classification" if classifier else "regression",
        "labels": _whole(model.classes_).astype(str).tolist() if classifier else [],
        # The output that holds what `answers["numbers"]` holds.
        "numbers": outputs[1 if classifier and len(outputs) > 1 else 0],
        "by_trees": any(_is_tree(part) for part in _iter_parts(model)),
    }


def _unpickle(path: Path) -> Any:
    import joblib

    try:
        model = joblib.load(path)
    except ModuleNotFoundError as error:
        raise ConversionError(
            "formats.missing-extra",
            f"`{path}` needs the module `{error.name}` to load, which is not importable here",
        ) from error
    except (AttributeError, ImportError) as error:
        raise ConversionError(
            "formats.cannot-convert",
            f"`{path}` refers to code that is not here: {error}; classes of your own must stand in "
            "a module that can be imported",
        ) from error
    except Exception as error:
        raise ConversionError(
            "formats.corrupt",
            f"`{path}` begins like a pickle, but does not load: {type(error).__name__} {error}"[
                :400
            ],
        ) from error
    # A search is wrapped around what it found.
    model = getattr(model, "best_estimator_", model)
    if not hasattr(model, "predict") or isinstance(model, type):
        raise ConversionError(
            "formats.not-a-model",
            f"`{path}` holds a `{type(model).__name__}`, an estimator with `predict` is expected",
        )
    _check_fitted(path, model)
    return model


def _check_fitted(path: Path, model: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError as error:
        raise ConversionError(
            "formats.cannot-convert",
            f"`{path}` holds a `{type(model).__name__}` that is not fitted",
        ) from error
    except TypeError:
        return  # not scikit-learn's own: the conversion will say
    if isinstance(getattr(model, "classes_", None), list):
        raise ConversionError(
            "formats.cannot-convert",
            f"`{path}` predicts {len(model.classes_)} targets at once, one is expected",
        )


def _ask(path: Path, model: Any, table: Table, classifier: bool) -> dict[str, Array]:
    """The framework's own answers: `label` and `numbers` as there are."""
    import numpy as np

    rows = table.for_framework()
    try:
        predicted = np.asarray(model.predict(rows))
        if not classifier:
            return {"numbers": predicted}
        answers = {"label": _whole(predicted)}
        for ask in ("predict_proba", "decision_function"):
            if hasattr(model, ask):
                answers["numbers"] = np.asarray(getattr(model, ask)(rows))
                break
    except Exception as error:
        raise ConversionError(
            "data.mismatch",
            f"`{path}` itself refuses the samples: {type(error).__name__}: {str(error)[:300]}",
        ) from error
    return answers


def _whole(labels: Array) -> Array:
    """Truth values and floats that are whole numbers as the integers that the graph gives."""
    import numpy as np

    labels = np.asarray(labels)
    if labels.dtype.kind == "b" or (labels.dtype.kind == "f" and (labels % 1 == 0).all()):
        return labels.astype(np.int64)
    return labels


def _version_warnings(heard: list[warnings.WarningMessage]) -> list[str]:
    """What a reader of the lineage should know: the model was pickled by another version."""
    return sorted(
        {
            " ".join(str(w.message).split())[:200]
            for w in heard
            if w.category.__name__ == "InconsistentVersionWarning"
        }
    )


def _describe(model: Any) -> str:
    steps = getattr(model, "steps", None)
    if steps:
        return " + ".join(type(step).__name__ for _, step in steps)
    return type(model).__name__


def _iter_parts(model: Any, depth: int = 0) -> Iterator[Any]:
    yield model
    if depth > 8:
        return
    for _, step in getattr(model, "steps", None) or ():
        yield from _iter_parts(step, depth + 1)
    for part in (
        *(getattr(model, "estimators_", None) or () if _is_list(model, "estimators_") else ()),
        getattr(model, "estimator_", None),
    ):
        if part is not None and hasattr(part, "predict"):
            yield from _iter_parts(part, depth + 1)


def _is_list(model: Any, name: str) -> bool:
    return isinstance(getattr(model, name, None), list)


def _is_tree(part: Any) -> bool:
    name = type(part).__name__
    return hasattr(part, "tree_") or any(w in name for w in ("Tree", "Forest", "Boosting"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
