"""Captures on disk: what goes in comes out, within its bounds; labels find their requests."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dukou.base.errors import InputError, StateError
from dukou.monitor.labels import add_labels, read_labels
from dukou.monitor.privacy import make_private
from dukou.monitor.quality import judge_served
from dukou.monitor.requests import read_requests
from dukou.monitor.store import CaptureStore
from dukou.trust.privacy.policy import PrivacyPolicy
from dukou.trust.privacy.secret import load_or_create_privacy_key

START = datetime(2026, 11, 24, tzinfo=UTC)


def tapped(first: int, count: int, *, rows: int = 1, version: str = "1") -> pa.Table:
    """Requests as the tap gives them; the answer is the first feature."""
    lines = []
    for number in range(first, first + count):
        x = np.full((rows, 2), number % 3, np.float32)
        for direction, name, dtype, array in (
            ("input", "x", "FP32", x),
            ("output", "label", "INT64", x[:, 0].astype(np.int64)),
        ):
            lines.append(
                {
                    "time": START + timedelta(seconds=number),
                    "request_id": f"{number:016x}",
                    "client_id": f"mine-{number}",
                    "model": "m",
                    "version": version,
                    "arm": "main",
                    "revision": "r1",
                    "direction": direction,
                    "name": name,
                    "dtype": dtype,
                    "shape": list(array.shape),
                    "bytes": array.tobytes(),
                }
            )
    return pa.Table.from_pylist(lines)


def test_what_was_captured_is_read_back_row_by_row(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 3, rows=2))
    store.append(tapped(3, 2, rows=2, version="2"))
    requests = store.read()
    assert requests.rows == 10
    assert requests.keys[:3] == [f"{0:016x}:0", f"{0:016x}:1", f"{1:016x}:0"]
    assert requests.versions.tolist() == ["1"] * 6 + ["2"] * 4
    assert requests.inputs["x"].shape == (10, 2)
    assert requests.said() == ["0", "0", "1", "1", "2", "2", "0", "0", "1", "1"]
    assert store.read(newest_rows=4).keys == requests.keys[-4:]
    (day,) = store.days()
    assert stat.S_IMODE(day.stat().st_mode) == 0o700
    assert {stat.S_IMODE(part.stat().st_mode) for part in day.iterdir()} == {0o600}


def test_many_parts_become_one_and_nothing_is_lost(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path, "m")
    for number in range(70):
        store.append(tapped(number, 1))
    assert store.read().keys == [f"{number:016x}:0" for number in range(70)]
    assert len(list(store.days()[0].glob("*.parquet"))) < 10


def test_readers_meet_a_writer_that_puts_parts_together(tmp_path: Path) -> None:
    import threading

    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 1))
    ended = threading.Event()

    def write() -> None:
        for number in range(1, 200):
            store.append(tapped(number, 1))
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not ended.is_set():
        keys = store.read().keys
        assert len(set(keys)) == len(keys) >= seen
        seen = len(keys)
    writer.join()
    assert store.read().rows == 200


def test_a_part_that_stands_there_twice_is_read_once(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 3))
    (part,) = store.days()[0].glob("*.parquet")
    (part.parent / "00000099.parquet").write_bytes(part.read_bytes())
    assert store.read().rows == 3


def test_the_oldest_go_when_the_bound_is_reached(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path, "m")
    for number in range(5):
        store.append(tapped(10 * number, 10))
    size = sum(part.stat().st_size for part in store.days()[0].iterdir())
    assert store.trim(max_bytes=size) == 0
    assert store.trim(max_bytes=size * 3 // 5) > 0
    assert store.read().keys[-1] == f"{49:016x}:0"
    assert store.read().rows in (20, 30)
    old = store.days()[0].rename(store.folder / "2020-01-01")
    assert store.trim(max_bytes=1 << 30, keep=timedelta(days=30)) > 0
    assert not old.exists()


def test_requests_of_another_form_than_the_newest_are_left_out() -> None:
    wide = pa.concat_tables([tapped(0, 2), tapped(2, 1)])
    columns = wide.to_pylist()
    columns[0]["shape"], columns[0]["bytes"] = [1, 4], bytes(16)
    assert read_requests(pa.Table.from_pylist(columns, wide.schema)).rows == 2


def test_labels_join_by_the_requests_id_or_the_callers_own(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path, "m")
    key = load_or_create_privacy_key(tmp_path)
    everything = PrivacyPolicy.make({"*": "keep"})
    store.append(make_private(tapped(0, 30), everything, key, labels={}))
    file = tmp_path / "标签.csv"
    lines = ["request_id,label"]
    lines += [f"{number:016x},{number % 3}" for number in range(20)]
    lines += [f"mine-{number},9" for number in range(20, 24)]
    lines += ["unheard-of,1", f"{0:016x},2"]
    file.write_bytes("\n".join(lines).encode("gb18030"))
    done = add_labels(tmp_path, "m", file, capturing=False)
    assert (done.added, done.joined, done.unknown, done.twice) == (25, 24, ("unheard-of:0",), 1)
    labelled = store.read_labelled(newest_rows=100)
    assert labelled.requests.rows == 24
    found = judge_served(labelled, ())
    # The first was labelled otherwise by a later line; the callers' own four are wrong.
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(19 / 24)
    assert found["metrics"]["accuracy"]["low"] < 19 / 24 < found["metrics"]["accuracy"]["high"]
    assert found["versions"]["1"]["rows"] == 24
    assert {"recall_macro", "f1_macro"} <= set(found["metrics"])
    assert store.read_labelled(newest_rows=5).requests.keys[-1] == f"{23:016x}:0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,label\n1,2\n", "no column `request_id`"),
        ("request_id,label\n1,\n", "line 2: `label` is empty"),
        ("request_id,row,label\n1,x,2\n", "line 2: `row` is `x`"),
        ("request_id,row,label\n1,-1,2\n", "line 2: `row` is `-1`"),
    ],
)
def test_a_file_of_labels_that_cannot_be_read_says_where(tmp_path, text, said) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_labels(file)
    assert refused.value.code == "labels.invalid"
    assert said in refused.value.message


def test_a_file_without_a_label_says_so(tmp_path) -> None:
    file = tmp_path / "labels.csv"
    for text, said in (("", "is empty"), ("request_id,label\n", "has a header and no label")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said) as refused:
            read_labels(file)
        assert refused.value.code == "data.empty"


def test_without_captures_labels_have_nothing_to_join(tmp_path) -> None:
    with pytest.raises(StateError) as refused:
        add_labels(tmp_path, "m", tmp_path / "labels.csv", capturing=False)
    assert refused.value.code == "monitor.no-capture"
    with pytest.raises(InputError, match="cannot be read"):
        add_labels(tmp_path, "m", tmp_path / "labels.csv", capturing=True)
