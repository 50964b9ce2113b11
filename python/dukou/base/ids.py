"""Identifiers as types, each with one constructor that checks."""

from __future__ import annotations

import re
from typing import NewType

from dukou.base.errors import InputError

ModelName = NewType("ModelName", str)
Digest = NewType("Digest", str)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def parse_model_name(text: str) -> ModelName:
    """1 to 128 of ASCII letters, digits, `.`, `_`, `-`, beginning with a letter or digit.

    It stands in addresses, metrics and file names; a model's `title` may be in any language.
    """
    if not _NAME.match(text):
        raise InputError(
            "config.invalid",
            f"`{text}` cannot be a model's name",
            hint="use 1 to 128 letters (a to z, A to Z), digits, `.`, `_` or `-`, beginning with a letter "
            "or digit; a `title` may be in any language",
        )
    return ModelName(text)


def parse_digest(text: str) -> Digest:
    """`sha256:` and 64 lower-case hex digits."""
    if not _DIGEST.match(text):
        raise InputError(
            "config.invalid",
            f"`{text}` is not a digest",
            hint="a digest is `sha256:` and 64 lower-case hex digits",
        )
    return Digest(text)
