"""Onwards from ONNX: another runtime's files, its answers those of ONNX Runtime; nothing left of a failure."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from tests.frameworks import require
from tests.graphs import dense, make_model

from dukou.base.errors import InputError
from dukou.cli.main import main
from dukou.formats.onwards import write_model
from dukou.formats.open import open_model


def two_outputs() -> onnx.ModelProto:
    """Two outputs over a free batch and a free second axis; one of them whole numbers."""
    nodes = [
        helper.make_node("MatMul", ["steps", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=-1, keepdims=0),
    ]
    weights = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    return make_model(
        nodes,
        [("steps", TensorProto.FLOAT, ["batch", "time", 4])],
        [
            ("scores", TensorProto.FLOAT, ["batch", "time", 6]),
            ("best", TensorProto.INT64, ["batch", "time"]),
        ],
        weights={"w": weights},
    )


def test_openvino_answers_like_onnx_runtime(tmp_path: Path) -> None:
    require("openvino")
    import openvino

    onnx.save(two_outputs(), str(tmp_path / "m.onnx"))
    model = open_model(tmp_path / "m.onnx", into=tmp_path / "o")
    written = write_model(model, "openvino", tmp_path / "ir", stem="m")
    assert {file.name for file in (tmp_path / "ir").iterdir()} == {"m.xml", "m.bin", "m.json"}
    assert written.parity.largest < 1e-5
    told = json.loads((tmp_path / "ir" / "m.json").read_text("utf-8"))
    assert told["signature"] == model.signature.to_json()
    assert told["lineage"]["steps"][-1].startswith("write openvino by openvino 20")
    compiled = openvino.Core().compile_model(
        str(written.file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    steps = np.random.default_rng(2).standard_normal((3, 5, 4)).astype(np.float32)
    theirs = onnxruntime.InferenceSession(str(model.graph)).run(None, {"steps": steps})
    ours = compiled({"steps": steps})
    np.testing.assert_allclose(ours["scores"], theirs[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ours["best"], theirs[1])


def test_by_the_command_from_another_framework(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require("openvino")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(dense().SerializeToString())
    assert main(["convert", "m.onnx", "--to", "openvino"]) == 0
    assert (tmp_path / "m-openvino" / "m.xml").is_file()
    assert "its answers equal ONNX Runtime's on 12 rows" in capsys.readouterr().out
    assert main(["convert", "m.onnx", "--to", "openvino", "--json"]) == 2
    assert "is there already" in json.loads(capsys.readouterr().out)["message"]
    assert main(["convert", "m.onnx", "--to", "tflite"]) == 2
    assert "it writes `openvino` (OpenVINO IR" in capsys.readouterr().err
    assert main(["convert", "m.onnx", "--output", "x"]) == 2
    assert "`--output` goes with `--to FORMAT`" in capsys.readouterr().err


def test_what_openvino_lacks_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    require("openvino")
    x, y = load_iris(return_X_y=True)
    joblib.dump(RandomForestClassifier(5, random_state=0).fit(x, y), tmp_path / "forest.joblib")
    model = open_model(tmp_path / "forest.joblib", into=tmp_path / "o", trust_pickle=True)
    with pytest.raises(InputError, match=r"`forest\.joblib`: OpenVINO .*TreeEnsemble") as caught:
        write_model(model, "openvino", tmp_path / "ir")
    assert caught.value.code == "formats.cannot-convert"
    assert {file.name for file in tmp_path.iterdir()} == {"forest.joblib", "o"}
