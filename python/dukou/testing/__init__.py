"""Contract suites for what can be added to dukou: they find every registered one and excuse none.

    from dukou.testing import check_reader
    check_reader(MyReader(), tmp_path)

Each suite is also a mapping of single checks (`READER_CHECKS`, `WRITER_CHECKS`, `PASS_CHECKS`), for a test a check.
"""

from __future__ import annotations

from dukou.base.lazy import lazy_attributes

_PUBLIC = {
    "PASS_CHECKS": "dukou.testing.passes:PASS_CHECKS",
    "READER_CHECKS": "dukou.testing.readers:READER_CHECKS",
    "WRITER_CHECKS": "dukou.testing.writers:WRITER_CHECKS",
    "check_pass": "dukou.testing.passes:check_pass",
    "check_reader": "dukou.testing.readers:check_reader",
    "check_writer": "dukou.testing.writers:check_writer",
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
