"""Logs: what comes most, what was slowest, what is new, and one line of advice."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dukou.monitor.logs import summarize, template_of


def line(second: int, code: str = "ok", took: int = 100, **more: object) -> str:
    entry = {
        "time": f"2026-11-24T12:00:{second:02d}.000Z",
        "id": f"{second:016x}",
        "model": "m",
        "code": code,
        "request_us": took,
        "queue_us": 10,
        "compute_us": 50,
        **more,
    }
    return json.dumps(entry)


@pytest.fixture
def access(tmp_path: Path) -> Path:
    file = tmp_path / "access.jsonl"
    lines = [line(i, took=100 + i) for i in range(40)]
    lines += [line(40, "request.wrong-shape"), line(41, "request.wrong-shape"), "{broken", "[]"]
    lines += [line(42, "limits.deadline", 30_000_000), line(43, model="other")]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_errors_and_slow_requests_are_found(access: Path) -> None:
    found = summarize([access, access.with_name("absent")], [], since=None, model="m")
    assert found.requests == 43
    assert found.broken == 2
    assert [(code, e.count, e.example) for code, e in found.errors.items()] == [
        ("request.wrong-shape", 2, f"{41:016x}"),
        ("limits.deadline", 1, f"{42:016x}"),
    ]
    assert [entry["request_us"] for entry in found.slowest[:2]] == [30_000_000, 139]
    assert "limits.deadline" in found.advice
    later = datetime(2026, 11, 24, 12, 0, 41, tzinfo=UTC)
    assert summarize([access], [], since=later, model=None).requests == 3


def test_a_message_is_new_when_none_of_its_kind_was_there_before(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text(
        "2026-11-24T11:00:00.100Z info loaded `digits` version `1` in 12 ms\n"
        "2026-11-24T12:00:00.100Z info loaded `wine` version `27` in 9 ms\n"
        "2026-11-24T12:00:01.100Z error the disk `/var/log/x` is full: 12 bytes left\n"
        "2026-11-24T12:00:09.100Z error the disk `/srv/y` is full: 0 bytes left\n",
        encoding="utf-8",
    )
    since = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    found = summarize([], [log], since=since, model=None)
    assert [(kind.count, kind.example) for kind in found.new.values()] == [
        (2, "error the disk `/var/log/x` is full: 12 bytes left")
    ]
    assert found.advice == "no request in this time"


def test_advice_is_by_what_was_seen(tmp_path: Path) -> None:
    file = tmp_path / "access.jsonl"
    file.write_text(line(1, queue_us=5000, compute_us=100) + "\n", encoding="utf-8")
    assert "wait 50 times as long" in summarize([file], [], since=None, model=None).advice
    file.write_text(line(1) + "\n", encoding="utf-8")
    assert summarize([file], [], since=None, model=None).advice == "nothing stands out"
    file.write_text(line(1, "request.rejected-by-model") + "\n", encoding="utf-8")
    assert "dukou rollback" in summarize([file], [], since=None, model=None).advice


def test_a_template_keeps_what_is_said_and_drops_what_differs() -> None:
    assert template_of("table r12 at /srv/a/b took 1.5 ms (`x`)") == template_of(
        "table r9 at /home/c/d took 22 ms (`yy`)"
    )
    assert template_of("disk full") != template_of("disk failing")
