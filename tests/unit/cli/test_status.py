"""What `dukou status` adds up: the counters of one version over the tables that served it."""

from __future__ import annotations

from typing import Any

from dukou.cli.status import _show_arms, _show_caches, _show_monitor, _show_replicas


def _arm(
    version: str, revision: str, requests: int, errors: int, arm: str = "main"
) -> dict[str, Any]:
    codes = {"ok": requests - errors, "request.wrong-shape": errors}
    return {
        "model": "digits",
        "version": version,
        "arm": arm,
        "revision": revision,
        "requests": requests,
        "rows": 2 * requests,
        "batches": requests,
        "codes": codes,
        "request_us": {"sum": 0, "counts": [0, requests, 0]},
        "cache": None,
    }


def test_tables_are_added_and_silent_direct_arms_left_out() -> None:
    arms = [
        _arm("1", "r1", 10, 1),
        _arm("1", "r2", 5, 0),
        _arm("2", "r2", 0, 0),
        _arm("1", "r2", 0, 0, "direct"),
        _arm("2", "r2", 3, 3, "direct"),
    ]
    state = {"bounds_us": [50, 100], "arms": arms, "refused": {"wire.unknown-path": 4}}
    header, *rows, refused = _show_arms(state).splitlines()
    assert header.split()[:4] == ["version", "arm", "requests", "errors"]
    assert [row.split()[:4] for row in rows] == [
        ["digits:1", "main", "15", "1"],
        ["digits:2", "main", "0", "0"],
        ["digits:2", "direct", "3", "3"],
    ]
    assert rows[0].split()[4:] == ["75", "µs", "99.5", "µs", "2.0"]
    assert refused == "refused before a version was chosen: 4 wire.unknown-path"


def test_replicas_say_why_they_are_not_asked() -> None:
    row = {
        "model": "far",
        "version": "remote",
        "replica": "http://a:1",
        "healthy": True,
        "why": None,
        "revision": "r7",
        "outstanding": 2,
        "latency_us": 840,
        "requests": 500,
        "failures": 1,
        "retries": 0,
    }
    ill = row | {"replica": "http://b:2", "healthy": False, "why": "connection refused"}
    header, *rows = _show_replicas({"replicas": [row, ill | {"latency_us": None}]})
    assert header.split() == [
        *("replica", "serves", "requests", "failures", "retries", "open", "takes", "state")
    ]
    assert rows[0].split() == [
        *("far", "at", "http://a:1", "r7", "500", "1", "0", "2", "840", "µs", "asked")
    ]
    assert rows[1].split()[-3:] == ["-", "connection", "refused"]
    assert _show_replicas({"replicas": []}) == []


def test_what_a_cache_spared_is_shown_and_rides_in_no_batch() -> None:
    arm = _arm("1", "r1", 10, 0)
    arm |= {"batches": 2, "cache": {"hit": 7, "wait": 1, "miss": 2, "rows_not_run": 16}}
    cache = {"model": "digits", "entries": 2, "bytes": 1500, "max_bytes": 1 << 20}
    cache |= {"evicted": 3, "expired": 4}
    state = {"bounds_us": [50, 100], "arms": [arm], "refused": {}, "caches": [cache]}
    assert _show_arms(state).splitlines()[1].split()[-1] == "2.0"
    (line,) = _show_caches(state)
    assert line.startswith(
        "cache of digits: 80% of 10 answers not run (hit 7, wait 1, miss 2); 2 kept"
    )
    assert line.endswith("3 pushed out, 4 expired")


def test_captures_that_were_lost_or_are_damaged_are_told() -> None:
    found = {"lost": {"requests": 12}, "damaged": {"parts": 1, "last": "/h/monitor/m/1.damaged"}}
    assert _show_monitor("m", found) == [
        "captures of m: 12 requests could not be written and are lost",
        "captures of m: 1 files could not be read and are set aside, the last `/h/monitor/m/1.damaged`",
    ]
    assert _show_monitor("m", {"damaged": {"parts": 0, "last": ""}}) == []
