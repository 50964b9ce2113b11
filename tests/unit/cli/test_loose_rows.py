"""Rows as they stand, for servers that do not say what their models take."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from dukou.base.errors import InputError
from dukou.cli.loose_rows import read_rows


def test_every_kind_of_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1, 2.5], [3, 4.5]]
    assert read_rows(json.dumps(rows), rows=8) == [rows]
    assert read_rows(json.dumps({"instances": rows}), rows=1) == [rows[:1], rows[1:]]
    assert read_rows('{"age": 3}', rows=8) == [[{"age": 3}]]
    csv = tmp_path / "rows.csv"
    csv.write_text("a,b,target\n1,2.5,x\n3,4.5,y\n")
    assert read_rows(str(csv), rows=8, drop=["target"]) == [rows]
    csv.write_text("1,2.5\n3,4.5\n")
    assert read_rows(str(csv), rows=8) == [rows]
    np.save(tmp_path / "rows.npy", np.array(rows))
    assert read_rows(str(tmp_path / "rows.npy"), rows=8) == [rows]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert read_rows(str(tmp_path / "rows.json"), rows=8) == [rows]
    monkeypatch.setattr("sys.stdin", io.StringIO("1,2.5\n3,4.5\n"))
    assert read_rows("-", rows=8) == [rows]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[", "data.unreadable"),
        ('{"instances": 3}', "data.unreadable"),
        ("[]", "data.empty"),
        ("gone.npy", "formats.not-found"),
    ],
)
def test_what_is_refused(text: str, code: str) -> None:
    with pytest.raises(InputError) as error:
        read_rows(text, rows=8)
    assert error.value.code == code


def test_a_table_that_is_none(tmp_path: Path) -> None:
    csv = tmp_path / "rows.csv"
    csv.write_text("1,2\n3\n")
    with pytest.raises(InputError, match="fewer columns than the first"):
        read_rows(str(csv), rows=8)
    csv.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column `c` to drop"):
        read_rows(str(csv), rows=8, drop=["c"])
    (tmp_path / "x.npy").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read as NPY"):
        read_rows(str(tmp_path / "x.npy"), rows=8)
