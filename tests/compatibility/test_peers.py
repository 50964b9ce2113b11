"""The same requests to KServe's own server and to ours: every difference is one that is recorded, with its reason.

`conformance/peers.json` is made by `make compare`, which asks MLServer too; docs/compatibility.md is made of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import serving
from tests.compatibility.peers import KSERVE, Address, differing_of, running, version_of
from tests.compatibility.questions import V1, V2, Question, ask
from tests.serving import RunningServer

ROOT = Path(__file__).parents[2]
RECORDED = json.loads((ROOT / "conformance" / "peers.json").read_text(encoding="utf-8"))
ASKED = [
    pytest.param(protocol, question, id=f"{protocol}: {question.name}")
    for protocol, questions in KSERVE.questions.items()
    for question in questions
]


Both = tuple[Address, RunningServer]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """KServe's server and ours, of the same weights."""
    model = serving.write_model(tmp_path_factory.mktemp("model") / "m.onnx")
    with (
        serving.house() as house,
        house.serving(model) as server,
        running(KSERVE, model) as there,
    ):
        yield there, server


@pytest.mark.parametrize(("protocol", "question"), ASKED)
def test_answers_differ_as_recorded(both: Both, protocol: str, question: Question) -> None:
    (recorded,) = (peer for peer in RECORDED if peer["name"] == KSERVE.name)
    (differing,) = differing_of(both[0], both[1].address, [question]).values()
    assert differing == list(recorded["protocols"][protocol][question.name]), "`make compare`"


def test_the_version_is_the_recorded_one() -> None:
    (recorded,) = (peer for peer in RECORDED if peer["name"] == KSERVE.name)
    assert version_of(KSERVE) == recorded["version"]


def test_a_migration_from_it(both: Both) -> None:
    """Its clients come through, its answers equal ours, and it is detected for what it is."""
    there, server = both
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


def test_every_difference_has_a_reason() -> None:
    reasons = [
        reason
        for peer in RECORDED
        for questions in peer["protocols"].values()
        for differing in questions.values()
        for reason in differing.values()
    ]
    assert reasons
    assert all(reasons)
