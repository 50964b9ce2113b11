"""What control tells an engine of backups: again and again, and nothing where there is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dukou.base.errors import RemoteError
from dukou.control.gauges import GaugeTeller
from dukou.serve.backup_age import FILE_NAME, backup_times


class Engine:
    """Remembers what it was told, or does not answer."""

    def __init__(self) -> None:
        self.told: list[list[dict[str, Any]]] = []
        self.answers = True

    def put_gauges(self, gauges: list[dict[str, Any]]) -> None:
        if not self.answers:
            raise RemoteError("engine.unreachable", "it starts")
        self.told.append(gauges)


def test_told_again_when_it_is_time(tmp_path: Path) -> None:
    now = 100.0
    engine = Engine()
    teller = GaugeTeller(tmp_path, engine, clock=lambda: now)
    teller.step()
    assert engine.told == []
    facts = {"format": 1, "folder": "/b", "taken": "1970-01-01T00:01:00+00:00"}
    (tmp_path / FILE_NAME).write_text(json.dumps(facts), encoding="utf-8")
    teller.step()
    assert engine.told == [], "it is not time yet"
    now += 5
    teller.step()
    (gauge,) = engine.told[0]
    assert gauge["name"] == "dukou_backup_taken_timestamp_seconds"
    assert gauge["value"] == 60.0
    engine.answers = False
    now += 5
    teller.step()
    engine.answers = True
    now += 5
    teller.step()
    assert len(engine.told) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"taken": "yesterday"}', '{"taken": null}'])
def test_a_note_that_cannot_be_read_is_no_backup(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content, encoding="utf-8")
    assert backup_times(tmp_path) == {}
