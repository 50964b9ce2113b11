"""The tap's rows meet the privacy policy, before anything of them is written or gathered.

What comes out has the tap's columns (spec/tap.md) and one more, `rows`: which rows of the request these
are, where its rows belong to several people. `subject` and `client_id` are pseudonyms by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.monitor.requests import decode_tensor, encode_tensor
from dukou.trust.privacy.policy import PrivacyPolicy
from dukou.trust.privacy.secret import PrivacyKey
from dukou.trust.privacy.tags import DETECT, KEEP, Tag, apply_tag, apply_to_text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

_TEXT = "BYTES"


@dataclass(frozen=True, slots=True)
class _Kind:
    """Tensors that are alike: of one name and dtype, with rows of one shape."""

    direction: str
    name: str
    dtype: str
    row_shape: tuple[int, ...]


def make_private(
    table: pa.Table, policy: PrivacyPolicy, key: PrivacyKey, *, labels: Mapping[str, Sequence[str]]
) -> pa.Table:
    """What may be kept of requests.

    Args:
        table: rows of the tap, of one model.
        policy: the model's.
        key: the installation's.
        labels: version → its classes, which a text answer may be.

    Returns:
        Rows in the same order, fewer where fields are dropped.
    """
    import pyarrow as pa

    lines = _Lines(table)
    if policy.subject:
        lines.find_subjects(policy)
    for kind, places in lines.kinds().items():
        _apply(lines, kind, places, policy, key.current, labels)
    kept = [place for place in range(lines.count) if place not in lines.dropped]
    columns = {name: lines.column(name) for name in table.column_names if name != "bytes"}
    columns["bytes"] = lines.contents
    columns["rows"] = lines.rows
    pseudonyms = {s: key.pseudonym(s) for s in set(lines.subjects) if s is not None}
    columns["subject"] = [s and pseudonyms[s] for s in lines.subjects]
    ids = {c: key.client_id(c) for c in set(columns["client_id"]) if c is not None}
    columns["client_id"] = [c and ids[c] for c in columns["client_id"]]
    schema = table.schema
    for name, type_ in (("subject", pa.string()), ("rows", pa.list_(pa.int32()))):
        if name not in schema.names:
            schema = schema.append(pa.field(name, type_))
    arrays = [
        pa.array([columns[field.name][place] for place in kept], field.type) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


class _Lines:
    """The table's rows, as lists that can be changed."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._columns: dict[str, list[Any]] = {}
        self.count = table.num_rows
        self.contents: list[bytes] = table.column("bytes").to_pylist()
        self.subjects: list[str | None] = (
            table.column("subject").to_pylist()
            if "subject" in table.column_names
            else [None] * self.count
        )
        self.rows: list[list[int] | None] = [None] * self.count
        self.dropped: set[int] = set()
        # Requests of several people: where they stand, their tensors, each person's rows.
        self._apart: list[tuple[range, list[Array], dict[str | None, list[int]]]] = []

    def column(self, name: str) -> list[Any]:
        if name not in self._columns:
            self._columns[name] = self._table.column(name).to_pylist()
        return self._columns[name]

    def kinds(self) -> dict[_Kind, list[int]]:
        """Where tensors of each kind stand."""
        found: dict[_Kind, list[int]] = {}
        parts = (self.column(name) for name in ("direction", "name", "dtype", "shape"))
        for place, (direction, name, dtype, shape) in enumerate(zip(*parts, strict=True)):
            if place not in self.dropped:
                found.setdefault(_Kind(direction, name, dtype, tuple(shape[1:])), []).append(place)
        return found

    def tensor(self, place: int) -> Array:
        return decode_tensor(
            self.column("dtype")[place], self.column("shape")[place], self.contents[place]
        )

    def put(self, place: int, array: Array) -> None:
        self.contents[place] = encode_tensor(self.column("dtype")[place], array)
        self.column("shape")[place] = list(array.shape)

    def find_subjects(self, policy: PrivacyPolicy) -> None:
        """Whose a row is, from the field that says it; a request of several people comes apart."""
        ids = self.column("request_id")
        start = 0
        while start < self.count:
            end = start + 1
            while end < self.count and ids[end] == ids[start]:
                end += 1
            if self.subjects[start] is None:
                self._divide(range(start, end), policy)
            start = end
        self._write_apart()

    def _divide(self, places: range, policy: PrivacyPolicy) -> None:
        said = self._subjects_of(places, policy)
        if said is None:
            return
        people = list(dict.fromkeys(said))
        if len(people) == 1:
            for place in places:
                self.subjects[place] = people[0]
            return
        tensors = [self.tensor(place) for place in places]
        if any(t.shape[:1] != (len(said),) for t in tensors):
            # Rows that cannot be told apart belong to nobody alone: they are not kept.
            self.dropped.update(places)
            return
        groups = {person: [r for r, s in enumerate(said) if s == person] for person in people}
        self._apart.append((places, tensors, groups))

    def _subjects_of(self, places: range, policy: PrivacyPolicy) -> list[str | None] | None:
        for place in places:
            if self.column("direction")[place] != "input":
                continue
            name, shape = self.column("name")[place], self.column("shape")[place]
            width = 1
            for extent in shape[1:]:
                width *= extent
            index = _index_of(policy, name, width)
            if index is None or not shape:
                continue
            flat = self.tensor(place).reshape(shape[0], -1)
            if index < flat.shape[1]:
                return [_person(value) for value in flat[:, index].tolist()]
        return None

    def _write_apart(self) -> None:
        """Puts the parts of divided requests where the requests stood."""
        apart, self._apart = self._apart, []
        if not apart:
            return
        for name in self._table.column_names:
            if name not in ("bytes", "subject"):
                self.column(name)
        order: list[tuple[int, list[int] | None, str | None, Array | None]] = []
        divided = {places.start: (places, tensors, groups) for places, tensors, groups in apart}
        place = 0
        while place < self.count:
            if place not in divided:
                order.append((place, None, self.subjects[place], None))
                place += 1
                continue
            places, tensors, groups = divided[place]
            for person, rows in groups.items():
                order += [
                    (at, rows, person, tensor[rows])
                    for at, tensor in zip(places, tensors, strict=True)
                ]
            place = places.stop
        gone = {new for new, entry in enumerate(order) if entry[0] in self.dropped}
        self._columns = {
            name: [column[entry[0]] for entry in order] for name, column in self._columns.items()
        }
        self.contents = [self.contents[entry[0]] for entry in order]
        self.rows = [entry[1] for entry in order]
        self.subjects = [entry[2] for entry in order]
        self.count, self.dropped = len(order), gone
        for new, (_, _, _, array) in enumerate(order):
            if array is not None:
                self.put(new, array)


def _apply(
    lines: _Lines,
    kind: _Kind,
    places: list[int],
    policy: PrivacyPolicy,
    secret: bytes,
    labels: Mapping[str, Sequence[str]],
) -> None:
    """The tags of one kind of tensors, for all of them at once."""
    width = 1
    for extent in kind.row_shape:
        width *= extent
    text = kind.dtype == _TEXT
    if kind.direction == "output":
        tag = policy.output_tag(kind.name)
        if tag is None and text:
            _check_answers(lines, places, policy, secret, labels)
            return
        tags: tuple[Tag, ...] = (tag or KEEP,)
    else:
        tags = policy.input_tags(kind.name, width, text=text)
    if all(tag.kind == "keep" or (tag == DETECT and not text) for tag in tags):
        return
    if len(tags) == 1 and tags[0].kind == "drop":
        lines.dropped.update(places)
        return
    _change(lines, places, tags, secret)


def _change(lines: _Lines, places: list[int], tags: tuple[Tag, ...], secret: bytes) -> None:
    import numpy as np

    tensors = [lines.tensor(place) for place in places]
    if len(tags) == 1:
        joined = np.concatenate([tensor.reshape(-1) for tensor in tensors])
        changed = apply_tag(tags[0], joined, secret)
        ends = np.cumsum([tensor.size for tensor in tensors])[:-1]
        parts = np.split(changed, ends)
    else:
        flat = np.concatenate([tensor.reshape(-1, len(tags)) for tensor in tensors])
        for tag in set(tags):
            columns = [index for index, own in enumerate(tags) if own == tag]
            flat[:, columns] = apply_tag(tag, flat[:, columns], secret)
        ends = np.cumsum([tensor.size // len(tags) for tensor in tensors])[:-1]
        parts = np.split(flat, ends)
    for place, tensor, part in zip(places, tensors, parts, strict=True):
        lines.put(place, part.reshape(tensor.shape))


def _check_answers(
    lines: _Lines,
    places: list[int],
    policy: PrivacyPolicy,
    secret: bytes,
    labels: Mapping[str, Sequence[str]],
) -> None:
    """Text that a model answers may be its caller's own words; the names of its classes are not."""
    tag = policy.text_answer_tag()
    versions = lines.column("version")
    for place in places:
        known = set(labels.get(versions[place], ()))
        array = lines.tensor(place)
        flat = array.reshape(-1)
        said = [v if v in known else apply_to_text(tag, v, secret) for v in flat.tolist()]
        if said != flat.tolist():
            changed = flat.copy()
            changed[:] = said
            lines.put(place, changed.reshape(array.shape))


def _index_of(policy: PrivacyPolicy, name: str, width: int) -> int | None:
    """Where in a row of this tensor the subject's field stands; None where it does not."""
    field, bracket, rest = policy.subject.partition("[")
    if name == policy.subject:
        return 0
    if bracket and name == field and rest.rstrip("]").isdigit():
        return int(rest.rstrip("]"))
    if name not in policy.columns and width == len(policy.columns):
        return policy.columns.index(policy.subject) if policy.subject in policy.columns else None
    return None


def _person(value: Any) -> str | None:
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
