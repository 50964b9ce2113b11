"""Whose word holds on what may be kept: the deployment's, else the version's; where nobody spoke, nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.artifacts import Place, make_layers, make_model

from dukou.control.desired import DesiredState
from dukou.control.privacy import policy_for
from dukou.deploy.document import DeployedModel
from dukou.deploy.door import LOOPBACK
from dukou.package.package import package_model
from dukou.registry.registry import Registry
from dukou.trust.privacy.policy import PrivacyPolicy

TAGS = PrivacyPolicy.make({"x": "generalize:10"}, columns=["a"], target="y")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Place, Registry]]:
    """Version 1 of `m` carries no tags, version 2 does."""
    place = Place.make(tmp_path)
    with Registry.open(place.home, actor="test") as registry:
        for seed, privacy in ((1, None), (2, TAGS.to_json())):
            packaged = package_model(
                make_model(tmp_path / f"m-{seed}", *make_layers(4, 3, seed=seed)),
                place.store,
                name="m",
                signer=place.key,
                privacy=privacy,
            )
            registry.register_version("m", packaged.digest)
        registry.set_alias("m", "champion", 1, expected=None)
        yield place, registry


def deployed(**more) -> DeployedModel:
    return DeployedModel.model_validate({"name": "m", "capture": {}, **more})


def test_the_deployments_word_goes_before_the_versions(place) -> None:
    home, registry = place
    assert policy_for(deployed(), registry, home.store) is None
    tagged = deployed(traffic=[{"version": 2}])
    assert policy_for(tagged, registry, home.store) == TAGS
    registry.set_alias("m", "champion", 2, expected=1)
    assert policy_for(deployed(), registry, home.store) == TAGS
    own = deployed(privacy={"capture_untagged": True})
    found = policy_for(own, registry, home.store)
    assert found is not None and found.capture_untagged and not found.fields
    assert policy_for(deployed(privacy={}), registry, home.store) is None


def test_a_table_captures_nothing_that_nobody_spoke_of(place, capsys) -> None:
    home, registry = place
    document = {
        "home": str(home.home),
        "listeners": ["main"],
        "door": LOOPBACK.to_json(),
        "override": {},
        "connections": 10,
        "access_log": str(home.home / "access.jsonl"),
        "security_log": str(home.home / "security.jsonl"),
        "files": [],
        "references": [{"name": "m", "reference": "m"}],
    }
    model = {"name": "m", "capture": {}}
    registry.put_deployment("m", {"version": 1, "name": "m", "models": [model]}, expected=0)
    desired = DesiredState(document, registry)
    for _ in range(2):
        assert desired.compile(1).models[0].capture is None
    said = capsys.readouterr().err
    assert said.count("no request of `m` is kept") == 1
    kept = {**model, "privacy": {"fields": {"*": "keep"}}}
    registry.put_deployment("m", {"version": 1, "name": "m", "models": [kept]}, expected=1)
    assert desired.compile(2).models[0].capture is not None
