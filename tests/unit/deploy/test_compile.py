"""Names become digests, defaults become values, and what does not exist is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dukou.base.errors import InputError, StateError
from dukou.deploy.compile import Surroundings, compile_deployment, deployment_of_reference
from dukou.deploy.document import Deployment
from dukou.deploy.table import ArtifactSource, ServingTable
from dukou.serve.bare import bare_model, name_of_file


@dataclass(frozen=True)
class _Version:
    number: int
    digest: str
    aliases: Sequence[str] = ()


VERSIONS = {
    "digits": _Version(2, "sha256:" + "2" * 64, ("champion",)),
    "digits@champion": _Version(2, "sha256:" + "2" * 64, ("champion",)),
    "digits:3": _Version(3, "sha256:" + "3" * 64, ("challenger", "next")),
    "digits@challenger": _Version(3, "sha256:" + "3" * 64, ("challenger", "next")),
}


def _resolve(reference: str) -> _Version:
    if reference not in VERSIONS:
        raise StateError(
            "registry.unknown-version", f"there is no `{reference}`", hint="there are 2, 3"
        )
    return VERSIONS[reference]


def _compile(*deployments: Deployment, **surroundings: Any) -> ServingTable:
    return compile_deployment(
        deployments,
        resolve=_resolve,
        labels=lambda digest: ["no", "yes"] if digest.endswith("2") else [],
        surroundings=Surroundings(store=Path("/store"), listeners=["http"], **surroundings),
        sequence=7,
    )


def _deployment(*traffic: dict[str, Any], **model: Any) -> Deployment:
    document = {"name": "shop", "models": [{"name": "digits", "traffic": traffic, **model}]}
    return Deployment.model_validate(document)


def test_a_bare_reference() -> None:
    table = _compile(deployment_of_reference("digits", "digits"), trusted=[("a" * 64, "PEM")])
    (model,) = table.models
    (version,) = model.versions
    assert (table.revision, table.sequence) == ("r7", 7)
    assert version.version == "2"
    assert version.source == ArtifactSource(artifact="sha256:" + "2" * 64, store="/store")
    assert model.aliases == {"champion": "2"}
    assert model.labels == ["no", "yes"]
    assert [(w.arm, w.version) for w in model.split] == [("main", "2")]
    assert table.trust.require_signature
    assert [key.id for key in table.trust.keys] == ["a" * 64]


@pytest.mark.parametrize("reference", ["digits:3", "digits@challenger"])
def test_numbers_and_aliases(reference: str) -> None:
    (model,) = _compile(deployment_of_reference("d", reference)).models
    assert model.name == "d"
    assert [v.version for v in model.versions] == ["3"]
    assert model.aliases == {"challenger": "3", "next": "3"}


def test_two_arms_of_one_version_load_it_once() -> None:
    traffic = (
        {"arm": "main", "version": "champion", "weight": 90},
        {"arm": "canary", "version": 3, "weight": 10},
        {"arm": "shadow", "version": "challenger", "weight": 0},
    )
    (model,) = _compile(_deployment(*traffic)).models
    assert [v.version for v in model.versions] == ["2", "3"]
    assert [(w.arm, w.version, w.weight) for w in model.split] == [
        ("main", "2", 90),
        ("canary", "3", 10),
        ("shadow", "3", 0),
    ]
    assert model.labels == ["no", "yes"]


def test_settings_of_the_document_reach_the_table() -> None:
    deployment = _deployment(
        {"version": 3},
        batching={"max_rows": 8, "delay_us": 500},
        limits={"queue": 3},
        run={"instances": 2, "threads": 4},
        golden="alarm",
    )
    (model,) = _compile(deployment).models
    assert (model.batching.max_rows, model.batching.delay_us) == (8, 500)
    assert model.limits.queue == 3
    assert (model.versions[0].backend.instances, model.versions[0].backend.threads) == (2, 4)
    assert model.versions[0].golden == "alarm"


def test_what_does_not_exist_is_named_with_its_place() -> None:
    with pytest.raises(InputError) as refused:
        _compile(_deployment({"version": 3}, {"arm": "b", "version": 9}))
    assert refused.value.code == "deploy.invalid"
    assert "models.0.traffic.1" in refused.value.message
    assert "`digits:9`" in refused.value.message
    assert refused.value.hint == "there are 2, 3"


def test_a_registry_that_cannot_be_read_is_no_fault_of_the_document() -> None:
    def resolve(reference: str) -> _Version:
        raise StateError("registry.conflict", "it is held")

    with pytest.raises(StateError):
        compile_deployment(
            [deployment_of_reference("digits", "digits")],
            resolve=resolve,
            labels=lambda _: [],
            surroundings=Surroundings(store=Path("/store"), listeners=["http"]),
            sequence=1,
        )


def test_bare_files_stand_beside_versions() -> None:
    bare = bare_model(name_of_file(Path("iris.onnx")), Path("/models/iris.onnx"))
    table = _compile(deployment_of_reference("digits", "digits"), bare=[bare])
    assert [model.name for model in table.models] == ["iris", "digits"]
    with pytest.raises(InputError, match="two models are called `iris`"):
        _compile(deployment_of_reference("iris", "digits"), bare=[bare])
