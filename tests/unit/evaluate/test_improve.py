"""What is tried on a model: two real data sets, and graphs of every form of answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from tests.graphs import make_model

from dukou.base.errors import InputError
from dukou.evaluate import DataSet, improve_model, parse_objective
from dukou.evaluate.predict import predict_classes, run_model
from dukou.formats import open_model
from dukou.lifecycle.stages.improve import apply_improvement
from dukou.model.model import Model

ALPHA = 0.05
Real = tuple[Model, DataSet]


def _train(load: Callable[..., Any], estimator: Any, folder: Path, held_out: float) -> Real:
    rows, truth = load(return_X_y=True)
    parts = train_test_split(
        rows.astype(np.float32), truth, test_size=held_out, random_state=0, stratify=truth
    )
    joblib.dump(estimator.fit(parts[0], parts[2]), folder / "model.joblib")
    model = open_model(
        folder / "model.joblib", into=folder / "made", samples={"x": parts[1]}, trust_pickle=True
    )
    return model, DataSet({"x": parts[1]}, parts[3])


@pytest.fixture(scope="module")
def naive(tmp_path_factory: pytest.TempPathFactory) -> Real:
    """Of 30 features that tell the same story over and over: as sure as a model can be."""
    return _train(load_breast_cancer, GaussianNB(), tmp_path_factory.mktemp("naive"), 0.4)


@pytest.fixture(scope="module")
def logistic(tmp_path_factory: pytest.TempPathFactory) -> Real:
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    return _train(load_breast_cancer, estimator, tmp_path_factory.mktemp("logistic"), 0.4)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Real:
    """Ten classes, and less sure than it may be: its weights are held small."""
    estimator = make_pipeline(MinMaxScaler(), LogisticRegression(C=0.1, max_iter=500))
    return _train(load_digits, estimator, tmp_path_factory.mktemp("digits"), 0.2)


def test_a_model_that_is_too_sure_is_made_honest_and_says_the_same_classes(
    naive: Real, tmp_path: Path
) -> None:
    model, data = naive
    found = improve_model(model, data, resamples=200)
    [candidate] = found.candidates
    assert candidate.kept and candidate.p_value is not None and candidate.p_value < 1e-6
    assert candidate.gain.low > 0.1 and candidate.after < candidate.before - 0.3
    assert candidate.elsewhere["brier"][1] < candidate.elsewhere["brier"][0]
    assert found.scaling is not None and found.scaling.scale < 0.5
    assert "log loss" in candidate.reason and candidate.reason.startswith("Kept")
    improved = apply_improvement(model, found, tmp_path)
    before, after = predict_classes(model, data.features), predict_classes(improved, data.features)
    assert (before.chosen == after.chosen).all()
    numbers = run_model(model, data.features)["probabilities"]
    assert after.probabilities is not None
    np.testing.assert_allclose(
        after.probabilities, found.scaling.apply(numbers, "probabilities"), atol=1e-6
    )
    assert (improved.signature, improved.variant) == (model.signature, "original")
    assert improved.lineage.steps[-1].startswith("calibrate scale 0.")
    # Golden answers are those of the new graph, and it keeps them.
    assert improved.golden is not None and model.golden is not None
    for (inputs, outputs), (_, old) in zip(
        improved.golden.samples, model.golden.samples, strict=True
    ):
        said = run_model(improved, inputs)
        np.testing.assert_allclose(said["probabilities"], outputs["probabilities"], atol=1e-6)
        assert (outputs["label"] == old["label"]).all()


def test_folds_answer_rows_that_they_did_not_learn_from(naive: Real) -> None:
    """The reported loss is that of cross-fitted answers, not of a scaling on its own rows."""
    model, data = naive
    found = improve_model(model, data, resamples=200)
    assert found.scaling is not None and found.improved.probabilities is not None
    own = found.scaling.apply(run_model(model, data.features)["probabilities"], "probabilities")
    assert not np.allclose(own, found.improved.probabilities, atol=1e-6)
    rows = np.arange(data.rows)
    loss = -np.log(found.improved.probabilities[rows, data.target]).mean()
    assert found.candidates[0].after == pytest.approx(loss)
    assert loss > -np.log(own[rows, data.target]).mean()


def test_a_good_model_is_left_as_it_is_and_the_numbers_say_why(logistic: Real) -> None:
    model, data = logistic
    found = improve_model(model, data, objective=parse_objective("accuracy"), resamples=200)
    assert not found.kept and found.improved is found.original
    assert [c.kind for c in found.candidates] == ["probabilities", "threshold"]
    for candidate in found.candidates:
        assert candidate.reason.startswith("Not kept")
        assert candidate.alpha == ALPHA / 2
    assert "0.0" in found.candidates[0].reason


def test_ten_classes_too_little_sure(digits: Real, tmp_path: Path) -> None:
    model, data = digits
    found = improve_model(model, data, resamples=200)
    assert found.scaling is not None and found.scaling.scale > 1.2 and found.scaling.offset == 0
    improved = apply_improvement(model, found, tmp_path)
    said = predict_classes(improved, data.features)
    assert said.probabilities is not None
    assert (said.probabilities.argmax(axis=1) == said.chosen).all()
    with pytest.raises(InputError, match="between two classes, and the model has 10") as caught:
        improve_model(model, data, objective=parse_objective("accuracy"))
    assert caught.value.code == "improve.cannot-apply"


def test_too_few_rows(naive: Real, logistic: Real) -> None:
    model, data = logistic
    few = data.take(range(30))
    found = improve_model(model, few)
    assert not found.candidates and "30 held-out rows, and 50 are needed" in found.left_alone[0]
    with pytest.raises(InputError, match="`improve.calibrate` asks for") as caught:
        improve_model(model, few, calibrate=True)
    assert caught.value.code == "improve.too-few-rows"
    lop = data.take(np.r_[np.flatnonzero(data.target == 0)[:5], np.flatnonzero(data.target == 1)])
    with pytest.raises(InputError, match="class `0` has 5 held-out rows") as caught:
        improve_model(model, lop, objective=parse_objective("f1"))
    assert caught.value.code == "improve.too-few-rows"


def test_a_class_that_the_model_does_not_know(logistic: Real) -> None:
    model, data = logistic
    with pytest.raises(InputError, match="about the class `malignant`, the model's are `0`, `1`"):
        improve_model(model, data, objective=parse_objective("recall[malignant]"))


def test_off_is_off(naive: Real) -> None:
    found = improve_model(*naive, calibrate=False)
    assert not found.candidates and not found.kept
    assert found.left_alone[0].startswith("`improve.calibrate` is off")


def _given_out(folder: Path, kinds: dict[str, list[Any]]) -> Model:
    """A graph that gives out its inputs: `numbers` FP32, and `label` INT64 where there is one."""
    types = {"numbers": TensorProto.FLOAT, "label": TensorProto.INT64}
    proto = make_model(
        [helper.make_node("Identity", [f"in_{name}"], [name]) for name in kinds],
        [(f"in_{name}", types[name], shape) for name, shape in kinds.items()],
        [(name, types[name], shape) for name, shape in kinds.items()],
    )
    onnx.save(proto, str(folder / "graph.onnx"))
    return open_model(folder / "graph.onnx", into=folder / "made")


def _too_sure(columns: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """(logits, truth) of a model that triples what it should say."""
    rng = np.random.default_rng(columns)
    logits = rng.normal(size=(rows, max(2, columns)))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = (rng.random((rows, 1)) > shares.cumsum(axis=1)[:, :-1]).sum(axis=1)
    if columns == 1:
        logits = logits[:, 1:] - logits[:, :1]
    return (3 * logits).astype(np.float32), true


def test_a_recall_as_high_as_the_accuracy_budget_allows(tmp_path: Path) -> None:
    """The model says the second class from 0.7 on; probabilities need no scaling, the line does."""
    rng = np.random.default_rng(4)
    second = rng.beta(0.6, 0.9, size=500).astype(np.float32)
    true = (rng.random(500) < second).astype(np.int64)
    numbers = np.stack([1 - second, second], axis=1)
    model = _given_out(tmp_path, {"numbers": ["n", 2], "label": ["n"]})
    model = model.replace(card=type(model.card)(labels=("0", "1")))
    data = DataSet({"in_numbers": numbers, "in_label": (second >= 0.7).astype(np.int64)}, true)
    objective = parse_objective("recall[1]")
    found = improve_model(model, data, objective=objective, accuracy_budget=0.05, resamples=200)
    scaled, moved = found.candidates
    assert not scaled.kept and found.scaling is None
    assert moved.kept and moved.after > moved.before + 0.1 and moved.gain.low > 0
    assert found.threshold is not None and found.threshold == found.served_threshold()
    improved = apply_improvement(model, found, tmp_path / "improved")
    after = run_model(improved, data.features)
    assert (after["label"] == (second >= np.float32(found.threshold))).all()
    assert (after["numbers"] == numbers).all()
    # The more may be paid, the more is found.
    free = improve_model(model, data, objective=objective, accuracy_budget=0.0, resamples=200)
    dear = improve_model(model, data, objective=objective, accuracy_budget=0.9, resamples=200)
    assert dear.candidates[1].after == pytest.approx(1.0, abs=0.02)
    assert free.candidates[1].after <= moved.after
    # What costs are said to matter is not held against accuracy.
    costs = parse_objective("cost", {"0": 1.0, "1": 8.0})
    found = improve_model(model, data, objective=costs, accuracy_budget=0.0, resamples=200)
    assert found.threshold == pytest.approx(1 / 9, abs=0.08)


@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_numbers_alone_are_scaled_and_no_class_changes(
    form: str, columns: int, tmp_path: Path
) -> None:
    numbers, true = _too_sure(columns)
    if form == "probabilities":
        odds = (
            np.concatenate([np.zeros_like(numbers), numbers], axis=1) if columns == 1 else numbers
        )
        numbers = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        numbers = numbers[:, 1:] if columns == 1 else numbers
    model = _given_out(tmp_path, {"numbers": ["n", columns]})
    data = DataSet({"in_numbers": numbers}, true)
    found = improve_model(model, data, resamples=200)
    assert found.outlets is not None and found.outlets.form == form
    assert found.scaling is not None and found.scaling.offset == 0
    assert found.scaling.scale == pytest.approx(1 / 3, rel=0.35)
    improved = apply_improvement(model, found, tmp_path / "improved")
    before, after = predict_classes(model, data.features), predict_classes(improved, data.features)
    assert (before.chosen == after.chosen).all()
    assert after.probabilities is not None
    np.testing.assert_allclose(
        after.probabilities,
        found.scaling.apply(numbers, form),
        atol=1e-6,  # type: ignore[arg-type]
    )
    if columns == 2:
        with pytest.raises(InputError, match="no output says the class, only `numbers`"):
            improve_model(model, data, objective=parse_objective("accuracy"))


def test_scores_are_no_probabilities_but_a_line_can_be_drawn_between_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    scores = rng.normal(size=(400, 1)).astype(np.float32) * 4
    true = (scores[:, 0] + rng.normal(size=400) > 2).astype(np.int64)
    model = _given_out(tmp_path, {"numbers": ["n", 1], "label": ["n"]})
    said = (scores[:, 0] > 0).astype(np.int64)
    data = DataSet({"in_numbers": scores, "in_label": said}, true)
    model = model.replace(card=type(model.card)(labels=("0", "1")))
    found = improve_model(model, data, objective=parse_objective("f1_macro"), resamples=200)
    assert "holds scores, which are no probabilities" in found.left_alone[0]
    assert found.scaling is None and found.threshold == found.served_threshold()
    assert found.threshold == pytest.approx(2, abs=0.7)
    improved = apply_improvement(model, found, tmp_path / "improved")
    after = run_model(improved, data.features)
    assert (after["label"] == (scores[:, 0] >= np.float32(found.threshold))).all()
    assert (after["numbers"] == scores).all()
    with pytest.raises(InputError, match="holds scores"):
        improve_model(model, data, calibrate=True)


def test_labels_alone_leave_nothing_to_try(tmp_path: Path) -> None:
    model = _given_out(tmp_path, {"label": ["n"]})
    truth = np.array([0, 1] * 40)
    found = improve_model(model, DataSet({"in_label": truth}, truth))
    assert not found.kept and "no output of the model has a number a class" in found.left_alone[0]
