from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime
import pandas
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from dukou.base.errors import InputError
from dukou.formats import open_model
from dukou.model.model import Model
from dukou.model.signature import TensorSpec

DIGITS = load_digits(return_X_y=True)


def _open(estimator: Any, folder: Path, **options: Any) -> Model:
    path = folder / "model.joblib"
    joblib.dump(estimator, path)
    return open_model(path, into=folder / "into", trust_pickle=True, **options)


def _refusal(estimator: Any, folder: Path, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        _open(estimator, folder, **options)
    return caught.value


def _answers(model: Model, rows: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(str(model.graph))
    found: list[Any] = session.run(None, {"x": rows.astype(np.float32)})
    return found


@pytest.mark.filterwarnings("ignore:The `probability` parameter:FutureWarning")
@pytest.mark.filterwarnings("ignore:Attribute `prob._` was deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("estimator", "data"),
    [
        (MLPClassifier((32,), learning_rate_init=0.01, tol=1e-3, random_state=0), DIGITS),
        (LogisticRegression(max_iter=2000), load_iris(return_X_y=True)),
        (RandomForestClassifier(20, random_state=0), DIGITS),
        (GradientBoostingClassifier(n_estimators=5, random_state=0), load_wine(return_X_y=True)),
        (
            HistGradientBoostingClassifier(max_iter=10, random_state=0),
            load_breast_cancer(return_X_y=True),
        ),
        (SVC(probability=True, random_state=0), load_iris(return_X_y=True)),
        (
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
            load_breast_cancer(return_X_y=True),
        ),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseEstimator) else "",
)
def test_classifiers(estimator: Any, data: Any, tmp_path: Path) -> None:
    x, y = data
    estimator.fit(x, y)
    model = _open(estimator, tmp_path, samples=x)
    assert model.signature.inputs == (TensorSpec("x", "FP32", ("batch", x.shape[1])),)
    assert [s.name for s in model.signature.outputs] == ["label", "probabilities"]
    assert model.signature.has_free_rows
    assert model.card.labels == tuple(str(c) for c in estimator.classes_)
    assert model.card.task == "classification"
    assert model.golden is not None
    assert model.golden.classes == "probabilities"
    label, probabilities = _answers(model, x)
    assert (label == estimator.predict(x)).all()
    assert np.abs(probabilities - estimator.predict_proba(x)).max() < 1e-4
    assert model.lineage.facts["parity"]["rows"] == len(x)
    assert model.lineage.facts["parity"]["largest_difference"] < 1e-4


@pytest.mark.parametrize(
    "estimator", [LinearRegression(), RandomForestRegressor(10, random_state=0)]
)
def test_regressors(estimator: Any, tmp_path: Path) -> None:
    x, y = load_diabetes(return_X_y=True)
    model = _open(estimator.fit(x, y), tmp_path, samples=x)
    assert [s.name for s in model.signature.outputs] == ["prediction"]
    assert model.card.task == "regression"
    np.testing.assert_allclose(_answers(model, x)[0].ravel(), estimator.predict(x), rtol=1e-4)


def test_scores_are_not_called_probabilities(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    model = _open(SVC().fit(x, y), tmp_path, samples=x)
    assert [s.name for s in model.signature.outputs] == ["label", "scores"]


def test_truth_values_and_floats_as_classes(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    model = _open(LogisticRegression(max_iter=500).fit(x, y == 1), tmp_path, samples=x)
    assert model.card.labels == ("0", "1")
    assert set(_answers(model, x)[0].tolist()) == {0, 1}


def test_clusters(tmp_path: Path) -> None:
    x, _ = load_iris(return_X_y=True)
    fitted = KMeans(3, n_init=1, random_state=0).fit(x)
    model = _open(fitted, tmp_path, samples=x)
    assert (_answers(model, x)[0] == fitted.predict(x)).all()


def test_mixed_table_by_column_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pandas.DataFrame(
        {
            "age": rng.integers(18, 80, 400),
            "city": rng.choice(["北京", "paris", "oslo"], 400),
            "pay": rng.normal(5, 2, 400),
        }
    )
    truth = np.where(table.age + 10 * (table.city == "oslo") > 52, "yes", "no")
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["age", "pay"]),
            ("words", OneHotEncoder(handle_unknown="ignore"), ["city"]),
        ]
    )
    fitted = make_pipeline(columns, LogisticRegression()).fit(table, truth)
    # In another order than it was fitted on.
    samples = {name: table[name].to_numpy() for name in ("pay", "city", "age")}
    model = _open(fitted, tmp_path, samples=samples)
    assert model.signature.inputs == (
        TensorSpec("age", "FP32", ("batch", 1)),
        TensorSpec("city", "BYTES", ("batch", 1)),
        TensorSpec("pay", "FP32", ("batch", 1)),
    )
    assert model.card.labels == ("no", "yes")
    assert model.signature.outputs[0].dtype == "BYTES"
    assert model.lineage.facts["parity"]["rows"] == 400
    # Without rows the encoder's own categories are asked.
    assert _open(fitted, tmp_path).lineage.facts["parity"]["rows"] > 100


def test_text_pipeline(tmp_path: Path) -> None:
    texts = np.array(["the ferry leaves", "the boat sinks", "a ferry comes", "a boat burns"] * 5)
    truth = np.array([1, 0, 1, 0] * 5)
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, truth)
    model = _open(fitted, tmp_path, samples={"text": texts})
    assert model.signature.inputs == (TensorSpec("text", "BYTES", ("batch", 1)),)


def test_a_search_is_what_it_found(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": [0.1, 1.0]}, cv=3).fit(x, y)
    model = _open(search, tmp_path, samples=x)
    assert model.lineage.facts["estimator"] == "LogisticRegression"


def test_made_up_rows_are_told(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    model = _open(LogisticRegression(max_iter=500).fit(x, y), tmp_path)
    assert "made up" in model.lineage.facts["samples"]
    assert model.golden is not None


class Bomb:
    """What a hostile pickle is: loading it runs a command."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class TestTrust:
    def test_a_pickle_is_not_loaded_on_nobodys_word(self, tmp_path: Path) -> None:
        path = tmp_path / "m.pkl"
        path.write_bytes(pickle.dumps([LogisticRegression(), Bomb(str(tmp_path / "burnt"))]))
        with pytest.raises(InputError) as caught:
            open_model(path, into=tmp_path / "o")
        assert caught.value.code == "formats.untrusted-pickle"
        assert "--trust-pickle" in caught.value.hint
        assert not (tmp_path / "burnt").exists()

    def test_the_bomb_is_real(self, tmp_path: Path) -> None:
        """Trusted, it goes off: in the child, and what it leaves is no model."""
        path = tmp_path / "m.pkl"
        path.write_bytes(pickle.dumps([LogisticRegression(), Bomb(str(tmp_path / "burnt"))]))
        with pytest.raises(InputError) as caught:
            open_model(path, into=tmp_path / "o", trust_pickle=True)
        assert caught.value.code == "formats.not-a-model"
        assert (tmp_path / "burnt").exists()


class Killer:
    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


class Own(ClassifierMixin, BaseEstimator):
    """An estimator of the user's own: skl2onnx has no converter for it."""

    def fit(self, x: Any, y: Any) -> Own:
        self.classes_ = np.unique(y)
        self.n_features_in_ = x.shape[1]
        return self

    def predict(self, x: Any) -> Any:
        return np.zeros(len(x), dtype=np.int64)


class TestRefusals:
    def test_not_fitted(self, tmp_path: Path) -> None:
        error = _refusal(LogisticRegression(), tmp_path)
        assert error.code == "formats.cannot-convert"
        assert "not fitted" in error.message

    def test_no_estimator(self, tmp_path: Path) -> None:
        x, y = load_iris(return_X_y=True)
        error = _refusal({"model": LogisticRegression(max_iter=500).fit(x, y)}, tmp_path)
        assert error.code == "formats.not-a-model"
        assert "`dict`" in error.message

    def test_no_predict(self, tmp_path: Path) -> None:
        error = _refusal(StandardScaler().fit([[0.0], [1.0]]), tmp_path)
        assert error.code == "formats.not-a-model"
        assert "StandardScaler" in error.message

    def test_a_part_that_has_no_converter(self, tmp_path: Path) -> None:
        x, y = load_iris(return_X_y=True)
        voting = VotingClassifier(
            [("a", LogisticRegression(max_iter=500)), ("b", GaussianNB())], voting="soft"
        )
        error = _refusal(voting.fit(x, y), tmp_path)
        assert error.code == "formats.cannot-convert"
        assert "VotingClassifier" in error.message

    def test_a_class_that_the_child_cannot_import(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Own, "__module__", "__main__")
        import __main__

        monkeypatch.setattr(__main__, "Own", Own, raising=False)
        x, y = load_iris(return_X_y=True)
        error = _refusal(make_pipeline(StandardScaler(), Own()).fit(x, y), tmp_path)
        assert error.code == "formats.cannot-convert"
        assert "Own" in error.message

    def test_the_child_dies(self, tmp_path: Path) -> None:
        error = _refusal([LogisticRegression(), Killer()], tmp_path)
        assert error.code == "formats.corrupt"
        assert "9" in error.message

    def test_cut_off(self, tmp_path: Path) -> None:
        path = tmp_path / "m.pkl"
        path.write_bytes(pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]))[:-30])
        with pytest.raises(InputError) as caught:
            open_model(path, into=tmp_path / "o", trust_pickle=True)
        assert caught.value.code == "formats.corrupt"

    def test_samples_of_another_width(self, tmp_path: Path) -> None:
        x, y = load_iris(return_X_y=True)
        fitted = LogisticRegression(max_iter=500).fit(x, y)
        error = _refusal(fitted, tmp_path, samples=x[:, :3])
        assert error.code == "data.mismatch"
        assert "4" in error.message
        assert "3" in error.message

    def test_several_targets(self, tmp_path: Path) -> None:
        x, y = load_iris(return_X_y=True)
        fitted = RandomForestClassifier(3, random_state=0).fit(x, np.stack([y, y], axis=1))
        error = _refusal(fitted, tmp_path)
        assert error.code == "formats.cannot-convert"
        assert "2 targets" in error.message

    def test_missing_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib.util

        real = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda n: None if n == "skl2onnx" else real(n)
        )
        x, y = load_iris(return_X_y=True)
        error = _refusal(LogisticRegression(max_iter=500).fit(x, y), tmp_path)
        assert error.code == "formats.missing-extra"
        assert "dukou[sklearn]" in error.hint
