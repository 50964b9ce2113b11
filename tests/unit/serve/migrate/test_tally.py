"""The report of a migration."""

from __future__ import annotations

from typing import NamedTuple

from dukou.serve.migrate.tally import Tally, Times, show_report


class _Request(NamedTuple):
    name: str
    body: str

    def show(self) -> str:
        return self.body


def test_quantiles() -> None:
    times = Times()
    assert times.report() == {"count": 0, "p50_ms": None, "p95_ms": None, "p99_ms": None}
    for milliseconds in range(1, 101):
        times.add(milliseconds / 1000)
    assert times.report() == {"count": 100, "p50_ms": 51.0, "p95_ms": 96.0, "p99_ms": 100.0}


def test_differences_of_one_kind_are_one_example() -> None:
    tally = Tally()
    tally.compared(_Request("POST /v1/models/m:predict", "{}"), None)
    for index in range(3):
        difference = f"`predictions[{index}]` is {index}.5, and 0.25 here"
        tally.compared(_Request("POST /v1/models/m:predict", '{"instances": [1]}'), difference)
    tally.did_not_answer(_Request("POST /v1/models/n:predict", "\\xff"), "no answer in 60 s")
    report = tally.report()
    assert (report["compared"], report["equal"], report["different"]) == (4, 1, 3)
    assert [each["count"] for each in report["differences"]] == [3, 1]
    assert report["differences"][1]["body"] == "\\xff"
    where = {"url": "http://h:1", "from": "http://o:2", "to": "http://n:3", "server": "Triton"}
    text = show_report({**where, "side": "old", **report})
    assert "compared   4: 1 equal, 3 different; 1 unanswered here" in text
    assert "POST /v1/models/m:predict  (3 times)" in text
    assert '    asked: {"instances": [1]}' in text
