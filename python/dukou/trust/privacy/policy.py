"""A model's privacy policy: which of its fields may be kept, and in what form.

A field is a column of the data or an input tensor by its name, one element of a tensor's row as
`name[3]`, an answer as `output.name`, and `*` every field of a request that has no tag of its own.
What has no tag is not kept, unless the user has said so.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dukou.base.errors import InputError
from dukou.trust.privacy.tags import DETECT, DROP, KEEP, MASK, Tag, parse_tag

EVERY = "*"
OUTPUT = "output."


@dataclass(frozen=True, slots=True)
class PrivacyPolicy:
    """What may be kept of a model's requests and answers, of its labels, and of what travels with it.

    Attributes:
        fields: field → tag.
        columns: of a model whose one input is a matrix: the names of its columns, in order.
        target: the column that labels are of; empty where there is none.
        subject: the field that says whose a row is, where a request does not say it itself.
        capture_untagged: the user's word that fields without a tag may be kept: numbers as they are,
            texts without what patterns find.
    """

    fields: Mapping[str, Tag] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    target: str = ""
    subject: str = ""
    capture_untagged: bool = False

    @classmethod
    def make(
        cls,
        fields: Mapping[str, str],
        *,
        columns: Sequence[str] = (),
        target: str = "",
        subject: str = "",
        capture_untagged: bool = False,
    ) -> PrivacyPolicy:
        """A policy of tags as people write them.

        Raises:
            InputError: `privacy.invalid`.
        """
        tags = {name: parse_tag(text, name) for name, text in fields.items()}
        return cls(tags, tuple(columns), target, subject, capture_untagged)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PrivacyPolicy:
        """The inverse of `to_json`."""
        return cls.make(
            document.get("fields") or {},
            columns=document.get("columns") or (),
            target=document.get("target") or "",
            subject=document.get("subject") or "",
            capture_untagged=bool(document.get("capture_untagged")),
        )

    def to_json(self) -> dict[str, Any]:
        """As in a deployment document and in an artifact's config."""
        return {
            "fields": {name: tag.text for name, tag in self.fields.items()},
            "columns": list(self.columns),
            "target": self.target,
            "subject": self.subject,
            "capture_untagged": self.capture_untagged,
        }

    @property
    def says_anything(self) -> bool:
        """Whether the user has said what may be kept."""
        return bool(self.fields) or self.capture_untagged

    def for_travel(self) -> PrivacyPolicy:
        """The same for what a version carries: its rows are the user's own, so that what has no tag stays,
        texts without what patterns find.
        """
        return replace(self, capture_untagged=True)

    def input_tags(self, name: str, width: int, *, text: bool) -> tuple[Tag, ...]:
        """The tags of an input's elements in one row.

        Args:
            name: of the tensor.
            width: how many elements a row has.
            text: whether they are texts.

        Returns:
            One tag for all, or one for each.
        """
        own = self.fields.get(name)
        if own is None and name not in self.columns and width == len(self.columns):
            tags = tuple(
                self._tag([column, f"{name}[{i}]"], text) for i, column in enumerate(self.columns)
            )
        elif own is None and any(key.startswith(f"{name}[") for key in self.fields):
            tags = tuple(self._tag([f"{name}[{i}]"], text) for i in range(width))
        else:
            return (self._tag([name], text),)
        return tags if len(set(tags)) > 1 else tags[:1]

    def output_tag(self, name: str) -> Tag | None:
        """The tag of an answer; None for one that the policy does not name."""
        return self.fields.get(OUTPUT + name)

    def text_answer_tag(self) -> Tag:
        """What is made of a text that the model answered and that is none of its classes."""
        every = self.fields.get(EVERY)
        allowed = self.capture_untagged or (every is not None and every.keeps_values)
        return DETECT if allowed else MASK

    def label_tag(self) -> Tag:
        """What is made of a label."""
        return self.fields.get(self.target, DETECT) if self.target else DETECT

    def column_tag(self, name: str, *, text: bool) -> Tag:
        """The tag of a column of the data."""
        return self._tag([name], text)

    def untagged(self, names: Iterable[str]) -> list[str]:
        """Those of the fields that have no tag, and that nobody has said may be kept without."""
        if self.capture_untagged or EVERY in self.fields:
            return []
        return [name for name in names if name not in self.fields]

    def require_tags(self, names: Iterable[str], model: str) -> None:
        """Refuses to capture what nobody has thought about.

        Raises:
            InputError: `privacy.untagged`, naming the fields.
        """
        lacking = self.untagged(names)
        if not lacking:
            return
        shown = ", ".join(f"`{name}`" for name in lacking[:8])
        more = f" and {len(lacking) - 8} more" if len(lacking) > 8 else ""
        raise InputError(
            "privacy.untagged",
            f"`monitor.capture` is true, and {shown}{more} of `{model}` "
            f"{'has' if len(lacking) == 1 else 'have'} no tag under `[privacy]`",
        )

    def require_known(self, known: Iterable[str]) -> None:
        """Refuses a tag of a field that there is not.

        Raises:
            InputError: `privacy.unknown-field`, with the nearest name.
        """
        names = list(known)
        said = [name for name in self.fields if name != EVERY]
        for name in [*said, *([self.subject] if self.subject else [])]:
            if name in names or name.partition("[")[0] in names:
                continue
            near = difflib.get_close_matches(name, names, n=1)
            shown = ", ".join(f"`{n}`" for n in names[:12]) + (" …" if len(names) > 12 else "")
            where = "privacy.fields" if name in self.fields else "privacy.subject"
            raise InputError(
                "privacy.unknown-field",
                f"`{where}` names `{name}`, which is no field of the data: {shown}",
                hint=f"did you mean `{near[0]}`?" if near else None,
            )

    def _tag(self, names: list[str], text: bool) -> Tag:
        for name in [*names, EVERY]:
            if name in self.fields:
                return self.fields[name]
        if self.capture_untagged:
            return DETECT if text else KEEP
        return DROP
