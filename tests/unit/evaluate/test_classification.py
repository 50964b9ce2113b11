from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn import metrics
from tests.graphs import make_model

from dukou.base.errors import InputError
from dukou.evaluate import DataSet, Evaluation, Predictions, evaluate_model
from dukou.evaluate.classification import judge_classes, matrix_metrics, roc_areas
from dukou.formats import open_model
from dukou.model.model import Card, Model


def _case(seed: int, rows: int, classes: int) -> tuple[Predictions, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[truth]
    # Rounded: ties between rows are the hard part of a ROC curve.
    logits = np.round(logits, 1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = tuple(f"c{i}" for i in range(classes))
    named = np.array(labels)[truth]
    return Predictions(labels, logits.argmax(axis=1), probabilities, probabilities), named


def _judge(predictions: Predictions, truth: np.ndarray, resamples: int = 200):  # type: ignore[no-untyped-def]
    return judge_classes(predictions, truth, resamples=resamples, seed=0, confidence=0.95)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 120), st.integers(2, 6))
def test_points_are_scikit_learns(seed: int, rows: int, classes: int) -> None:
    predictions, truth = _case(seed, rows, classes)
    found = _judge(predictions, truth, 20).metrics
    said = predictions.names()
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(truth, said))
    for average in ("macro", "weighted"):
        scores = metrics.precision_recall_fscore_support(
            truth, said, average=average, zero_division=0
        )
        for name, score in zip(("precision", "recall", "f1"), scores, strict=False):
            assert found[f"{name}_{average}"].value == pytest.approx(score)
    if len(set(truth)) == classes:
        assert predictions.probabilities is not None
        p = predictions.probabilities
        area = metrics.roc_auc_score(
            truth, p[:, 1] if classes == 2 else p, multi_class="ovr", labels=None
        )
        assert found["roc_auc"].value == pytest.approx(area)
        loss = metrics.log_loss(truth, p, labels=list(predictions.labels))
        assert found["log_loss"].value == pytest.approx(loss)


@pytest.mark.parametrize("classes", [2, 4])
def test_resampled_areas_are_scikit_learns_with_weights(classes: int) -> None:
    predictions, truth = _case(1, 80, classes)
    assert predictions.scores is not None
    index = np.array([predictions.labels.index(t) for t in truth])
    weights = np.random.default_rng(2).integers(0, 4, size=(5, 80))
    ours = roc_areas(predictions.scores, index, weights)
    for area, weight in zip(ours, weights, strict=True):
        kept = [
            metrics.roc_auc_score(index == k, predictions.scores[:, k], sample_weight=weight)
            for k in (range(classes) if classes > 2 else (1,))
        ]
        assert area == pytest.approx(np.mean(kept))


def test_drawing_cells_is_drawing_rows() -> None:
    """The multinomial of the confusion matrix has the spread that resampled rows have."""
    predictions, truth = _case(3, 150, 3)
    index = np.array([predictions.labels.index(t) for t in truth])
    rng = np.random.default_rng(0)
    matrices = np.zeros((3000, 3, 3))
    for matrix in matrices:
        drawn = rng.integers(0, 150, 150)
        np.add.at(matrix, (index[drawn], predictions.chosen[drawn]), 1)
    by_rows = matrix_metrics(matrices)["f1_macro"]
    matrix = metrics.confusion_matrix(index, predictions.chosen)
    cells = rng.multinomial(150, matrix.ravel() / 150, size=3000).reshape(-1, 3, 3)
    by_cells = matrix_metrics(cells)["f1_macro"]
    assert np.std(by_cells) == pytest.approx(np.std(by_rows), rel=0.08)
    assert np.mean(by_cells) == pytest.approx(np.mean(by_rows), abs=0.004)


def test_intervals_narrow_with_rows_and_hold_the_point() -> None:
    few, many = (_judge(*_case(4, rows, 3)).metrics for rows in (60, 2000))
    for name, interval in many.items():
        assert interval.low <= interval.value <= interval.high
        assert interval.high - interval.low < few[name].high - few[name].low


def test_binary_has_the_second_class_as_positive() -> None:
    predictions, truth = _case(5, 100, 2)
    found = _judge(predictions, truth)
    said = predictions.names()
    assert found.metrics["recall"].value == pytest.approx(
        metrics.recall_score(truth, said, pos_label="c1")
    )
    assert found.per_class["c1"].support == (truth == "c1").sum()
    assert list(found.curves) == ["c1"]


def test_all_right_is_not_certainty() -> None:
    predictions, _ = _case(6, 50, 3)
    found = _judge(predictions, predictions.names()).metrics["accuracy"]
    assert found.value == 1.0
    assert found.low < 0.95
    assert found.method == "clopper-pearson"


def test_a_class_that_the_model_does_not_know() -> None:
    predictions, truth = _case(7, 20, 2)
    truth = truth.astype(object)
    truth[3] = "other"
    with pytest.raises(InputError, match=r"`other`.*`c0`, `c1`") as caught:
        _judge(predictions, truth)
    assert caught.value.code == "data.mismatch"


def _open(model: onnx.ModelProto, folder: Path, **card: object) -> Model:
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    opened = open_model(folder / "m.onnx", into=folder / "o")
    return opened.replace(card=Card(**card))


class TestModels:
    """Through a graph, by ONNX Runtime: every way that a classifier speaks."""

    def _logits(self, width: int) -> onnx.ModelProto:
        return make_model(
            [helper.make_node("Identity", ["x"], ["logits"])],
            [("x", TensorProto.FLOAT, ["n", width])],
            [("logits", TensorProto.FLOAT, ["n", width])],
        )

    def test_logits_with_labels_from_the_card(self, tmp_path: Path) -> None:
        model = _open(self._logits(3), tmp_path, labels=("cat", "dog", "owl"))
        x = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 5], [0, 5, 4]], dtype=np.float32)
        data = DataSet({"x": x}, np.array(["cat", "dog", "owl", "owl"]), "animal")
        found = evaluate_model(model, data, resamples=100)
        assert found.metrics["accuracy"].value == 0.75
        assert found.labels == ("cat", "dog", "owl")
        assert found.confusion == ((1, 0, 0), (0, 1, 0), (0, 1, 1))
        losses = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
        expected = -losses[np.arange(4), [0, 1, 2, 2]].mean()
        assert found.metrics["log_loss"].value == pytest.approx(expected, rel=1e-5)
        assert Evaluation.from_json(json.loads(json.dumps(found.to_json()))) == found

    def test_one_number_for_two_classes(self, tmp_path: Path) -> None:
        graph = make_model(
            [helper.make_node("Sigmoid", ["x"], ["p"])],
            [("x", TensorProto.FLOAT, ["n", 1])],
            [("p", TensorProto.FLOAT, ["n", 1])],
        )
        x = np.array([[-2.0], [3.0], [1.0], [-1.0]])
        data = DataSet({"x": x}, np.array([0, 1, 0, 0]))
        found = evaluate_model(_open(graph, tmp_path), data, resamples=100)
        assert found.metrics["accuracy"].value == 0.75
        assert found.metrics["roc_auc"].value == 1.0

    def test_a_label_and_nothing_else(self, tmp_path: Path) -> None:
        graph = make_model(
            [helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)],
            [("x", TensorProto.FLOAT, ["n", 2])],
            [("label", TensorProto.INT64, ["n"])],
        )
        x = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        data = DataSet({"x": x}, np.array([0.0, 1.0, 0.0]))
        found = evaluate_model(_open(graph, tmp_path), data, resamples=100)
        assert found.metrics["accuracy"].value == pytest.approx(2 / 3)
        assert "roc_auc" not in found.metrics

    def test_a_fixed_batch_is_filled_and_cut(self, tmp_path: Path) -> None:
        graph = make_model(
            [helper.make_node("Softmax", ["x"], ["p"], axis=1)],
            [("x", TensorProto.FLOAT, [4, 2])],
            [("p", TensorProto.FLOAT, [4, 2])],
        )
        x = np.array([[1.0, 0.0], [0.0, 1.0]] * 3)
        data = DataSet({"x": x}, np.array([0, 1] * 3))
        assert evaluate_model(_open(graph, tmp_path), data, resamples=50).rows == 6

    def test_no_rows_and_no_task(self, tmp_path: Path) -> None:
        model = _open(self._logits(2), tmp_path)
        with pytest.raises(InputError) as caught:
            evaluate_model(model, DataSet({"x": np.zeros((0, 2))}, np.zeros(0)))
        assert caught.value.code == "data.empty"
        with pytest.raises(InputError, match="`ranking` is not a task"):
            evaluate_model(model, DataSet({"x": np.zeros((1, 2))}, np.zeros(1)), task="ranking")

    def test_regression(self, tmp_path: Path) -> None:
        graph = make_model(
            [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
            [("x", TensorProto.FLOAT, ["n", 2])],
            [("y", TensorProto.FLOAT, ["n", 1])],
            weights={"axes": np.array([1], dtype=np.int64)},
        )
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 2)).astype(np.float32)
        truth = x.sum(axis=1) + rng.normal(size=200) * 0.1
        model = _open(graph, tmp_path, task="regression")
        found = evaluate_model(model, DataSet({"x": x}, truth), resamples=500)
        said = x.sum(axis=1)
        assert found.metrics["r2"].value == pytest.approx(metrics.r2_score(truth, said), rel=1e-5)
        assert found.metrics["mae"].value == pytest.approx(
            metrics.mean_absolute_error(truth, said), rel=1e-4
        )
        for interval in found.metrics.values():
            assert interval.low < interval.value < interval.high
        with pytest.raises(InputError, match="a number is expected"):
            evaluate_model(model, DataSet({"x": x}, np.array(["a"] * 200)), resamples=5)
