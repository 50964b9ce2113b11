"""Rows of every kind become the same request; what does not fit is said with both sides."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dukou.base.errors import InputError
from dukou.cli.rows import read_input

PIXELS = [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
MIXED = [
    {"name": "age", "datatype": "INT64", "shape": [-1]},
    {"name": "score", "datatype": "FP64", "shape": [-1, 1]},
    {"name": "city", "datatype": "BYTES", "shape": [-1]},
    {"name": "member", "datatype": "BOOL", "shape": [-1]},
]


def _read(text: str | Path, specs: list[dict[str, Any]], rows: int = 100) -> list[dict[str, Any]]:
    return read_input(str(text), specs, rows=rows)


def _one(text: str | Path, specs: list[dict[str, Any]]) -> dict[str, Any]:
    (request,) = _read(text, specs)
    return {tensor["name"]: (tensor["shape"], tensor["data"]) for tensor in request["inputs"]}


@pytest.fixture
def every_kind(tmp_path: Path) -> dict[str, str]:
    rows = [[1, 2, 3], [4.5, 5, 6]]
    np.save(tmp_path / "x.npy", np.array(rows, dtype=np.float64))
    np.savez(tmp_path / "x.npz", x=np.array(rows, dtype=np.float32))
    (tmp_path / "plain.csv").write_text("1,2,3\n4.5,5,6\n")
    (tmp_path / "header.csv").write_text("a,b,c\n1,2,3\n\n4.5,5,6\n")
    (tmp_path / "named.csv").write_text("id,x_2,x_1,x_0\n7,3,2,1\n8,6,5,4.5\n")
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    files = {path.name: str(path) for path in tmp_path.iterdir()}
    literals = {
        "rows": json.dumps(rows),
        "columns": json.dumps({"x": rows}),
        "objects": json.dumps([{"x": row} for row in rows]),
    }
    return {**files, **literals}


def test_every_kind_gives_the_same(every_kind: dict[str, str]) -> None:
    assert len(every_kind) == 9
    for kind, text in every_kind.items():
        assert _one(text, PIXELS) == {"x": ([2, 3], [1, 2, 3, 4.5, 5, 6])}, kind


def test_a_whole_v2_request_passes_as_it_is() -> None:
    request = {
        "id": "7",
        "inputs": [{"name": "other", "datatype": "INT8", "shape": [1], "data": [1]}],
    }
    assert _read(json.dumps(request), PIXELS) == [request]


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("1,2,3\n", "[[1, 2, 3]]", " [1, 2, 3]"):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert _one("-", PIXELS) == {"x": ([1, 3], [1, 2, 3])}


def test_columns_by_name_and_dtype(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text('city,member,age,score\n"Köln, Altstadt",true,30,0.5\n02139,0,41,1\n', "utf-8")
    assert _one(file, MIXED) == {
        "age": ([2], [30, 41]),
        "score": ([2, 1], [0.5, 1]),
        "city": ([2], ["Köln, Altstadt", "02139"]),
        "member": ([2], [True, False]),
    }


def test_a_column_that_is_no_input_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,target,b,c\n1,9,2,3\n")
    (request,) = read_input(str(file), PIXELS, rows=10, drop=["target"])
    assert request["inputs"][0]["data"] == [1, 2, 3]
    with pytest.raises(InputError, match="4 columns") as refused:
        read_input(str(file), PIXELS, rows=10)
    assert "--drop" in refused.value.hint
    with pytest.raises(InputError, match="no column `other`"):
        read_input(str(file), PIXELS, rows=10, drop=["other"])


def test_rows_are_cut_into_requests() -> None:
    requests = _read(json.dumps([[i, i, i] for i in range(7)]), PIXELS, rows=3)
    assert [r["inputs"][0]["shape"] for r in requests] == [[3, 3], [3, 3], [1, 3]]
    flat = [value for r in requests for value in r["inputs"][0]["data"]]
    assert flat[::3] == list(range(7))


def test_a_fixed_batch_is_not_cut() -> None:
    specs = [{"name": "x", "datatype": "FP32", "shape": [4, 1]}]
    (request,) = _read("[1, 2, 3, 4]", specs, rows=2)
    assert request["inputs"][0]["shape"] == [4, 1]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("[[1, 2]]", "data.mismatch", ["FP32 [?, 3]", "[1, 2]"]),
        ("[[1, 2, 3], [1, 2]]", "data.mismatch", ["ragged", "3 elements", "2 elements"]),
        ('[["a", 2, 3]]', "data.mismatch", ["FP32", "`a`"]),
        ("[[NaN, 2, 3]]", "data.mismatch", ["`nan`"]),
        ("[[true, 2, 3]]", "data.mismatch", ["`True`"]),
        ('{"y": [[1, 2, 3]]}', "data.mismatch", ["no `x`", "`y` came"]),
        ('[{"x": [1, 2, 3]}, 5]', "data.unreadable", ["row 2"]),
        ("[]", "data.empty", ["no rows"]),
        ("[[1, 2", "data.unreadable", ["not JSON"]),
        ("[" * 100_000, "data.unreadable", ["nested too deep"]),
        ("nothere.csv", "formats.not-found", ["nothere.csv"]),
    ],
)
def test_what_does_not_fit(text: str, code: str, words: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        _read(text, PIXELS)
    assert refused.value.code == code
    for word in words:
        assert word in refused.value.message


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("1,2\n", "data.mismatch", ["2 columns", "takes 3"]),
        ("a,b,c\n", "data.empty", ["no rows"]),
        ("", "data.empty", ["no rows"]),
        ("1,2,3\n1,x,3\n", "data.unreadable", ["row 2", "`x_1`", "`x`"]),
        ("1,2,3\n1,2\n", "data.unreadable", ["row 2", "2 columns"]),
        ("1,2,nan\n", "data.mismatch", ["`nan`"]),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, content: str, code: str, words: list[str]) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(content)
    with pytest.raises(InputError) as refused:
        _read(file, PIXELS)
    assert refused.value.code == code
    for word in words:
        assert word in refused.value.message


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.array([["a", "b", "c"]]))
    np.save(tmp_path / "float.npy", np.array([0.5]))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for name, specs, code in [
        ("text.npy", PIXELS, "data.mismatch"),
        ("float.npy", MIXED[:1], "data.mismatch"),
        ("float.npy", MIXED, "data.mismatch"),
        ("object.npy", PIXELS, "data.unreadable"),
        ("broken.npy", PIXELS, "data.unreadable"),
        ("binary.csv", PIXELS, "data.unreadable"),
    ]:
        with pytest.raises(InputError) as refused:
            _read(tmp_path / name, specs)
        assert refused.value.code == code, name


def test_a_model_of_images_takes_no_table(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1\n")
    with pytest.raises(InputError, match="send JSON or NPY|no row of numbers"):
        _read(
            tmp_path / "rows.csv", [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 8, 8]}]
        )
