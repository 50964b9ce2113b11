"""Variants measured in the real engine: no time is asserted, only what must be true of any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from dukou.formats import open_model
from dukou.lifecycle.measure import EngineMeasure
from dukou.model.model import Model
from dukou.optimize.passes.int8 import Int8Pass
from dukou.optimize.passes.int8_static import Int8StaticPass


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Model], list[dict[str, Any]]]:
    """An original, one whose rows depend on each other, one whose rows do not; and requests."""
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    estimator = MLPClassifier((256, 128), learning_rate_init=0.005, tol=1e-2, random_state=0)
    estimator.fit(x[:900], y[:900])
    folder = tmp_path_factory.mktemp("variants")
    joblib.dump(estimator, folder / "m.joblib")
    model = open_model(folder / "m.joblib", into=folder / "o", samples=x, trust_pickle=True)
    found = [model]
    for step in (Int8Pass(), Int8StaticPass()):
        (folder / step.name).mkdir()
        form = step.apply(model, folder / step.name, [{"x": x[:200]}])
        assert form is not None
        found.append(form)
    return found, [{"x": x[i : i + 1]} for i in range(900, 930)]


def test_alone_and_in_company(variants: tuple[list[Model], list[dict[str, Any]]]) -> None:
    models, samples = variants
    measured = EngineMeasure(rounds=4, requests=6, bursts=3, company=12)(models, samples)
    # In their order: the sizes say which is which.
    assert [m.size_bytes for m in measured] == [model.size_bytes() for model in models]
    for m in measured:
        assert 0 < m.latency_us.low <= m.latency_us.value <= m.latency_us.high
        assert 0 < m.busy_us.low <= m.busy_us.value <= m.busy_us.high
        assert m.facts["company"] == 12
    original, dynamic, static = measured
    # The engine proved it by itself, and what came together was run together.
    assert (original.batched, dynamic.batched, static.batched) == (True, False, True)
    assert original.facts["requests_a_run"] > 1
    assert static.facts["requests_a_run"] > 1
    assert dynamic.facts["requests_a_run"] == 1


def test_what_is_counted_is_what_was_asked(
    variants: tuple[list[Model], list[dict[str, Any]]],
) -> None:
    models, samples = variants
    measure = EngineMeasure(rounds=3, requests=5, bursts=2, company=4)
    [times] = measure.run(models[1:2], samples)
    assert len(times.alone_us) == len(times.busy_us) == 3
    # The round that warms up is not in it.
    assert times.requests == times.runs == 3 * 2 * 4


def test_models_that_run_long_are_asked_less() -> None:
    measure = EngineMeasure(rounds=9, requests=36, bursts=4, company=16, budget_s=1.0)
    assert measure._share([50.0]) == 1.0
    # 10 rounds of 100 requests, of 10 ms and some: ten seconds would be a tenth.
    assert measure._share([9700.0]) == pytest.approx(0.1)
    assert measure._share([9700.0, 9700.0]) == pytest.approx(0.05)


def test_the_files_of_a_measurement_are_gone(
    variants: tuple[list[Model], list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models, samples = variants
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    EngineMeasure(rounds=1, requests=3, bursts=1, company=2)(models[:1], samples)
    assert list(tmp_path.iterdir()) == []
