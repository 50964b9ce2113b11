"""Loads a neural network, writes it as ONNX, asks it for its own answers; run by the readers.

    python -m dukou.formats.network_convert FOLDER

Reads `request.json` (and `samples.npz`) in FOLDER; writes `graph.onnx`, `used.npz` (the rows that
were asked), `answers.npz` (the framework's answers) and `result.json`. A failure that is the
model's becomes `{"error": {"code", "message", "hint"}}` there; anything else ends the process.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError
from dukou.formats.child import ANSWERS, SAMPLES, USED, save_arrays, serve_request
from dukou.formats.network_convert.export import export_graph, save_graph
from dukou.formats.network_convert.program import Program, ask, find_rows, first_sentence, step_rows
from dukou.formats.network_convert.refusal import exporter
from dukou.model.signature import TensorSpec


def main(folder: Path) -> None:
    """Serves one request, see the module."""
    serve_request(folder, lambda request: convert(folder, request))


def convert(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """What the request asks for, written into `folder`; what is told of it."""
    with warnings.catch_warnings():
        # Of exporters to their own authors, by the hundred.
        warnings.simplefilter("ignore")
        return _convert(folder, request)


def _convert(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    samples = folder / SAMPLES if request["samples"] else None
    shown = request["shown"]
    program = _load(request, samples)
    rows = find_rows(program, samples)
    answers = ask(shown, program, rows)
    save_graph(export_graph(shown, program), folder)
    save_arrays(folder / USED, rows)
    save_arrays(folder / ANSWERS, answers)
    return {
        "kind": program.kind,
        "framework": program.framework,
        "step": f"convert {exporter()}",
        "rows_a_run": step_rows(program),
    }


def _load(request: dict[str, Any], samples: Path | None) -> Program:
    from dukou.formats.network_convert.keras_program import fill_keras, load_keras, wrap_keras
    from dukou.formats.network_convert.torch_program import load_built, load_torch

    path, shown, kind = Path(request["file"]), request["shown"], request["kind"]
    inputs = tuple(TensorSpec.from_json(spec) for spec in request["inputs"])
    factory = request["factory"]
    if factory is None:
        if kind == "keras":
            return load_keras(path, shown, trust=request["trust"], inputs=inputs)
        return load_torch(path, shown, kind, inputs, samples)
    built = _build(factory)
    weights = path if kind != "code" else None
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(built, keras.Model):
        if weights is not None:
            fill_keras(built, factory, weights, shown)
        return wrap_keras(built, factory, inputs)
    return load_built(built, factory, inputs, samples, weights, shown)


def _build(factory: str) -> Any:
    """Calls the user's own function: `file.py:function` or `package.module:function`."""
    place, _, name = factory.rpartition(":")
    try:
        if place.endswith(".py"):
            file = Path(place).resolve()
            sys.path.insert(0, str(file.parent))
            spec = importlib.util.spec_from_file_location(file.stem, file)
            if spec is None or spec.loader is None:
                raise ImportError(f"`{place}` is not Python")
            module = importlib.util.module_from_spec(spec)
            sys.modules[file.stem] = module
            spec.loader.exec_module(module)
        else:
            sys.path.insert(0, str(Path.cwd()))
            module = importlib.import_module(place)
        function = getattr(module, name, None)
        if not callable(function):
            raise InputError(
                "formats.cannot-convert", f"`{place}` has no function `{name}` that builds a model"
            )
        return function()
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            "formats.cannot-convert", f"`{factory}` does not build a model: {first_sentence(error)}"
        ) from error


if __name__ == "__main__":
    main(Path(sys.argv[1]))
