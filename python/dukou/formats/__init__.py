"""A file or folder of any framework becomes a Model. One file a source; frameworks are imported inside functions."""

from __future__ import annotations

from dukou.base.lazy import lazy_attributes

_PUBLIC = {
    "Reader": "dukou.formats.reader:Reader",
    "Writer": "dukou.formats.writer:Writer",
    "READERS": "dukou.formats.table:READERS",
    "WRITERS": "dukou.formats.table:WRITERS",
    "detect_format": "dukou.formats.detect:detect_format",
    "open_model": "dukou.formats.open:open_model",
    "write_model": "dukou.formats.onwards:write_model",
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
