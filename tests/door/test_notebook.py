"""A notebook's way: a table in, a table out, and a sentence where the two do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
from tests.serving import write_model

import dukou
from dukou.base.errors import DukouError


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    with dukou.serve(write_model(folder / "model.onnx"), home=folder / "home") as running:
        yield running


def test_a_table_gives_a_table_with_its_index(server) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    table = pandas.DataFrame(rows, columns=["长", "宽", "c", "d"], index=[7, 8, 9])
    said = server.predict(table)
    assert list(said.columns) == ["label", *(f"probabilities_{i}" for i in range(3))]
    assert list(said.index) == [7, 8, 9]
    asked = server.predict(rows)
    assert np.array_equal(said["label"].to_numpy(), asked["label"])
    assert np.allclose(said.filter(like="prob").to_numpy(), asked["probabilities"])
    assert said["label"].dtype == np.int64


def test_columns_that_do_not_fit_are_named(server) -> None:
    table = pandas.DataFrame({"a": [1.0], "b": [2.0], "target": [0]})
    with pytest.raises(DukouError) as refused:
        server.predict(table)
    assert refused.value.code == "data.mismatch"
    assert "takes 4 numbers a row, the table has 3 columns: `a`, `b`, `target`" in str(
        refused.value
    )
    words = pandas.DataFrame({"a": ["x"], "b": [1.0], "c": [1.0], "d": [1.0]})
    with pytest.raises(DukouError, match="column `a` holds text"):
        server.predict(words)


def test_a_model_at_hand_is_served_as_it_is(tmp_path: Path) -> None:
    model = dukou.open_model(write_model(tmp_path / "flowers.onnx"), into=tmp_path / "made")
    with dukou.serve(model, home=tmp_path / "home") as server:
        assert server.predict(np.ones((2, 4), np.float32))["label"].shape == (2,)
