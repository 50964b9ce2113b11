"""Old servers behind dukou: one model for each dialect, asked at one door, with the numbers of the server itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.serving import House, RunningServer, write_model

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]]
TELLING = ("v2", "v2-grpc", "tensorflow", "tensorflow-grpc")
SILENT = ("kserve-v1", "torchserve", "torchserve-grpc", "keras")
SIGNATURE = """
[models.remote.signature]
inputs = [{ name = "x", dtype = "FP32", shape = [-1, 4] }]
outputs = [
  { name = "label", dtype = "INT64", shape = [-1] },
  { name = "probabilities", dtype = "FP32", shape = [-1, 3] },
]
"""


def write_front(path: Path, replica: str) -> Path:
    """A document with a model `over-DIALECT` for each."""
    parts = ['name = "front"']
    for dialect in (*TELLING, *SILENT):
        parts.append(
            f'[[models]]\nname = "over-{dialect}"\n[models.remote]\nmodel = "m"\n'
            f'dialect = "{dialect}"\nreplicas = ["{replica}"]'
        )
        if dialect in SILENT:
            parts.append(SIGNATURE)
    path.write_text("\n".join(parts))
    return path


def body(rows: list[list[float]]) -> str:
    data = [number for row in rows for number in row]
    x = {"name": "x", "datatype": "FP32", "shape": [len(rows), 4], "data": data}
    return json.dumps({"inputs": [x]})


def outputs(server: RunningServer, model: str, rows: list[list[float]]) -> dict[str, list[float]]:
    status, answer, _ = server.ask(model, body(rows))
    assert status == 200, answer
    return {output["name"]: output["data"] for output in answer["outputs"]}


def test_every_dialect_brings_the_servers_own_numbers(house: House, tmp_path: Path) -> None:
    with (
        house.serving(write_model(tmp_path / "m.onnx")) as old,
        house.serving(write_front(tmp_path / "front.toml", old.url)) as front,
    ):
        for rows in (ROWS[:1], ROWS):
            expected = outputs(old, "m", rows)
            for dialect in (*TELLING, *SILENT):
                came = outputs(front, f"over-{dialect}", rows)
                assert came["label"] == expected["label"], dialect
                wanted = pytest.approx(expected["probabilities"], rel=1e-6)
                assert came["probabilities"] == wanted, dialect
        # What it does not take is refused before anybody is asked.
        flat = body(ROWS[:1]).replace("[1, 4]", "[2, 2]")
        status, answer, _ = front.ask("over-torchserve", flat)
        assert (status, answer["code"]) == (400, "request.wrong-shape")


def test_a_server_that_does_not_tell_has_to_be_declared(house: House, tmp_path: Path) -> None:
    document = tmp_path / "front.toml"
    document.write_text(
        'name = "front"\n[[models]]\nname = "m"\n[models.remote]\ndialect = "torchserve"\n'
        'replicas = ["http://127.0.0.1:1"]\n'
    )
    done = house.dukou("serve", document, "--port", "0")
    assert done.returncode == 2
    assert "`models.0.remote.signature`: is missing" in done.stderr
    assert "a server of `torchserve` does not tell what a model takes and gives" in done.stderr
    assert "Traceback" not in done.stderr
