"""The deployment document: short where defaults will do, and refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from dukou.base.documents import parse_document
from dukou.base.errors import InputError
from dukou.deploy.document import Deployment


def _parse(document: Any) -> Deployment:
    return parse_document(Deployment, document, code="deploy.invalid")


def test_a_name_is_enough() -> None:
    deployment = _parse({"name": "shop", "models": [{"name": "digits"}]})
    (model,) = deployment.models
    assert model.line == "digits"
    assert [(arm.arm, arm.version, arm.weight) for arm in model.traffic] == [("main", None, 1)]
    assert model.golden == "require"


def test_numbers_and_aliases_are_versions() -> None:
    traffic = [{"arm": "a", "version": 3}, {"arm": "b", "version": "challenger", "weight": 0}]
    model = {"name": "d", "model": "digits", "traffic": traffic}
    deployment = _parse({"name": "shop", "models": [model]})
    assert [arm.version for arm in deployment.models[0].traffic] == ["3", "challenger"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "d", "trafic": []}, "models.0.trafic"),
        ({"name": "d", "traffic": []}, "models.0.traffic"),
        ({"name": "d", "traffic": [{"arm": "a"}, {"arm": "a"}]}, "two arms are called `a`"),
        ({"name": "d", "traffic": [{"weight": 0}]}, "every arm's weight is 0"),
        ({"name": "d", "traffic": [{"version": "a b"}]}, "a number or an alias"),
        ({"name": "d", "batching": {"max_rows": 0}}, "models.0.batching.max_rows"),
        ({"name": "no/name"}, "models.0.name"),
    ],
)
def test_what_is_wrong_is_said(model: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        _parse({"name": "shop", "models": [model]})
    assert refused.value.code == "deploy.invalid"
    assert words in refused.value.message


def test_two_models_of_one_name() -> None:
    with pytest.raises(InputError, match="two models are called `d`"):
        _parse({"name": "shop", "models": [{"name": "d"}, {"name": "d", "model": "e"}]})


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(InputError) as refused:
        _parse({"name": "shop", "models": [{"name": "d", "limit": {}}]})
    assert "limits" in refused.value.hint
