from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dukou.base.errors import InputError
from dukou.model.rows import fit_rows
from dukou.model.signature import Signature, TensorSpec


def _signature(*inputs: tuple[str, str, tuple[Any, ...]]) -> Signature:
    return Signature(tuple(TensorSpec(*i) for i in inputs), ())


MATRIX = _signature(("x", "FP32", ("batch", 3)))


def test_columns_are_stacked_in_their_order() -> None:
    columns = {"a": np.array([1, 2]), "b": np.array([3.5, 4.5]), "c": np.array([5, 6])}
    found = fit_rows(MATRIX, columns)["x"]
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 3.5, 5], [2, 4.5, 6]]


def test_a_matrix_by_the_inputs_name_or_alone() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    assert fit_rows(MATRIX, matrix)["x"].tolist() == matrix.tolist()
    assert fit_rows(MATRIX, {"x": matrix})["x"].tolist() == matrix.tolist()
    assert fit_rows(MATRIX, {"pixels": matrix})["x"].tolist() == matrix.tolist()


def test_inputs_by_column_name_others_left_out() -> None:
    signature = _signature(("age", "FP32", ("b", 1)), ("city", "BYTES", ("b", 1)))
    found = fit_rows(
        signature,
        {"id": np.array([1, 2]), "city": np.array(["a", "渡"]), "age": np.array([3, 4])},
    )
    assert list(found) == ["age", "city"]
    assert found["age"].shape == (2, 1)
    assert found["city"].tolist() == [["a"], ["渡"]]


def test_flat_rows_are_folded_where_there_is_one_way() -> None:
    signature = _signature(("x", "FP32", (None, 1, 2, 2)))
    found = fit_rows(signature, np.arange(8).reshape(2, 4))["x"]
    assert found.shape == (2, 1, 2, 2)
    assert found[1, 0].tolist() == [[4, 5], [6, 7]]
    with pytest.raises(InputError):
        fit_rows(_signature(("x", "FP32", (None, "h", "w"))), np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("signature", "features", "words"),
    [
        (MATRIX, np.zeros((2, 4)), ("3", "4")),
        (MATRIX, {"a": np.array(["x"]), "b": np.array([1.0])}, ("`a`", "text")),
        (_signature(("n", "INT64", ("b",))), np.array([1.5]), ("INT64", "float64")),
        (_signature(("n", "UINT8", ("b",))), np.array([300]), ("UINT8",)),
        (
            _signature(("p", "FP32", ("b",)), ("q", "FP32", ("b",))),
            {"p": np.zeros(2)},
            ("`q`", "`p`"),
        ),
        (_signature(("p", "FP32", ("b",)), ("q", "FP32", ("b",))), np.zeros(2), ("2 inputs",)),
        (MATRIX, {"x": np.array(["a", "b"])}, ("FP32", "text")),
    ],
)
def test_what_does_not_fit_names_both_sides(
    signature: Signature, features: Any, words: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        fit_rows(signature, features)
    assert caught.value.code == "data.mismatch"
    assert all(word in caught.value.message for word in words)
