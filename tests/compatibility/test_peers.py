"""The same requests to KServe's own server and to ours: every difference is one that is recorded, with its reason.

`conformance/peers.json` is made by `make compare`, which asks MLServer too; docs/compatibility.md is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import serving
from tests.compatibility.peers import KSERVE, compare_with
from tests.compatibility.questions import Question

ROOT = Path(__file__).parents[2]
RECORDED = json.loads((ROOT / "conformance" / "peers.json").read_text(encoding="utf-8"))
ASKED = [
    pytest.param(protocol, question, id=f"{protocol}: {question.name}")
    for protocol, questions in KSERVE.questions.items()
    for question in questions
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    model = serving.write_model(tmp_path_factory.mktemp("model") / "m.onnx")
    with serving.house() as house, house.serving(model) as server:
        yield compare_with(KSERVE, server.address, model)


@pytest.mark.parametrize(("protocol", "question"), ASKED)
def test_answers_differ_as_recorded(
    found: dict[str, Any], protocol: str, question: Question
) -> None:
    (recorded,) = (peer for peer in RECORDED if peer["name"] == KSERVE.name)
    differing = found["protocols"][protocol][question.name]
    assert differing == list(recorded["protocols"][protocol][question.name]), "`make compare`"


def test_the_version_is_the_recorded_one(found: dict[str, Any]) -> None:
    (recorded,) = (peer for peer in RECORDED if peer["name"] == KSERVE.name)
    assert found["version"] == recorded["version"]


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
