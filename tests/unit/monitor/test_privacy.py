"""The tap's rows meet the policy before they are written; a person's rows open with that person's key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from dukou.monitor.labels import add_labels
from dukou.monitor.privacy import make_private
from dukou.monitor.requests import encode_tensor, read_requests
from dukou.monitor.store import CaptureStore
from dukou.trust.privacy.policy import PrivacyPolicy
from dukou.trust.privacy.secret import load_or_create_privacy_key, rotate_privacy_key
from dukou.trust.privacy.subjects import SubjectKeys

START = datetime(2026, 11, 24, tzinfo=UTC)
PEOPLE = ["王小明", "Ann Lee", "王小明"]
TEXTS = ["打 13800138000 找王小明", "a@example.com wrote", ""]


def text(*values: str) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def tapped(number: int, tensors: dict, *, subject: str | None = None, client: str | None = None):
    """One request as the tap gives it; `tensors` by `input.NAME` and `output.NAME`."""
    rows = []
    for name, (dtype, array) in tensors.items():
        direction, _, tensor = name.partition(".")
        rows.append(
            {
                "time": START + timedelta(seconds=number),
                "request_id": f"{number:016x}",
                "client_id": client,
                "subject": subject,
                "model": "m",
                "version": "1",
                "arm": "main",
                "revision": "r1",
                "direction": direction,
                "name": tensor,
                "dtype": dtype,
                "shape": list(array.shape),
                "bytes": encode_tensor(dtype, array),
            }
        )
    types = {"subject": pa.string(), "client_id": pa.string(), "shape": pa.list_(pa.int64())}
    table = pa.Table.from_pylist(rows)
    for name, type_ in types.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).cast(type_))
    return table


def people(number: int = 0, **more):
    """A request of three rows, with a matrix, texts and who they are of."""
    matrix = np.array(
        [[31, 13800138000, 1], [42, 13912345678, 2], [58, 13700000000, 3]], np.float64
    )
    return tapped(
        number,
        {
            "input.x": ("FP64", matrix),
            "input.who": ("BYTES", text(*PEOPLE)),
            "input.said": ("BYTES", text(*TEXTS)),
            "output.label": ("BYTES", text("yes", "no", "yes")),
            "output.echo": ("BYTES", text(*PEOPLE)),
            "output.score": ("FP32", np.array([0.5, 0.25, 1.0], np.float32)),
        },
        **more,
    )


POLICY = PrivacyPolicy.make(
    {"age": "generalize:10", "phone": "hash", "who": "drop", "said": "detect", "*": "keep"},
    columns=["age", "phone", "visits"],
    subject="",
)
LABELS = {"1": ("yes", "no")}


def test_every_field_is_kept_as_its_tag_says(tmp_path) -> None:
    key = load_or_create_privacy_key(tmp_path)
    private = make_private(people(client="13800138000"), POLICY, key, labels=LABELS)
    requests = read_requests(private)
    assert requests.inputs["x"][:, 0].tolist() == [30, 40, 50]
    assert requests.inputs["x"][:, 2].tolist() == [1, 2, 3]
    hashed = requests.inputs["x"][:, 1]
    assert len(set(hashed.tolist())) == 3
    assert not set(hashed.tolist()) & {13800138000, 13912345678, 13700000000}
    assert "who" not in requests.inputs
    assert requests.inputs["said"].tolist() == ["打 <phone> 找王小明", "<email> wrote", ""]
    assert requests.outputs["label"].tolist() == ["yes", "no", "yes"]
    assert requests.outputs["score"].tolist() == [0.5, 0.25, 1.0]
    assert requests.client_keys[0] == f"{key.client_id('13800138000')}:0"
    strict = PrivacyPolicy.make({"age": "keep"}, columns=["age", "phone", "visits"])
    requests = read_requests(make_private(people(), strict, key, labels=LABELS))
    assert requests.outputs["echo"].tolist() == ["***"] * 3, "a text that is no class"
    assert np.isnan(requests.inputs["x"][:, 1:]).all(), "what has no tag is not kept"
    assert list(requests.inputs) == ["x"]


def test_many_requests_are_changed_at_once_each_in_its_place(tmp_path) -> None:
    key = load_or_create_privacy_key(tmp_path)
    tables = [people(n) if n % 2 else people(n).slice(0, 1) for n in range(6)]
    private = make_private(pa.concat_tables(tables), POLICY, key, labels=LABELS)
    ids = private.column("request_id").to_pylist()
    assert ids == sorted(ids)
    for n in range(6):
        alone = make_private(tables[n], POLICY, key, labels=LABELS)
        together = private.filter(pa.compute.equal(private.column("request_id"), f"{n:016x}"))
        assert alone.to_pylist() == together.to_pylist()


def test_a_request_of_several_people_comes_apart(tmp_path) -> None:
    key = load_or_create_privacy_key(tmp_path)
    by_field = PrivacyPolicy.make({"*": "keep"}, subject="who", capture_untagged=True)
    store = CaptureStore(tmp_path, "m")
    for n in range(2):
        store.append(make_private(people(n), by_field, key, labels=LABELS))
    requests = store.read()
    assert sorted(requests.keys[:3]) == [f"{0:016x}:{row}" for row in range(3)]
    said = dict(zip(requests.keys, requests.inputs["who"].tolist(), strict=True))
    assert [said[f"{1:016x}:{row}"] for row in range(3)] == PEOPLE
    scores = dict(zip(requests.keys, requests.outputs["score"].tolist(), strict=True))
    assert [scores[f"{1:016x}:{row}"] for row in range(3)] == [0.5, 0.25, 1.0]
    owners = store.owners()
    assert owners[f"{0:016x}:0"] == owners[f"{1:016x}:2"] == key.pseudonym("王小明")
    assert owners[f"{0:016x}:1"] == key.pseudonym("Ann Lee")
    SubjectKeys(tmp_path).destroy([key.pseudonym("王小明")])
    assert store.read().inputs["who"].tolist() == ["Ann Lee"] * 2
    assert store.erase([key.pseudonym("王小明")]) == 12
    assert store.read().keys == [f"{0:016x}:1", f"{1:016x}:1"]


def test_whose_a_row_is_may_be_a_number_and_a_request_says_it_best(tmp_path) -> None:
    key = load_or_create_privacy_key(tmp_path)
    policy = PrivacyPolicy.make(
        {"*": "keep"}, columns=["age", "phone", "visits"], subject="phone", capture_untagged=True
    )
    private = make_private(people(), policy, key, labels=LABELS)
    assert set(private.column("subject").to_pylist()) == {
        key.pseudonym(number) for number in ("13800138000", "13912345678", "13700000000")
    }
    private = make_private(people(subject="Ann Lee"), policy, key, labels=LABELS)
    assert set(private.column("subject").to_pylist()) == {key.pseudonym("Ann Lee")}


def test_nothing_of_a_person_is_in_a_part_in_clear(tmp_path) -> None:
    key = load_or_create_privacy_key(tmp_path)
    store = CaptureStore(tmp_path, "m")
    everything = PrivacyPolicy.make({"*": "keep", "output.echo": "keep"})
    store.append(make_private(people(subject="王小明"), everything, key, labels=LABELS))
    (part,) = store.parts()
    kept = pa.parquet.read_table(part)
    assert set(kept.column("subject").to_pylist()) == {key.pseudonym("王小明")}
    for content in kept.column("bytes").to_pylist():
        assert "王小明".encode() not in content
    assert store.read().inputs["who"].tolist() == PEOPLE
    copy = part.read_bytes()
    SubjectKeys(tmp_path).destroy([key.pseudonym("王小明")])
    store.erase([key.pseudonym("王小明")])
    assert store.parts() == []
    part.write_bytes(copy)
    assert store.read().rows == 0, "a copy of the part is of no use without the key"


def test_what_comes_late_of_an_erased_person_is_not_written(tmp_path) -> None:
    key = load_or_create_privacy_key(tmp_path)
    store = CaptureStore(tmp_path, "m")
    everything = PrivacyPolicy.make({"*": "keep"})
    store.append(make_private(people(0, subject="a"), everything, key, labels=LABELS))
    SubjectKeys(tmp_path).destroy([key.pseudonym("a")])
    # The engine had answered it before, and the tap had it still.
    store.append(make_private(people(1, subject="a"), everything, key, labels=LABELS))
    assert store.read().rows == 0
    later = int((datetime.now(UTC) - START).total_seconds()) + 3600
    store.append(make_private(people(later, subject="a"), everything, key, labels=LABELS))
    assert store.read().rows == 3


def test_labels_are_kept_as_the_policy_says_and_sealed_for_people(tmp_path) -> None:
    key = load_or_create_privacy_key(tmp_path)
    store = CaptureStore(tmp_path, "m")
    store.append(make_private(people(0, subject="a", client="客户-7"), POLICY, key, labels=LABELS))
    store.append(make_private(people(1, client="客户-8"), POLICY, key, labels=LABELS))
    rotate_privacy_key(tmp_path)
    file = tmp_path / "labels.csv"
    lines = ["request_id,row,label", "客户-7,0,call 13800138000", "客户-8,2,no", f"{0:016x},1,yes"]
    file.write_text("\n".join(lines), encoding="utf-8")
    done = add_labels(tmp_path, "m", file, capturing=True)
    assert (done.added, done.joined) == (3, 3)
    labelled = store.read_labelled(newest_rows=10)
    assert labelled.truth.tolist() == ["call <phone>", "yes", "no"]
    kept = "".join(str(pa.parquet.read_table(p).to_pylist()) for p in store.parts())
    assert "客户" not in kept
    assert "call" not in kept, "the label of a person's row is sealed"
    SubjectKeys(tmp_path).destroy(key.pseudonyms("a"))
    assert store.read_labelled(newest_rows=10).truth.tolist() == ["no"]
    store.erase(key.pseudonyms("a"))
    assert store.count_labels() == 1


@pytest.mark.parametrize("dtype", ["FP16", "BF16", "FP32", "INT8", "UINT64", "BOOL"])
def test_every_dtype_comes_back_in_its_shape(tmp_path, dtype) -> None:
    key = load_or_create_privacy_key(tmp_path)
    array = np.ones((2, 3), np.float32 if dtype == "BF16" else bool)
    table = tapped(0, {"input.x": (dtype, array), "output.y": (dtype, array)})
    for tag in ("keep", "mask", "hash", "generalize:2", "generalize:0,1", "generalize:day"):
        policy = PrivacyPolicy.make({"x": tag})
        found = read_requests(make_private(table, policy, key, labels={}))
        assert found.inputs["x"].shape == (2, 3)
