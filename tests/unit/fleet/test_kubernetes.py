"""Kubernetes objects: valid for the last three releases, safe by default, and what is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dukou.base.errors import InputError
from dukou.fleet.kubernetes import (
    Amount,
    Wishes,
    name_of_model,
    object_name,
    parse_replicas,
    plan_manifests,
    secrets_to_make,
)
from dukou.fleet.reference import parse_image
from dukou.fleet.yaml import dump_yaml, without_notes

WISHES = Wishes(
    name="digits",
    image=parse_image("registry.example.com/digits:3", flag="--image"),
    least=2,
    most=6,
    cpu=Amount(0.5, "as `--cpu` says"),
    memory=Amount(128 << 20, "measured"),
    model_bytes=410_000_000,
)
LATEST = int(kubernetes_validate.latest_version().split(".")[1])
RELEASES = [f"1.{LATEST - age}" for age in range(3)]


def written(wishes: Wishes) -> dict[str, Any]:
    """The objects as somebody reads them from the files."""
    objects = {
        name: yaml.safe_load(dump_yaml(each, "head"))
        for name, each in plan_manifests(wishes).items()
    }
    assert objects == {k: without_notes(each) for k, each in plan_manifests(wishes).items()}
    return objects


def pod(wishes: Wishes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod's specification and its container's."""
    spec = written(wishes)["deployment"]["spec"]["template"]["spec"]
    [container] = spec["containers"]
    return spec, container


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    "wishes",
    [
        WISHES,
        replace(WISHES, insecure=True, namespace="models", callers=("web", "batch")),
        replace(WISHES, is_encrypted=True, port=9000, cpu=Amount(3.2, "x")),
    ],
    ids=["guarded", "insecure", "encrypted"],
)
def test_every_object_is_valid(wishes: Wishes, release: str) -> None:
    objects = written(wishes)
    kinds = [each["kind"] for each in objects.values()]
    assert sorted(kinds) == [
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    ]
    for each in objects.values():
        kubernetes_validate.validate(each, release, strict=True)


def test_a_wrong_object_would_be_found() -> None:
    broken = written(WISHES)["deployment"]
    broken["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRoot"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, RELEASES[0], strict=True)


def test_it_is_restricted() -> None:
    spec, container = pod(WISHES)
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    [policy] = [each for each in written(WISHES).values() if each["kind"] == "NetworkPolicy"]
    assert policy["spec"]["egress"] == [] and set(policy["spec"]["policyTypes"]) == {
        "Ingress",
        "Egress",
    }
    assert policy["spec"]["ingress"][0]["from"] == [{"podSelector": {}}]


def test_it_asks_the_right_endpoints_by_the_right_scheme() -> None:
    for wishes, scheme in ((WISHES, "HTTPS"), (replace(WISHES, insecure=True), "HTTP")):
        _, container = pod(wishes)
        paths = {
            probe: container[probe]["httpGet"]["path"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        assert paths == {
            "startupProbe": "/v2/health/ready",
            "readinessProbe": "/v2/health/ready",
            "livenessProbe": "/v2/health/live",
        }
        assert container["readinessProbe"]["httpGet"]["scheme"] == scheme
        assert ("--insecure" in container["args"]) is wishes.insecure
        assert ("volumeMounts" in container) is not wishes.insecure
    # 410 MB are read at 20 MB a second at least.
    assert pod(WISHES)[1]["startupProbe"]["failureThreshold"] == 60 + 21


def test_a_drain_fits_into_the_time_that_there_is() -> None:
    spec, container = pod(WISHES)
    news = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > news + 20
    deployment = written(WISHES)["deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in deployment


def test_amounts_and_where_they_come_from() -> None:
    _, container = pod(WISHES)
    assert container["resources"] == {
        "requests": {"cpu": "500m", "memory": "128Mi"},
        "limits": {"cpu": "1", "memory": "128Mi"},
    }
    text = dump_yaml(plan_manifests(WISHES)["deployment"])
    assert "# as `--cpu` says\n" in text and "# measured\n" in text
    scaler = written(WISHES)["horizontalpodautoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 6)
    assert scaler["scaleTargetRef"]["name"] == "digits"


def test_who_may_call_from_elsewhere() -> None:
    policy = written(replace(WISHES, callers=("web",)))["networkpolicy"]
    assert policy["spec"]["ingress"][0]["from"][1] == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "web"}}
    }


def test_a_gateway_may_ask_others() -> None:
    policy = written(replace(WISHES, asks_others=True))["networkpolicy"]
    assert policy["spec"]["egress"] == [{}]
    kubernetes_validate.validate(policy, RELEASES[0], strict=True)


def test_secrets_are_named_and_never_written() -> None:
    commands = secrets_to_make(replace(WISHES, is_encrypted=True, namespace="models"))
    assert len(commands) == 3 and all("--namespace models" in command for command in commands)
    assert not secrets_to_make(replace(WISHES, insecure=True))
    _, container = pod(replace(WISHES, is_encrypted=True))
    assert {each["name"] for each in container["env"]} == {
        "DUKOU_MODEL_KEY",
        "DUKOU_ENCRYPTION_KEY",
    }


@pytest.mark.parametrize(
    ("text", "found"), [("1", (1, 3)), ("3", (3, 9)), ("2:8", (2, 8)), ("5:5", (5, 5))]
)
def test_replicas(text: str, found: tuple[int, int]) -> None:
    assert parse_replicas(text) == found


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "3:2", "1:2:3", "1.5", "2:", "99999", "٣"])
def test_replicas_that_cannot_be(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_replicas(text)
    assert refused.value.code == "usage.invalid" and f"--replicas {text}" in refused.value.message


def test_names() -> None:
    assert name_of_model("Digits_MLP.v2") == "digits-mlp-v2"
    assert object_name("a-1", flag="--name") == "a-1"
    for wrong in ("A", "-a", "a-", "a.b", "", "a" * 64):
        with pytest.raises(InputError):
            object_name(wrong, flag="--name")
    with pytest.raises(InputError):
        name_of_model("___")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "on",
        "No",
        "1.5",
        "1e3",
        "0x1f",
        "~",
        "- a",
        "a: b",
        "#x",
        "é",
        "a\nb",
        "null",
        0o440,
        3.5,
    ],
)
def test_what_yaml_could_misread_is_quoted(value: object) -> None:
    document = {"a": value, "b": [value, {"c": [], "d": {}}], "e": True, "f": None}
    assert yaml.safe_load(dump_yaml(document)) == document
