"""Captured requests as arrays: from the tap's rows, a tensor each, to rows of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.dtypes import NUMPY

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

_WHOLE = "iub"


@dataclass(frozen=True, slots=True)
class Requests:
    """Rows of answered requests, in the order of time.

    Attributes:
        times: ISO 8601 in UTC, a row each.
        keys: `REQUEST_ID:ROW`, a row each.
        client_keys: `CLIENT_ID:ROW`, empty where the client gave no id.
        versions: which version answered, a row each.
        inputs: by name, rows on the first axis.
        outputs: by name, rows on the first axis.
    """

    times: Sequence[str]
    keys: Sequence[str]
    client_keys: Sequence[str]
    versions: Array
    inputs: dict[str, Array]
    outputs: dict[str, Array]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.keys)

    def take(self, rows: Array) -> Requests:
        """Some of the rows, in the order given."""
        return Requests(
            [self.times[i] for i in rows],
            [self.keys[i] for i in rows],
            [self.client_keys[i] for i in rows],
            self.versions[rows],
            {name: array[rows] for name, array in self.inputs.items()},
            {name: array[rows] for name, array in self.outputs.items()},
        )

    def said(self, labels: Sequence[str] = ()) -> list[str] | None:
        """The class of each row, as text; None for a model that names none.

        Args:
            labels: the classes' names, for outputs that hold a number per class.
        """
        scores = None
        for array in self.outputs.values():
            flat = array.reshape(len(array), -1)
            if flat.shape[1] == 1 and (array.dtype.kind in _WHOLE or array.dtype == object):
                return [str(value) for value in flat[:, 0].tolist()]
            if scores is None and flat.shape[1] > 1 and array.dtype.kind == "f":
                scores = flat
        if scores is None:
            return None
        best = scores.argmax(axis=1).tolist()
        names = labels if len(labels) == scores.shape[1] else range(scores.shape[1])
        return [str(names[index]) for index in best]

    def numbers(self) -> Array | None:
        """The one number of each row; None for a model that answers otherwise."""
        for array in self.outputs.values():
            if array.dtype.kind == "f" and array.size == len(array):
                return array.reshape(-1).astype("f8")
        return None


def read_requests(table: pa.Table) -> Requests:
    """The rows of a table in the tap's schema. Requests of another form than the newest's are left out:
    the model's inputs have changed since.
    """
    import numpy as np

    parsed: list[_Parsed] = []
    before: object = None
    for row in table.to_pylist():
        # A request of several people stands there once for each (`dukou.monitor.privacy`).
        rows = row.get("rows")
        this = (row["request_id"], rows and rows[0])
        if this != before:
            time = row["time"].isoformat(timespec="milliseconds")
            parsed.append(
                _Parsed(time, row["request_id"], row["client_id"], row["version"], rows, {}, {})
            )
            before = this
        place = parsed[-1].inputs if row["direction"] == "input" else parsed[-1].outputs
        place[row["name"]] = decode_tensor(row["dtype"], row["shape"], row["bytes"])
    if parsed:
        form = parsed[-1].form()
        parsed = [entry for entry in parsed if form and entry.form() == form]
    times, keys, client_keys, versions = [], [], [], []
    for entry in parsed:
        numbers = entry.rows or range(entry.count)
        times += [entry.time] * entry.count
        versions += [entry.version] * entry.count
        keys += [f"{entry.request}:{row}" for row in numbers]
        client_keys += [f"{entry.client}:{row}" if entry.client else "" for row in numbers]
    return Requests(
        times,
        keys,
        client_keys,
        np.array(versions, dtype=object),
        _join([entry.inputs for entry in parsed]),
        _join([entry.outputs for entry in parsed]),
    )


@dataclass(frozen=True, slots=True)
class _Parsed:
    """One request, or those of its rows that are one person's."""

    time: str
    request: str
    client: str | None
    version: str
    rows: list[int] | None
    inputs: dict[str, Array]
    outputs: dict[str, Array]

    @property
    def count(self) -> int:
        return len(next(iter({**self.inputs, **self.outputs}.values())))

    def form(self) -> object:
        return _form(self.inputs, self.outputs)


def _form(inputs: dict[str, Array], outputs: dict[str, Array]) -> object:
    """Names, types and shapes of a row; None where the tensors have no rows in common."""
    tensors = [*inputs.items(), *outputs.items()]
    if not tensors or len({array.shape[:1] for _, array in tensors}) != 1 or not tensors[0][1].ndim:
        return None
    return [(name, array.dtype.str, array.shape[1:]) for name, array in tensors]


def _join(parts: list[dict[str, Array]]) -> dict[str, Array]:
    import numpy as np

    if not parts:
        return {}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def decode_tensor(dtype: str, shape: Sequence[int], content: bytes) -> Array:
    """A tensor of the tap; `BYTES` as texts."""
    import numpy as np

    if dtype == "BYTES":
        texts, place = [], 0
        while place < len(content):
            length = int.from_bytes(content[place : place + 4], "little")
            text = content[place + 4 : place + 4 + length]
            texts.append(text.decode("utf-8", errors="replace"))
            place += 4 + length
        array = np.empty(len(texts), dtype=object)
        array[:] = texts
        return array.reshape(shape)
    if dtype == "BF16":
        wide = np.frombuffer(content, "<u2").astype("<u4") << 16
        return wide.view("<f4").reshape(shape)
    return np.frombuffer(content, NUMPY[dtype]).reshape(shape)


def encode_tensor(dtype: str, array: Array) -> bytes:
    """The inverse of `decode_tensor`, for whatever has the dtype's values."""
    import numpy as np

    if dtype == "BYTES":
        texts = [str(value).encode() for value in array.reshape(-1).tolist()]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    if dtype == "BF16":
        return bytes((np.asarray(array, "<f4").view("<u4") >> 16).astype("<u2").tobytes())
    return bytes(np.ascontiguousarray(array, NUMPY[dtype]).tobytes())
