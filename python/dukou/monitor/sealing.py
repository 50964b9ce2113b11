"""What is kept of a person is sealed with that person's key, a value at a time, inside the parts.

A part can so hold the rows of many people, and those of one become unreadable everywhere, in a copy of
the part too, when the one key is destroyed (`dukou.trust.privacy.subjects`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from dukou.trust.privacy.subjects import SubjectKey, SubjectKeys

if TYPE_CHECKING:
    import pyarrow as pa


def seal_rows(table: pa.Table, keys: SubjectKeys) -> pa.Table:
    """The rows with `bytes` sealed where they are a person's.

    Args:
        table: what may be kept (`dukou.monitor.privacy`).
        keys: of the installation; made for those who have none.

    Returns:
        The same rows, but for those of people who were erased after they asked.
    """
    import pyarrow as pa

    people = _people(table)
    if not any(people):
        return table
    known = keys.make(person for person in people if person)
    erased = {name: datetime.fromisoformat(k.erased) for name, k in known.items() if k.erased}
    contents = table.column("bytes").to_pylist()
    times = table.column("time").to_pylist() if erased else []
    kept = []
    for place, (person, where) in enumerate(zip(people, _places(table), strict=True)):
        if person is not None:
            if person in erased and times[place] <= erased[person]:
                continue
            contents[place] = known[person].seal(contents[place], where)
        kept.append(place)
    sealed = _with_bytes(table, contents)
    return sealed if len(kept) == len(people) else sealed.take(pa.array(kept, pa.int64()))


def open_rows(table: pa.Table, keys: SubjectKeys) -> pa.Table:
    """The inverse of `seal_rows`; without the rows of people whose key is gone.

    Raises:
        TrustError: `privacy.damaged`.
    """
    import pyarrow as pa

    people = _people(table)
    if not any(people):
        return table
    known = keys.get(person for person in people if person)
    contents = table.column("bytes").to_pylist()
    kept = []
    for place, (person, where) in enumerate(zip(people, _places(table), strict=True)):
        if person is not None:
            if person not in known or not known[person].has_sealed(contents[place]):
                continue
            contents[place] = known[person].open(contents[place], where)
        kept.append(place)
    if len(kept) == len(people):
        return _with_bytes(table, contents)
    found = table.take(pa.array(kept, pa.int64()))
    return _with_bytes(found, [contents[place] for place in kept])


def seal_label(label: str, key: str, person: SubjectKey) -> str:
    """A label of a person's row, as text."""
    return base64.b64encode(person.seal(label.encode(), f"label\0{key}")).decode()


def open_label(sealed: str, key: str, person: str, known: Mapping[str, SubjectKey]) -> str | None:
    """The inverse of `seal_label`; None where the person's key is gone."""
    content = base64.b64decode(sealed)
    if person not in known or not known[person].has_sealed(content):
        return None
    return known[person].open(content, f"label\0{key}").decode()


def _people(table: pa.Table) -> list[str | None]:
    if "subject" not in table.column_names:
        return [None] * table.num_rows
    people: list[str | None] = table.column("subject").to_pylist()
    return people


def _places(table: pa.Table) -> list[str]:
    names = ("request_id", "direction", "name")
    parts = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    return ["\0".join(part) for part in parts]


def _with_bytes(table: pa.Table, contents: list[bytes]) -> pa.Table:
    import pyarrow as pa

    place = table.column_names.index("bytes")
    return table.set_column(place, "bytes", pa.array(contents, pa.binary()))
