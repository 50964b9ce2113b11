"""Security logs: what was refused, to whom, how often."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from dukou.monitor.security import summarize_security


def _line(second: int, code: str, peer: str | None, count: int, detail: str | None = None) -> str:
    event = {"time": f"2026-11-24T12:00:{second:02d}.000Z", "code": code, "count": count}
    event |= {} if peer is None else {"peer": peer}
    return json.dumps(event | ({} if detail is None else {"detail": detail}))


def test_refusals_are_gathered_by_kind_and_address(tmp_path: Path) -> None:
    log = tmp_path / "security-x.jsonl"
    lines = [
        _line(1, "access.bad-key", "10.0.0.1", 1, "it has expired"),
        _line(2, "access.bad-key", "10.0.0.1", 4000),
        _line(3, "access.bad-key", None, 7),
        _line(4, "limits.rate", "10.0.0.2", 1),
        "{broken",
        "[]",
    ]
    log.write_text("\n".join(lines))
    found = summarize_security([tmp_path / "absent", log])
    assert [(k.code, k.peer, k.count) for k in found] == [
        ("access.bad-key", "10.0.0.1", 4001),
        ("access.bad-key", "-", 7),
        ("limits.rate", "10.0.0.2", 1),
    ]
    assert found[0].detail == "it has expired"
    assert (found[0].first[17:19], found[0].last[17:19]) == ("01", "02")
    since = datetime(2026, 11, 24, 12, 0, 3, tzinfo=UTC)
    assert [k.count for k in summarize_security([log], since=since)] == [7, 1]
