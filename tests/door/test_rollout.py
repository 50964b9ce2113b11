"""`dukou promote`, `rollback` and `rollout`: what they say, and every mistake in two lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import serving
from tests.serving import House

from dukou.registry.registry import Registry


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with serving.house() as made:
        with Registry.open(made.home) as registry:
            for name in ("m", "bare"):
                for number in (1, 2, 3):
                    registry.register_version(name, f"sha256:{number:064x}")
            registry.set_alias("m", "champion", 1, expected=None)
        yield made


def refused(house: House, *words: str) -> tuple[int, str]:
    done = house.dukou(*words)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[1].startswith("hint: ")
    return done.returncode, lines[0]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["promote", "m:9"], 3, "[registry.unknown-version]"),
        (["promote", "nobody:1"], 3, "[registry.unknown-model]"),
        (["promote", "m"], 2, "[usage.invalid]"),
        (["promote", "m:1"], 3, "[rollout.same-version]"),
        (["promote", "bare:2"], 3, "[rollout.no-champion]"),
        (["promote", "m:2", "--steps", "5,50"], 2, "[deploy.invalid]"),
        (["promote", "m:2", "--steps", "50,25,100"], 2, "must be percentages that grow"),
        (["promote", "m:2", "--steps", "half"], 2, "`canary.steps` is `half`"),
        (["promote", "m:2", "--steps", ""], 2, "[deploy.invalid]"),
        (["promote", "m:2", "--steps", "nan,100"], 2, "[deploy.invalid]"),
        (["promote", "m:2", "--max-disagreement", "much"], 2, "[deploy.invalid]"),
        (["promote", "m:2", "--max-disagreement", "nan"], 2, "[deploy.invalid]"),
        (["promote", "m:2", "--min-seconds", "0"], 2, "[deploy.invalid]"),
        (["promote", "m:2", "--deadline", "soon"], 2, "[usage.invalid]"),
        (["rollback", "nobody"], 3, "[registry.unknown-model]"),
        (["rollback", "m"], 3, "[rollout.nothing-before]"),
        (["rollback", "bare"], 3, "has no champion [rollout.nothing-before]"),
        (["rollout", "status", "nobody"], 3, "[registry.unknown-model]"),
        (["rollout", "wait", "m"], 3, "[rollout.unknown]"),
        (["rollout"], 2, "[usage.invalid]"),
    ],
)
def test_mistakes_are_said_in_two_lines(
    house: House, words: list[str], status: int, said: str
) -> None:
    found, line = refused(house, *words)
    assert found == status
    assert said in line


def test_a_rollout_that_nobody_serves_waits_and_is_ended(house: House) -> None:
    started = house.dukou("promote", "m:2", "--steps", "5,100", "--deadline", "10min")
    assert started.returncode == 0, started.stderr
    assert started.stdout.splitlines() == [
        "m: version 1 → 2, running at 5 % (5 % → 100 %)",
        "  it waits: no server here serves `m`; `dukou serve m` does",
    ]
    assert refused(house, "promote", "m:3")[1].endswith("[rollout.running]")
    assert refused(house, "promote", "m:3", "--now")[1].endswith("[rollout.running]")
    status, line = refused(house, "rollout", "wait", "m", "--timeout", "100ms")
    assert status == 3
    assert line.endswith("is at 5 % after 0.1 s: no server has taken it up [rollout.timeout]")
    shown = json.loads(house.dukou("rollout", "status", "m", "--json").stdout)
    assert shown["rollouts"][0]["policy"]["deadline_s"] == 600
    assert shown["rollouts"][0]["share"] == 5
    back = house.dukou("rollback", "m")
    assert back.stdout == "the rollout to version 2 is ended; `m@champion` stays version 1\n"
    waited = house.dukou("rollout", "wait", "m")
    assert waited.returncode == 3
    assert waited.stdout.startswith("m: version 1 → 2, rolled-back\n  asked for by a person\n")


def test_promoting_at_once_and_going_back(house: House, tmp_path: Path) -> None:
    done = house.dukou("promote", "bare:1", "--now")
    assert done.stdout == "`bare@champion` is version 1\n"
    done = house.dukou("promote", "bare:3", "--now", "--json")
    assert json.loads(done.stdout) == {"model": "bare", "champion": 3}
    back = house.dukou("rollback", "bare")
    assert back.stdout == "`bare@champion` is version 1 again; it was version 3\n"
