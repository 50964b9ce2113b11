from __future__ import annotations

import numpy as np
import pytest

from dukou.monitor.quality import judge_served
from dukou.monitor.requests import Requests
from dukou.monitor.store import Labelled


def _served(said: np.ndarray, truth: list[object]) -> Labelled:
    rows = len(said)
    requests = Requests(
        ["2026-01-01T00:00:00Z"] * rows,
        [f"a:{row}" for row in range(rows)],
        [""] * rows,
        np.array(["1"] * (rows // 2) + ["2"] * (rows - rows // 2), dtype=object),
        {"x": np.zeros((rows, 1), np.float32)},
        {"y": said.astype(np.float32).reshape(-1, 1)},
    )
    return Labelled(requests, np.array(truth, dtype=object))


def test_numbers_are_judged_as_numbers_with_intervals() -> None:
    chance = np.random.default_rng(0)
    said = chance.normal(100, 20, size=80)
    truth = said + np.r_[np.full(40, 2.0), np.full(40, -6.0)]
    found = judge_served(_served(said, [f"{value:.4f}" for value in truth]), ())
    assert list(found["metrics"]) == ["r2", "rmse", "mae"] and found["unreadable"] == 0
    mae = found["metrics"]["mae"]
    assert mae["value"] == pytest.approx(4.0, abs=1e-3) and mae["low"] < 4 < mae["high"]
    assert found["versions"]["1"]["metrics"]["mae"]["value"] == pytest.approx(2.0, abs=1e-3)
    assert found["versions"]["2"]["metrics"]["mae"]["value"] == pytest.approx(6.0, abs=1e-3)


def test_a_label_that_is_no_number_is_counted_and_left_out() -> None:
    said = np.arange(20.0)
    found = judge_served(_served(said, [*map(str, said[:19]), "high"]), ())
    assert found["unreadable"] == 1 and found["metrics"]["mae"]["value"] == 0
    nothing = judge_served(_served(said, ["high"] * 20), ())
    assert nothing["metrics"] == {} and nothing["unreadable"] == 20
