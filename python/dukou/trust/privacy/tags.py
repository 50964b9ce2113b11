"""What a field is tagged as, and what that makes of a column of values.

    keep                 as it is
    detect               a text without the pieces that patterns find
    mask                 `***`, NaN, 0
    hash                 a keyed hash: equal values stay equal, in this installation alone
    generalize:10        numbers in steps of 10: 38 becomes 30
    generalize:0,18,65   the lower end of the bin that a number is in
    generalize:prefix=3  the first three characters, or digits
    generalize:day       a time's day (also `month`, `year`)
    drop                 nothing is kept of it

A column keeps its length and its type: what is behind it (drift, labels, retraining) reads it as before.
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import itertools
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.trust.privacy.patterns import mask_personal

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MASKED = "***"
_PLAIN = ("keep", "detect", "mask", "hash", "drop")
_KINDS = (*_PLAIN, "generalize")
_PERIODS = ("day", "month", "year")
# Where a number of seconds since 1970 would be beyond the year 5000 it is one of milliseconds.
_SECONDS_END = 1e11
# Whole numbers that a float of so many bytes holds exactly.
_EXACT_BITS = {2: 11, 4: 24, 8: 53}


@dataclass(frozen=True, slots=True)
class Tag:
    """What is made of a field's values.

    Attributes:
        text: as written.
        kind: its first word.
        step: of `generalize:10`; 0 where it is another.
        edges: of `generalize:0,18,65`.
        prefix: of `generalize:prefix=3`.
        period: of `generalize:day`.
    """

    text: str
    kind: str
    step: float = 0.0
    edges: tuple[float, ...] = ()
    prefix: int = 0
    period: str = ""

    @property
    def keeps_values(self) -> bool:
        """Whether what is left still says what the value was, if coarser."""
        return self.kind in ("keep", "detect", "generalize")

    @property
    def changes_numbers(self) -> bool:
        """Whether a number may become another."""
        return self.kind not in ("keep", "detect")


KEEP, DETECT, MASK, DROP = (Tag(word, word) for word in ("keep", "detect", "mask", "drop"))


def parse_tag(text: str, field: str) -> Tag:
    """A tag as people write it.

    Args:
        text: as in the module's list.
        field: whose it is, for the message.

    Raises:
        InputError: `privacy.invalid`.
    """
    kind, colon, rest = text.strip().partition(":")
    if kind in _PLAIN and not colon:
        return Tag(text.strip(), kind)
    if kind == "generalize":
        found = _parse_generalize(text.strip(), rest.strip())
        if found is not None:
            return found
        raise InputError(
            "privacy.invalid",
            f"`privacy.fields.{field}` is `{text}`: `generalize` needs a step above 0, edges that rise, "
            "`prefix=N`, `day`, `month` or `year` behind its colon",
            hint="for example `generalize:10`, `generalize:0,18,65`, `generalize:prefix=3`, "
            "`generalize:day`",
        )
    near = difflib.get_close_matches(kind, _KINDS, n=1)
    raise InputError(
        "privacy.invalid",
        f"`privacy.fields.{field}` is `{text}`, must be {', '.join(_KINDS[:-1])} or generalize:…",
        hint=f"did you mean `{near[0]}`?" if near else None,
    )


def _parse_generalize(text: str, rest: str) -> Tag | None:
    if rest in _PERIODS:
        return Tag(text, "generalize", period=rest)
    prefix = re.fullmatch(r"prefix=(\d{1,4})", rest)
    if prefix:
        return Tag(text, "generalize", prefix=int(prefix[1])) if int(prefix[1]) else None
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        return None
    if not all(map(math.isfinite, numbers)):
        return None
    if len(numbers) == 1:
        return Tag(text, "generalize", step=numbers[0]) if numbers[0] > 0 else None
    if any(low >= high for low, high in itertools.pairwise(numbers)):
        return None
    return Tag(text, "generalize", edges=tuple(numbers))


def keyed_hash(key: bytes, value: str) -> str:
    """32 hexadecimal digits: HMAC-SHA256 of the value, cut."""
    return hmac.new(key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def apply_tag(tag: Tag, column: Array, key: bytes) -> Array:
    """What the tag makes of a column.

    Args:
        tag: the field's.
        column: numbers, truth values, or texts (object; str, bytes or None) of any shape.
        key: the installation's, for `hash`.

    Returns:
        A column of the same shape and dtype. What is dropped is missing (NaN, 0, `***`): taking the
        field itself away is for whoever knows where it stands.
    """
    if tag.kind == "keep" or not column.size:
        return column
    if column.dtype.kind in "OUS":
        return _apply_to_texts(tag, column, key)
    if tag.kind == "detect":
        return column
    if tag.kind == "hash":
        return _hash_numbers(column, key)
    if tag.kind == "generalize":
        return column if column.dtype.kind == "b" else _generalize_numbers(tag, column)
    return _mask_numbers(column)


def apply_to_text(tag: Tag, text: str, key: bytes) -> str:
    """What the tag makes of one text; an empty one stays empty."""
    if not text or tag.kind == "keep":
        return text
    if tag.kind == "detect":
        return mask_personal(text)
    if tag.kind == "hash":
        return keyed_hash(key, text)
    if tag.kind == "generalize":
        return _generalize_text(tag, text)
    return MASKED


def _apply_to_texts(tag: Tag, column: Array, key: bytes) -> Array:
    import numpy as np

    known: dict[Any, Any] = {}
    for value in column.reshape(-1).tolist():
        if value not in known:
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            known[value] = None if text is None else apply_to_text(tag, str(text), key)
    changed = np.empty(column.size, dtype=object)
    changed[:] = [known[value] for value in column.reshape(-1).tolist()]
    return changed.reshape(column.shape)


def _mask_numbers(column: Array) -> Array:
    import numpy as np

    return np.full_like(column, np.nan if column.dtype.kind == "f" else 0)


def _hash_numbers(column: Array, key: bytes) -> Array:
    """A whole number as wide as the dtype holds exactly; what is missing stays missing."""
    import numpy as np

    if column.dtype.kind == "b":
        return _mask_numbers(column)
    width = column.dtype.itemsize
    signed = column.dtype.kind == "i"
    bits = _EXACT_BITS[width] if column.dtype.kind == "f" else 8 * width - signed
    known: dict[Any, Any] = {}
    for value in column.reshape(-1).tolist():
        if value not in known and value == value:
            whole = isinstance(value, float) and value.is_integer()
            text = str(int(value)) if whole else repr(value)
            known[value] = int(keyed_hash(key, text), 16) >> (128 - bits)
    hashed = [known.get(value, value) for value in column.reshape(-1).tolist()]
    return np.array(hashed, dtype=column.dtype).reshape(column.shape)


def _generalize_numbers(tag: Tag, column: Array) -> Array:
    import numpy as np

    if column.dtype.kind == "f":
        with np.errstate(all="ignore"):
            wide = column.astype(np.float64)
            coarse = _generalize_floats(tag, wide)
            # A finite value stays one that its dtype has.
            limits = np.finfo(column.dtype)
            held = np.clip(coarse, float(limits.min), float(limits.max))
            return np.where(np.isfinite(wide), held, coarse).astype(column.dtype)
    info = np.iinfo(column.dtype)
    flat = column.reshape(-1).tolist()
    known = {
        value: min(max(_generalize_whole(tag, value), info.min), info.max) for value in set(flat)
    }
    return np.array([known[value] for value in flat], column.dtype).reshape(column.shape)


def _generalize_floats(tag: Tag, values: Array) -> Array:
    import numpy as np

    if tag.step:
        stepped = np.floor(values / tag.step) * tag.step
        return np.where(np.isfinite(values) & np.isfinite(stepped), stepped, values)
    if tag.edges:
        edges = np.asarray(tag.edges)
        places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, None)
        return np.where(np.isnan(values), values, edges[places])
    known: dict[float, float] = {}
    for value in values.reshape(-1).tolist():
        if value not in known and value == value:
            known[value] = value
            if tag.period:
                known[value] = _generalize_moment(tag, value)
            elif math.isfinite(value):
                known[value] = _as_float(_lead(math.floor(value), tag.prefix))
    changed = [known.get(value, value) for value in values.reshape(-1).tolist()]
    return np.array(changed).reshape(values.shape)


def _generalize_whole(tag: Tag, value: int) -> int:
    if tag.step:
        if tag.step.is_integer():
            return value // int(tag.step) * int(tag.step)
        return math.floor(math.floor(value / tag.step) * tag.step)
    if tag.edges:
        return math.floor(max([edge for edge in tag.edges if edge <= value], default=tag.edges[0]))
    if tag.period:
        return math.floor(_generalize_moment(tag, value))
    return _lead(value, tag.prefix)


def _lead(whole: int, digits: int) -> int:
    """The first digits of a whole number, zeros behind them, towards minus infinity."""
    zeros: int = 10 ** max(0, len(str(abs(whole))) - digits)
    return whole // zeros * zeros


def _as_float(whole: int) -> float:
    """A whole number, or the infinity on its side where no float is so large."""
    try:
        return float(whole)
    except OverflowError:
        return math.inf if whole > 0 else -math.inf


def _generalize_moment(tag: Tag, value: float) -> float:
    unit = 1000 if abs(value) >= _SECONDS_END else 1
    try:
        moment = datetime.fromtimestamp(value / unit, UTC)
    except (OverflowError, ValueError, OSError):
        return value if not math.isfinite(value) else 0
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if tag.period != "day":
        start = start.replace(day=1)
    if tag.period == "year":
        start = start.replace(month=1)
    return start.timestamp() * unit


def _generalize_text(tag: Tag, text: str) -> str:
    if tag.prefix:
        return text[: tag.prefix]
    if tag.period:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            return MASKED
        return moment.date().isoformat()[: {"day": 10, "month": 7, "year": 4}[tag.period]]
    try:
        value = float(text)
    except ValueError:
        return MASKED
    if not math.isfinite(value):
        return MASKED
    if tag.step:
        coarse = math.floor(value / tag.step) * tag.step
    else:
        coarse = max([edge for edge in tag.edges if edge <= value], default=tag.edges[0])
    return f"{coarse:g}" if abs(coarse) < 1e6 else repr(coarse)
