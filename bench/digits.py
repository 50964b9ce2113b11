"""The bench's model: handwritten digits, 64 floats in, 10 probabilities out.

Trained once from the data that scikit-learn carries, and kept under `build/bench`. Two versions, of
two seeds: the second is what the swap case puts in.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.workplace import BUILD

NAME = "digits"
ROWS = 16
TOLERANCE = 1e-4
_HIDDEN = 32
_SEEDS = {"1": 20261123, "2": 20261124}


@dataclass(frozen=True)
class Digits:
    """The model's files, and requests with the answers that ONNX Runtime gives.

    Attributes:
        files: version → ONNX file.
        bodies: V2 JSON requests of one row each.
        answers: version → what each answer must contain, in the order of `bodies`.
        body_files: the same requests as files, for the load generator.
        answer_files: version → the same answers as files.
    """

    files: dict[str, Path]
    bodies: list[bytes]
    answers: dict[str, list[dict[str, Any]]]
    body_files: list[Path]
    answer_files: dict[str, list[Path]]


def load_digits() -> Digits:
    """The model and its requests, trained where they are not there yet."""
    folder = BUILD / NAME / _key()
    files = {version: folder / f"{version}.onnx" for version in _SEEDS}
    rows, _ = _split()
    for version, file in files.items():
        if not file.is_file():
            _train(file, _SEEDS[version])
    asked = rows[:ROWS]
    bodies = [_body(row) for row in asked]
    answers = {version: _answers(file, asked) for version, file in files.items()}
    body_files = [_kept(folder / f"body-{at}.json", body) for at, body in enumerate(bodies)]
    answer_files = {
        version: [
            _kept(folder / f"answer-{version}-{at}.json", json.dumps(answer).encode())
            for at, answer in enumerate(expected)
        ]
        for version, expected in answers.items()
    }
    return Digits(files, bodies, answers, body_files, answer_files)


def full_answer(answer: dict[str, Any]) -> bytes:
    """The answer as a V2 server writes it: what the echo gives back."""
    whole = {"model_name": NAME, "model_version": "1", **answer}
    return json.dumps(whole, separators=(",", ":")).encode()


def _key() -> str:
    # A new trainer is a new model; anything else keeps the one that is there.
    parts = [importlib.metadata.version(name) for name in ("scikit-learn", "skl2onnx", "onnx")]
    source = Path(__file__).read_bytes()
    return hashlib.sha256(" ".join(parts).encode() + source).hexdigest()[:16]


def _split() -> tuple[Any, Any]:
    """Held-out rows (n × 64 float32 in 0 to 1) and what is trained on."""
    from sklearn.datasets import load_digits as load_data

    data = load_data()
    order = np.random.default_rng(7).permutation(len(data.target))
    scaled = (data.data / 16.0).astype(np.float32)
    held_out, kept = order[:360], order[360:]
    return scaled[held_out], (scaled[kept], data.target[kept])


def _train(file: Path, seed: int) -> None:
    from skl2onnx import to_onnx
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
    from sklearn.neural_network import MLPClassifier

    _, (inputs, labels) = _split()
    # Enough rounds to converge on this data; a warning that it did not would be a warning about us.
    classifier = MLPClassifier((_HIDDEN,), max_iter=600, random_state=seed).fit(inputs, labels)
    graph = to_onnx(classifier, inputs[:1], options={"zipmap": False})
    probabilities = select_model_inputs_outputs(graph, "probabilities")
    # The cut leaves constants of the other output behind; ONNX Runtime would warn of each.
    used = {name for node in probabilities.graph.node for name in node.input}
    kept = [each for each in probabilities.graph.initializer if each.name in used]
    del probabilities.graph.initializer[:]
    probabilities.graph.initializer.extend(kept)
    file.parent.mkdir(parents=True, exist_ok=True)
    _kept(file, probabilities.SerializeToString())


def _kept(file: Path, content: bytes) -> Path:
    """Writes by rename, so that a run that was cut off leaves no half of a file."""
    if not file.is_file() or file.read_bytes() != content:
        partial = file.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(file)
    return file


def _body(row: Any) -> bytes:
    data = [round(float(value), 6) for value in row]
    tensor = {"name": "X", "shape": [1, len(data)], "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def _answers(file: Path, rows: Any) -> list[dict[str, Any]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (output,) = session.get_outputs()
    (probabilities,) = session.run(None, {"X": rows})
    return [
        {
            "outputs": [
                {
                    "name": output.name,
                    "datatype": "FP32",
                    "shape": [1, len(line)],
                    "data": [float(value) for value in line],
                }
            ]
        }
        for line in probabilities
    ]
