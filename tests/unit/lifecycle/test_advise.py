"""Advice is a pure function: plausible demands get each of the five, and more is never fewer."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dukou.base.errors import InputError, ResourceError
from dukou.base.sizes import parse_size
from dukou.deploy.document import PROFILES
from dukou.lifecycle.advise.decide import HEADROOM, decide, show_mib, show_ms, show_rate
from dukou.lifecycle.advise.facts import Demand, Facts, Form, LoadPoint, parse_demand
from dukou.lifecycle.advise.run import Advised, plan_write, write
from dukou.lifecycle.advise.strategies import OPTIMIZATIONS, STRATEGIES
from dukou.lifecycle.advise.write import KEYS, diff, edit, show_block
from dukou.lifecycle.project import DeploySection, load_project
from dukou.optimize.table import PASSES

MIB = 1 << 20


def point(rate: float, p99_ms: float, *, failed: int = 0) -> LoadPoint:
    return LoadPoint(rate, max(100, int(rate * 2)), failed, p99_ms / 3, p99_ms)


# 100 µs of CPU a request: 20,000/s on two CPUs, of which 14,000/s may be used.
FACTS = Facts(
    name="digits",
    source="the file `digits.onnx`",
    cpus=2,
    machine_memory_bytes=8 << 30,
    size_bytes=200_000,
    batchable=True,
    cpu_us=100.0,
    reached_rps=10_000.0,
    points=(point(1_000, 2.0), point(3_000, 4.0), point(6_000, 9.0)),
    memory_bytes=50 * MIB,
    first_start_s=0.3,
    start_s=0.1,
    forms=(
        Form("original", 200_000, 80.0, 30.0, None, "as it is", served=True),
        Form("int8", 60_000, 40.0, 20.0, None, "accuracy not judged: no rows"),
    ),
)


@pytest.mark.parametrize(
    ("demand", "profile", "replicas"),
    [
        (Demand(), "centralized", 1),
        (Demand(rps=200, p99_ms=50), "centralized", 1),
        (Demand(rps=14_000), "centralized", 1),
        (Demand(rps=14_001), "distributed", 2),
        (Demand(rps=100_000), "distributed", 8),
        # 9 ms is kept up to 6,000/s, 3 ms up to 1,000/s.
        (Demand(rps=12_000, p99_ms=9), "distributed", 2),
        (Demand(rps=12_000, p99_ms=3), "distributed", 12),
        (Demand(rps=5, memory_bytes=64 * MIB, where=("edge",)), "edge", 1),
        (Demand(rps=20_000, where=("container",)), "container", 3),
        (Demand(rps=200, memory_bytes=128 * MIB, where=("microservice",)), "microservice", 1),
        (Demand(rps=200, where=("distributed",)), "distributed", 2),
        (Demand(rps=200, where=("distributed", "edge", "container")), "container", 1),
        (Demand(rps=200_000, where=("edge", "centralized", "distributed")), "distributed", 15),
    ],
)
def test_a_plausible_demand_gets_its_strategy(demand: Demand, profile: str, replicas: int) -> None:
    advice = decide(FACTS, demand)
    assert advice.meets, advice.chosen.checks
    assert (advice.chosen.profile, advice.chosen.replicas) == (profile, replicas)
    assert advice.deploy["profile"] == profile
    assert advice.deploy["replicas"] == replicas
    assert [a.profile for a in advice.assessments] == [s.profile for s in STRATEGIES]
    DeploySection.model_validate(advice.deploy)


def test_every_profile_can_be_recommended() -> None:
    got = {decide(FACTS, Demand(rps=200, where=(profile,))).chosen.profile for profile in PROFILES}
    assert got == set(PROFILES) == {s.profile for s in STRATEGIES}


@pytest.mark.parametrize(
    ("demand", "failed", "words"),
    [
        (
            Demand(rps=42_000, where=("centralized",)),
            {"requests"},
            "42,000/s wanted: 28,000/s too many",
        ),
        (Demand(p99_ms=1), {"p99"}, "2 times too long, at every rate"),
        (Demand(memory_bytes=40 * MIB), {"memory"}, "10 MiB too much"),
        (Demand(rps=7_001, where=("edge",)), {"requests"}, "7,000/s wanted: 1/s too many"),
        (Demand(rps=42_000, p99_ms=1, where=("centralized",)), {"requests", "p99"}, "too long"),
    ],
)
def test_what_fails_is_said_with_by_how_much(demand: Demand, failed: set[str], words: str) -> None:
    advice = decide(FACTS, demand)
    assert not advice.meets
    found = [check for check in advice.chosen.checks if not check.holds]
    assert {check.what for check in found} == failed
    assert words in "; ".join(check.words for check in found)


def test_another_place_and_a_faster_form_are_pointed_out() -> None:
    hints = " ".join(decide(FACTS, Demand(rps=42_000, where=("centralized",))).hints)
    assert "`--where cluster` would meet it: distributed, 3 engines" in hints
    assert "`int8` computes in 50% of the time" in hints
    assert decide(FACTS, Demand(rps=10)).hints == ()


def test_a_busy_machine_is_no_secret() -> None:
    busy = dataclasses.replace(FACTS, load_before=7.6)
    (hint,) = decide(busy, Demand(rps=10)).hints
    assert "a load of 8 on 2 CPUs" in hint


def test_a_container_has_the_memory_that_was_said() -> None:
    number = {a.profile: a.number for a in decide(FACTS, Demand(memory_bytes=64 * MIB)).assessments}
    assert number["container"] == "1 container of one CPU, 64 MiB each"


def test_failed_requests_keep_no_promise() -> None:
    broken = dataclasses.replace(FACTS, points=(point(1_000, 1.0, failed=3),))
    (check,) = decide(broken, Demand(p99_ms=10)).chosen.checks
    assert not check.holds
    assert "3 of 2000 requests failed" in check.words


def test_the_section_follows_from_the_numbers() -> None:
    assert decide(FACTS, Demand()).deploy == {"profile": "centralized", "replicas": 1}
    edge = decide(FACTS, Demand(rps=5, p99_ms=20, where=("edge",))).deploy
    # 75 MiB are half as much again as was seen, and steps are of 16.
    assert edge["memory"] == "80m"
    assert edge["instances"] == 1
    assert edge["deadline"] == "200ms"
    # One CPU answers 10,000/s, and so 2,000 within the deadline: the default of 1,024 holds.
    assert "queue" not in edge
    slow = dataclasses.replace(
        FACTS,
        cpu_us=10_000.0,
        points=(point(10, 40.0), point(60, 60.0)),
        forms=(dataclasses.replace(FACTS.forms[0], busy_us=9_000.0),),
    )
    said = decide(slow, Demand(rps=20, p99_ms=60)).deploy
    # 60 ms / 2 / 9 ms a row; 200/s for 0.6 s.
    assert (said["batch_rows"], said["queue"], said["deadline"]) == (3, 120, "600ms")


_RATES = st.floats(min_value=0.01, max_value=1e7)
_DEMANDS = st.builds(
    Demand,
    rps=_RATES,
    p99_ms=st.none() | st.floats(min_value=0.01, max_value=1e5),
    memory_bytes=st.none() | st.integers(min_value=1, max_value=1 << 40),
    where=st.sets(st.sampled_from(PROFILES)).map(tuple),
)
_POINTS = st.lists(
    st.builds(
        LoadPoint,
        rate=_RATES,
        requests=st.integers(1, 1000),
        failed=st.integers(0, 1),
        p50_ms=st.floats(0.01, 100),
        p99_ms=st.floats(0.01, 1000),
    ),
    min_size=1,
    max_size=4,
).map(lambda points: tuple(sorted(points, key=lambda p: p.rate)))
_FACTS = st.builds(
    dataclasses.replace,
    st.just(FACTS),
    cpus=st.integers(1, 128),
    cpu_us=st.floats(min_value=1, max_value=1e7),
    points=_POINTS,
    memory_bytes=st.integers(1, 1 << 40),
    batchable=st.booleans(),
)


@given(facts=_FACTS, demand=_DEMANDS, more=st.floats(min_value=1, max_value=1000))
def test_more_requests_never_take_fewer_engines(facts: Facts, demand: Demand, more: float) -> None:
    less = decide(facts, demand)
    grown = decide(facts, dataclasses.replace(demand, rps=(demand.rps or 0) * more))
    for before, after in zip(less.assessments, grown.assessments, strict=True):
        assert after.replicas >= before.replicas
        assert before.meets or not after.meets
    if grown.meets:
        assert less.meets


@given(facts=_FACTS, demand=_DEMANDS)
def test_what_is_recommended_holds_its_arithmetic(facts: Facts, demand: Demand) -> None:
    advice = decide(facts, demand)
    assert advice.chosen.profile in (demand.where or ("centralized", "distributed"))
    if any(a.meets for a in advice.assessments if a.profile in (demand.where or ())):
        assert advice.meets
    for found in advice.assessments:
        share = 1 if found.profile in ("centralized", "distributed") else facts.cpus
        assert found.engine_rps <= HEADROOM * facts.capacity_rps / share * 1.000001
        if found.meets:
            assert demand.rps is not None
            assert found.engine_rps * found.replicas >= demand.rps * 0.999999
            assert demand.memory_bytes is None or facts.memory_bytes <= demand.memory_bytes
    if advice.meets and advice.chosen.replicas <= 10_000:
        assert set(advice.deploy) <= set(KEYS)
        DeploySection.model_validate(advice.deploy)


# --- the words of a command line ---


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"rps": "200"}, Demand(rps=200.0)),
        ({"p99": "5"}, Demand(p99_ms=5.0)),
        ({"p99": "0.5s"}, Demand(p99_ms=500.0)),
        ({"memory": "256m"}, Demand(memory_bytes=256 * MIB)),
        ({"where": ["device", "edge", "here"]}, Demand(where=("edge", "centralized"))),
    ],
)
def test_words_become_a_demand(said: dict[str, Any], wanted: Demand) -> None:
    words: dict[str, Any] = {"rps": None, "p99": None, "memory": None, "where": [], **said}
    assert parse_demand(**words) == wanted


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"rps": "-5"}, "`--rps -5`"),
        ({"rps": "0"}, "`--rps 0`"),
        ({"rps": "nan"}, "`--rps nan`"),
        ({"rps": "many"}, "`--rps many`"),
        ({"p99": "soon"}, "`--p99 soon`"),
        ({"p99": "0ms"}, "`--p99 0ms`"),
        ({"memory": "lots"}, "`--memory` is `lots`"),
        ({"where": ["moon"]}, "`--where moon`"),
    ],
)
def test_words_that_make_none(said: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_demand(**{"rps": None, "p99": None, "memory": None, "where": [], **said})
    assert refused.value.code == "usage.invalid"
    assert words in refused.value.message
    assert refused.value.hint


def test_numbers_as_people_read_them() -> None:
    assert [show_rate(r) for r in (4.234, 123.4, 12_345.0, 99.99)] == [
        "4.23/s",
        "123/s",
        "12,300/s",
        "100/s",
    ]
    assert [show_ms(m) for m in (0.4213, 12.0, 1234.0)] == ["0.421 ms", "12 ms", "1.23 s"]
    assert [show_mib(b) for b in (12, 2048, 50 * MIB, 3 << 30)] == [
        "12 B",
        "2 KiB",
        "50 MiB",
        "3 GiB",
    ]


def test_the_optimizations_told_of_are_the_passes_that_there_are() -> None:
    assert set(OPTIMIZATIONS) == set(PASSES)


# --- the project file ---

DEPLOY = {"profile": "edge", "replicas": 1, "instances": 1, "memory": "80m"}


def _deploy(text: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text)["deploy"]
    return found


def test_comments_and_the_keys_of_others_stay() -> None:
    text = (
        '# mine\nversion = 1\n\n[deploy]  # how\nalias = "champion"  # who\n'
        'queue = 7  # ours, and not said any more\nthreads = 2\nprofile = "container"  # what\n'
        "\n[deploy.canary]\nsteps = [50, 100]\n\n[monitor]  # last\ncapture = false\n"
    )
    after = edit(text, DEPLOY, source="x")
    assert _deploy(after) == {
        "alias": "champion",
        "threads": 2,
        "canary": {"steps": [50, 100]},
        **DEPLOY,
    }
    for kept in ("# mine", "[deploy]  # how", "# who", "# what", "[monitor]  # last"):
        assert kept in after
    assert edit(after, DEPLOY, source="x") == after
    shown = diff(text, after)
    assert "-queue = 7  # ours, and not said any more" in shown
    assert '+memory = "80m"' in shown
    assert diff(after, after) == ""


@pytest.mark.parametrize(
    "text",
    [
        "version = 1\n",
        "version = 1",
        "",
        'version = 1\r\n[deploy]\r\nalias = "a"\r\n',
        'version = 1\ndeploy = {alias = "a"}\n',
        'version = 1\ndeploy.alias = "a"\n',
        "version = 1\n[deploy.canary]\nsteps = [100]\n[monitor]\ncapture = true\n",
    ],
)
def test_however_the_section_is_written(text: str) -> None:
    after = edit(text, DEPLOY, source="x")
    before = tomllib.loads(text)
    assert tomllib.loads(after) == {**before, "deploy": {**before.get("deploy", {}), **DEPLOY}}
    assert edit(after, DEPLOY, source="x") == after


@pytest.mark.parametrize("text", ["deploy = 3\n", "= nothing\n", '[deploy]\nalia = "x"\n'])
def test_what_cannot_be_edited_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        edit(text, DEPLOY, source="`dukou.toml`")
    assert refused.value.code == "project.invalid"
    assert "`dukou.toml`" in refused.value.message


def test_what_does_not_meet_the_demand_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    text = (
        'version = 1\n[model]\nname = "m"\n[data]\npath = "rows.csv"\ntarget = "b"\n'
        '[train]\ncommand = "true"\n'
    )
    file = tmp_path / "dukou.toml"
    file.write_text(text)
    project = load_project(tmp_path)
    for demand, meets in ((Demand(memory_bytes=MIB), False), (Demand(memory_bytes=1 << 30), True)):
        advised = Advised(FACTS, demand, decide(FACTS, demand), project)
        if meets:
            after, _ = plan_write(advised)
            assert file.read_text() == text
            file.chmod(0o640)
            assert write(advised, after) == file.resolve()
            assert _deploy(file.read_text())["memory"] == "1g"
            assert file.stat().st_mode & 0o777 == 0o640
            assert plan_write(advised) == (after, "")
            continue
        with pytest.raises(ResourceError) as refused:
            plan_write(advised)
        assert refused.value.code == "advise.unmet"
        assert "50 MiB at the most, 1 MiB for a machine: 49 MiB too much" in refused.value.message
    assert {path.name for path in tmp_path.iterdir()} == {"dukou.toml", "rows.csv"}


def test_the_block_reads_as_a_section() -> None:
    assert _deploy(show_block(DEPLOY)) == DEPLOY
    assert parse_size(DEPLOY["memory"], key="x") == 80 * MIB  # type: ignore[arg-type]
