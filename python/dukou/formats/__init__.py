"""A file or folder of any framework becomes a Model. One file a source; frameworks are imported inside functions."""

from __future__ import annotations

from dukou.base.lazy import lazy_attributes

_PUBLIC = {
    "Reader": "dukou.formats.reader:Reader",
    "READERS": "dukou.formats.table:READERS",
    "detect_format": "dukou.formats.detect:detect_format",
    "open_model": "dukou.formats.open:open_model",
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
