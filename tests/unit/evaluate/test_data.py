from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from dukou.base.errors import InputError
from dukou.evaluate import load_table
from dukou.evaluate.data import parse_csv


def _refusal(content: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_csv(content, "t.csv")
    return caught.value


def test_types_of_columns() -> None:
    found = parse_csv(
        b"whole,real,gone,word,mixed,never\n1,1.5,3,a,1,\n2,2,NA,,x,NaN\n-3,1e3,,c d,3,\n", "t"
    )
    assert found["whole"].dtype == np.int64
    assert found["real"].tolist() == [1.5, 2.0, 1000.0]
    assert found["gone"][0] == 3.0
    assert np.isnan(found["gone"][1:]).all()
    assert found["word"].tolist() == ["a", None, "c d"]
    assert found["mixed"].tolist() == ["1", "x", "3"]
    assert np.isnan(found["never"]).all()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030"])
def test_encodings(encoding: str) -> None:
    found = parse_csv("城市,数\n北京,1\n上海,2\n".encode(encoding), "t")
    assert found["城市"].tolist() == ["北京", "上海"]
    assert found["数"].tolist() == [1, 2]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters(delimiter: str) -> None:
    text = 'a,b\n1,"x,y;z"\n'.replace(",", delimiter, 1).replace("1,", f"1{delimiter}")
    found = parse_csv(text.encode(), "t")
    assert found["a"].tolist() == [1]
    assert found["b"].tolist() == ["x,y;z"]


def test_underscores_are_text_not_numbers() -> None:
    assert parse_csv(b"a\n1_000\n", "t")["a"].tolist() == ["1_000"]


def test_a_row_of_another_length_is_named() -> None:
    error = _refusal(b"a,b\n1,2\n\n1,2,3\n")
    assert error.code == "data.unreadable"
    assert "row 4 has 3 cells, the header has 2" in error.message


def test_a_name_twice() -> None:
    assert "`a` twice" in _refusal(b"a,b,a\n1,2,3\n").message


def test_neither_text_nor_anything() -> None:
    assert "binary zeros" in _refusal(b"a,b\n\0\0\n").message
    assert "row 3" in _refusal(b"a,b\n1,2\n\xff\xff,2\n").message


def test_an_open_quote() -> None:
    assert _refusal(b'a,b\n1,"2\n').code == "data.unreadable"


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n")
    with pytest.raises(InputError) as caught:
        load_table(tmp_path / "t.csv")
    assert caught.value.code == "data.empty"
    assert _refusal(b"").code == "data.empty"


@given(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), min_size=1)
)
def test_numbers_survive(rows: list[tuple[int, float]]) -> None:
    text = "n,f\n" + "".join(f"{n},{f!r}\n" for n, f in rows)
    found = parse_csv(text.encode(), "t")
    assert found["n"].tolist() == [n for n, _ in rows]
    assert found["f"].astype(float).tolist() == [f for _, f in rows]


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 2, 2)), y=np.arange(4))
    table = load_table(tmp_path / "d.npz")
    assert table.rows == 4
    data = table.split_target("y")
    assert data.features["x"].shape == (4, 2, 2)
    assert data.take([2, 0]).target.tolist() == [2, 0]
    np.savez(tmp_path / "e.npz", x=np.zeros((4, 2)), y=np.arange(3))
    with pytest.raises(InputError, match=r"`x` \[4, 2\], `y` \[3\]"):
        load_table(tmp_path / "e.npz")


def test_npz_with_a_pickle_in_it_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError) as caught:
        load_table(tmp_path / "d.npz")
    assert caught.value.code == "data.unreadable"


def test_parquet(tmp_path: Path) -> None:
    parquet.write_table(
        pyarrow.table({"a": [1, 2, None], "b": ["x", None, "z"], "c": [1, 2, 3]}),
        tmp_path / "d.data",
    )
    table = load_table(tmp_path / "d.data")
    assert np.isnan(table.columns["a"][2])
    assert table.columns["b"].tolist() == ["x", None, "z"]
    assert table.columns["c"].dtype == np.int64
    (tmp_path / "cut").write_bytes((tmp_path / "d.data").read_bytes()[:100])
    with pytest.raises(InputError) as caught:
        load_table(tmp_path / "cut")
    assert caught.value.code == "data.unreadable"


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(InputError, match="`c`, only `a`, `b`") as caught:
        load_table(tmp_path / "t.csv").split_target("c")
    assert caught.value.code == "data.missing-column"
    assert "did you mean" not in caught.value.hint
    (tmp_path / "t.csv").write_text("Label,品种,b\n1,2,3\n", encoding="utf-8")
    for wrong, right in (("lable", "Label"), ("品種", "品种")):
        with pytest.raises(InputError) as caught:
            load_table(tmp_path / "t.csv").split_target(wrong)
        assert caught.value.hint == f"did you mean `{right}`?"
    (tmp_path / "t.csv").write_text(",".join(f"c{n}" for n in range(64)) + "\n" + "1," * 63 + "1\n")
    with pytest.raises(InputError, match="`c39` and 24 more"):
        load_table(tmp_path / "t.csv").split_target("y")


def test_the_digest_is_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a\n1\n")
    first = load_table(tmp_path / "t.csv").digest
    (tmp_path / "t.csv").write_bytes(b"a\n2\n")
    assert first.startswith("sha256:")
    assert load_table(tmp_path / "t.csv").digest != first
