"""Labels that come later: read from a file, joined to captured requests by id."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError, StateError
from dukou.monitor.store import REQUEST_ID_DIGITS, CaptureStore
from dukou.trust.privacy.policy import PrivacyPolicy
from dukou.trust.privacy.secret import PrivacyKey, load_or_create_privacy_key
from dukou.trust.privacy.tags import KEEP, apply_to_text


@dataclass(frozen=True, slots=True)
class Added:
    """What came of adding labels.

    Attributes:
        added: labels kept.
        joined: of these, those of captured rows.
        unknown: keys (`ID:ROW`) of no captured row; they stay, for a request that is still to be read.
        twice: labels that a later line of the same file replaced.
    """

    added: int
    joined: int
    unknown: tuple[str, ...]
    twice: int

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "added": self.added,
            "joined": self.joined,
            "unknown": list(self.unknown[:100]),
            "unknown_count": len(self.unknown),
            "twice": self.twice,
        }


def add_labels(
    home: Path,
    model: str,
    file: Path,
    *,
    capturing: bool,
    policy: PrivacyPolicy | None = None,
) -> Added:
    """Reads a CSV of labels and keeps them: of a person's rows sealed, of all as the policy says.

    Args:
        home: DUKOU_HOME.
        model: whose requests they are of.
        file: with the columns `request_id`, `label` and maybe `row`.
        capturing: whether the model's deployment asks for requests to be kept.
        policy: the model's; where there is none, labels are kept without what patterns find.

    Raises:
        InputError: `labels.invalid`, with the column or the line; `data.unreadable`, `data.empty`.
        StateError: `monitor.no-capture`, where nothing of the model was captured.
    """
    store = CaptureStore(home, model)
    if not store.days() and not capturing:
        raise StateError("monitor.no-capture", f"no request of `{model}` was captured")
    labels, twice = read_labels(file)
    policy = policy or PrivacyPolicy()
    tag = policy.label_tag()
    newest = store.read(newest_rows=1)
    if newest.rows and newest.said() is None and newest.numbers() is not None:
        _require_numbers(file, labels)
        # A number that was predicted may read like a telephone's, and is none.
        tag = tag if policy.target in policy.fields else KEEP
    secret = load_or_create_privacy_key(home)
    names = {key: _names_on_disk(key, secret) for key in labels}
    known = store.find_keys(name for found in names.values() for name in found)
    kept: dict[str, str] = {}
    unknown = []
    for key, label in labels.items():
        name = next((name for name in names[key] if name in known), None)
        if name is None:
            unknown.append(key)
        if tag.kind != "drop":
            kept[name or names[key][0]] = apply_to_text(tag, label, secret.current)
    store.add_labels(kept, people=store.owners())
    return Added(len(labels), len(labels) - len(unknown), tuple(unknown), twice)


def _names_on_disk(key: str, secret: PrivacyKey) -> list[str]:
    """What `ID:ROW` may be called: an id of ours as it is, a client's own by its keyed hashes."""
    said, _, row = key.rpartition(":")
    hashed = [f"{name}:{row}" for name in secret.client_ids(said)]
    is_ours = len(said) == REQUEST_ID_DIGITS and all(c in "0123456789abcdef" for c in said)
    return [key, *hashed] if is_ours else hashed


def _require_numbers(file: Path, labels: dict[str, str]) -> None:
    for key, label in labels.items():
        try:
            finite = math.isfinite(float(label))
        except ValueError:
            finite = False
        if not finite:
            raise InputError(
                "labels.invalid",
                f"`{file}`: the label of `{key}` is `{label}`, the model answers numbers",
            )


def read_labels(file: Path) -> tuple[dict[str, str], int]:
    """`ID:ROW` → label, and how many lines named a row again.

    Raises:
        InputError: `labels.invalid`, `data.unreadable`, `data.empty`.
    """
    from dukou.evaluate.data import read_cells

    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(
            "data.unreadable",
            f"`{file}` cannot be read: {error.strerror}",
            hint="Name a CSV file with the columns `request_id` and `label`.",
        ) from None
    # As text: an id of sixteen digits is no number.
    header, rows = read_cells(content, str(file))
    missing = [name for name in ("request_id", "label") if name not in header]
    if missing:
        raise InputError(
            "labels.invalid",
            f"`{file}` has no column {' and '.join(f'`{m}`' for m in missing)}, only "
            f"{', '.join(f'`{name}`' for name in header[:10])}",
        )
    if not rows:
        raise InputError("data.empty", f"`{file}` has a header and no label")
    labels: dict[str, str] = {}
    for line, cells in rows:
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        for name in ("request_id", "label"):
            if not row[name]:
                raise InputError("labels.invalid", f"`{file}` line {line}: `{name}` is empty")
        number = row.get("row", "0")
        if not (number.isascii() and number.isdigit()):
            raise InputError(
                "labels.invalid", f"`{file}` line {line}: `row` is `{number}`, must be 0, 1, 2 …"
            )
        labels[f"{row['request_id']}:{int(number)}"] = row["label"]
    return labels, len(rows) - len(labels)
