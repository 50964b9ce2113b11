"""The same requests to other servers and to ours: every difference is one that is recorded, with its reason.

KServe's server is asked live. Triton and TorchServe need environments that CI has not: what they answered is kept in
`conformance/answers`, and ours is asked the same. All of it is made by `make compare`, which asks each of them live,
and MLServer too; docs/compatibility.md is made of `conformance/peers.json`.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import serving
from tests.compatibility.peers import (
    KSERVE,
    PEERS,
    TORCHSERVE,
    TRITON,
    Doors,
    Peer,
    answers_of,
    differing_of,
    kept_answers,
    running,
    serving_the_same,
    version_of,
)
from tests.compatibility.questions import V1, V2, ask
from tests.compatibility.reasons import REASONS, reason_for
from tests.serving import RunningServer

ROOT = Path(__file__).parents[2]
RECORDED = {
    peer["name"]: peer
    for peer in json.loads((ROOT / "conformance" / "peers.json").read_text(encoding="utf-8"))
}
ASKED = [
    pytest.param(peer, protocol, asked.name, id=f"{peer.name}, {protocol}: {asked.name}")
    for peer in (KSERVE, TRITON, TORCHSERVE)
    for protocol, questions in peer.questions.items()
    for asked in questions
]
Differing = dict[str, dict[str, list[str]]]
Both = tuple[Doors, RunningServer]


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    """KServe's server and ours, of the same weights."""
    with (
        serving.house() as house,
        serving_the_same(KSERVE, house) as (server, models),
        running(KSERVE, models) as there,
    ):
        yield there, server


@pytest.fixture(scope="module")
def differing(both: Both) -> Callable[[str], Differing]:
    """Protocol → question → how answers differ, everything asked once and in its order."""

    @functools.cache
    def of(name: str) -> Differing:
        (peer,) = (each for each in PEERS if each.name == name)
        if peer is KSERVE:
            there = answers_of(peer, both[0], are_ours=False)
            here = answers_of(peer, {"": both[1].address}, are_ours=True)
        else:
            there = kept_answers(peer)
            with serving.house() as house, serving_the_same(peer, house) as (server, _):
                here = answers_of(peer, {"": server.address}, are_ours=True)
        return {protocol: differing_of(peer, there[protocol], here[protocol]) for protocol in here}

    return of


@pytest.mark.parametrize(("peer", "protocol", "name"), ASKED)
def test_answers_differ_as_recorded(
    differing: Callable[[str], Differing], peer: Peer, protocol: str, name: str
) -> None:
    recorded = RECORDED[peer.name]["protocols"][protocol][name]
    assert differing(peer.name)[protocol][name] == list(recorded), "`make compare` records anew"


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_everything_is_recorded(peer: Peer) -> None:
    asked = {
        protocol: [asked.name for asked in questions]
        for protocol, questions in peer.questions.items()
    }
    for names in asked.values():
        assert len(set(names)) == len(names), "a name stands for one question"
    recorded = RECORDED[peer.name]["protocols"]
    assert {protocol: list(questions) for protocol, questions in recorded.items()} == asked
    if peer.is_recorded:
        kept = kept_answers(peer)
        assert {protocol: list(answers) for protocol, answers in kept.items()} == asked


def test_the_version_is_the_recorded_one() -> None:
    assert version_of(KSERVE) == RECORDED[KSERVE.name]["version"]


def test_a_migration_from_it(both: Both) -> None:
    """Its clients come through, its answers equal ours, and it is detected for what it is."""
    (there, server) = both[0][""], both[1]
    command = [sys.executable, "-m", "dukou", "migrate", "--port", "0", "--json"]
    command += ["--from", f"http://{there[0]}:{there[1]}", "--to", server.url]
    process = subprocess.Popen(
        command, env=server.house.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        address = ("127.0.0.1", int(facts["url"].rpartition(":")[2]))
        inferences = [q for q in (*V2, *V1) if q.name.startswith(("infer, ", "predict"))]
        for question in inferences:
            if question.method == "POST":
                assert ask(address, question).status == ask(there, question).status, question.name
    finally:
        process.terminate()
        last = json.loads(process.communicate(timeout=40)[0])
    assert facts["server"] == "KServe"
    assert (last["failed"], last["unanswered"]) == (0, 0)
    # What differs is what the table above says of these two: no content type, neither field.
    assert {each["difference"] for each in last["differences"]} == {
        "the status is 400, and 200 here",
        "the status is 500, and 400 here",
    }
    assert last["equal"] >= 6


def test_every_difference_has_its_reason_and_every_reason_its_difference() -> None:
    found: set[str] = set()
    for peer in RECORDED.values():
        for questions in peer["protocols"].values():
            for question, differing in questions.items():
                for what, reason in differing.items():
                    assert reason == reason_for(peer["name"], question, what), f"{question}: {what}"
                    found.add(reason)
    assert found == {reason for reasons in REASONS for reason in reasons.values()}
