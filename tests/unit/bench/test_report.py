"""Pages say what was measured, and what was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench.cases import CASES, open_case, small_json
from bench.harness import Entry, Figures, Options, figures_of
from bench.peers import PEERS, open_peer
from bench.report import Result, publish
from bench.workplace import BenchError

OPTIONS = Options(rounds=2, seconds=1.0, warmup_seconds=0.5, connections=4, peers=("echo", "dukou"))
LATENCY = {"p50": 100.0, "p90": 200.0, "p99": 300.0, "p99.9": 400.0, "max": 500.0}


def _load_report(sent: int, unsent: int = 0) -> dict[str, object]:
    measured = {
        "sent": sent,
        "failed": 2,
        "unsent": unsent,
        "rate": 1000.0,
        "latency_us": LATENCY,
    }
    return {"url": "http://h", "measured": measured, "client": {"cpu_us_per_request": 9.0}}


def _round(server_cpu_us: float, rate: float) -> Figures:
    return {
        **figures_of(_load_report(100), 1e-4, 4.0),
        "server_cpu_us": server_cpu_us,
        "rate": rate,
    }


def test_figures_are_per_request_sent() -> None:
    figures = figures_of(_load_report(sent=50, unsent=3), server_cpu_seconds=0.001, peak_mb=7.0)
    assert figures["server_cpu_us"] == pytest.approx(20.0)
    assert figures["failed"] == 5
    assert figures["p99.9_us"] == 400.0
    with pytest.raises(BenchError, match="no request was sent"):
        figures_of(_load_report(sent=0), 0.0, 0.0)


def _result() -> Result:
    echo = Entry("echo", "bare", rounds=[_round(10.0, 50_000.0), _round(12.0, 40_000.0)])
    ours = Entry("dukou", "defaults", rounds=[_round(40.0, 30_000.0), _round(46.0, 20_000.0)])
    absent = Entry("triton", "best", unavailable="the wheel is not here")
    entries = [echo, ours, absent]
    return Result(
        "small-json",
        "Words.",
        OPTIONS,
        entries,
        small_json.tables_of(entries),
        small_json.goals_of(entries),
        small_json.panels_of(entries),
    )


def test_a_page_a_document_and_a_plot_are_written(tmp_path: Path) -> None:
    text = publish(_result(), tmp_path)
    page = (tmp_path / "small-json.md").read_text("utf-8")
    document = json.loads((tmp_path / "small-json.json").read_text("utf-8"))
    # 40-10 and 46-12, compared within their rounds.
    assert "| dukou | 43.0 (40.0-46.0) | 32.0 (30.0-34.0) |" in page
    assert "| server CPU over echo's | ≤ +40 µs | +32.0 µs | yes |" in page
    assert "| rate of echo's | ≥ 0.60 | 0.55 | **no** |" in page
    assert "NOT reached: rate of echo's" in text
    assert (tmp_path / "small-json.svg").read_text("utf-8").startswith("<?xml")
    assert document["peers"][1]["rounds"][0]["server_cpu_us"] == 40.0


def test_a_peer_that_did_not_start_has_its_reason_and_no_row(tmp_path: Path) -> None:
    text = publish(_result(), tmp_path)
    page = (tmp_path / "small-json.md").read_text("utf-8")
    assert "Not measured: the wheel is not here" in page
    assert "| triton |" not in page
    assert "triton was not measured: the wheel is not here" in text


def test_every_case_and_peer_can_be_opened() -> None:
    for name in CASES:
        case = open_case(name)
        assert set(case.PEERS) <= set(PEERS)
    for name in PEERS:
        assert open_peer(name).name == name
    with pytest.raises(BenchError, match="is not one of"):
        open_case("nothing")
    with pytest.raises(BenchError, match="is not one of"):
        open_peer("nothing")
