"""Plain Kubernetes objects that run an image of `dukou image build`, ready for production.

A Deployment, a Service, a HorizontalPodAutoscaler, a PodDisruptionBudget and a NetworkPolicy; no custom
resource, no operator, no template language. Pure: wishes in, documents out; nobody is asked.

Sources: the API reference of Kubernetes (apps/v1, v1, autoscaling/v2, policy/v1, networking.k8s.io/v1)
and its Pod Security Standard `restricted`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dukou.base.errors import InputError
from dukou.deploy import defaults
from dukou.fleet.image import ACCESS, LIVE, PORT, READY, USER
from dukou.fleet.reference import ImageReference
from dukou.fleet.yaml import Noted

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_NAMESPACE = _LABEL
# While a pod is taken out of its Service, callers still come for as long as the news takes.
_NEWS_S = 5
# Beyond the drain, for the process to end.
_SPARE_S = 10
_MIB = 1 << 20
# Of a pod's processors, how many are to be busy.
_BUSY_PERCENT = 70
_MOST_REPLICAS = 10_000
# Weights are read at no less than this from a node's disk.
_READ_BYTES_S = 20e6


@dataclass(frozen=True, slots=True)
class Amount:
    """So much of something, and why.

    Attributes:
        value: processors, or bytes.
        origin: where the number comes from, for the comment beside it.
    """

    value: float
    origin: str


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to run in a cluster.

    Attributes:
        name: of the objects: a DNS label.
        image: what runs.
        least: replicas at least.
        most: and at most.
        cpu: processors that a replica asks for.
        memory: bytes that it may take.
        model_bytes: of its weights, which the first start reads.
        namespace: where; the context's where None.
        insecure: whether it answers anybody in clear, as an image built with `--insecure`.
        is_encrypted: whether a version needs an encryption key.
        port: on which it answers.
        callers: namespaces besides its own whose pods may ask.
        asks_others: whether it asks servers elsewhere.
    """

    name: str
    image: ImageReference
    least: int
    most: int
    cpu: Amount
    memory: Amount
    model_bytes: int = 0
    namespace: str | None = None
    insecure: bool = False
    is_encrypted: bool = False
    port: int = PORT
    callers: tuple[str, ...] = ()
    asks_others: bool = False


def parse_replicas(text: str) -> tuple[int, int]:
    """`3` (and up to three times as many), or `2:8`.

    Raises:
        InputError: `usage.invalid`, with what it may be.
    """
    parts = text.split(":")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(
            "usage.invalid",
            f"`--replicas {text}` is not a number of replicas",
            hint="`--replicas 3`, or from so many to so many: `--replicas 2:8`",
        )
    least = int(parts[0])
    most = int(parts[1]) if len(parts) == 2 else min(_MOST_REPLICAS, 3 * least)
    if least < 1:
        raise InputError(
            "usage.invalid", f"`--replicas {text}` leaves {least} replicas: nobody would answer"
        )
    if most < least:
        raise InputError(
            "usage.invalid", f"`--replicas {text}` asks for at least {least} and at most {most}"
        )
    if most > _MOST_REPLICAS:
        raise InputError(
            "usage.invalid", f"`--replicas {text}` is more than {_MOST_REPLICAS} replicas"
        )
    return least, most


def object_name(text: str, *, flag: str) -> str:
    """A name that Kubernetes takes for every kind of object.

    Raises:
        InputError: `usage.invalid`.
    """
    if _LABEL.match(text):
        return text
    raise InputError(
        "usage.invalid",
        f"`{flag} {text}` is not a name in Kubernetes: up to 63 of a-z, 0-9 and `-`, a letter or "
        "digit first and last",
    )


def name_of_model(model: str) -> str:
    """The objects' name made of a model's.

    Raises:
        InputError: `usage.invalid`: none can be made.
    """
    made = re.sub(r"[^a-z0-9-]+", "-", model.lower()).strip("-")[:63].strip("-")
    if not made:
        raise InputError(
            "usage.invalid",
            f"no name in Kubernetes can be made of the model's, `{model}`",
            hint="give one with `--name`",
        )
    return made


def plan_manifests(wishes: Wishes) -> dict[str, dict[str, Any]]:
    """The objects, by the names of their files, in the order in which they are applied.

    Values may be `Noted`: `dukou.fleet.yaml` writes the notes as comments.
    """
    return {
        "networkpolicy": _network_policy(wishes),
        "service": _service(wishes),
        "deployment": _deployment(wishes),
        "poddisruptionbudget": _disruption_budget(wishes),
        "horizontalpodautoscaler": _autoscaler(wishes),
    }


def secrets_to_make(wishes: Wishes) -> Sequence[str]:
    """The commands that make what the Deployment mounts; a manifest is no place for a secret."""
    inside = "" if wishes.namespace is None else f" --namespace {wishes.namespace}"
    commands = []
    if not wishes.insecure:
        commands += [
            f"kubectl create secret generic {wishes.name}-keys{inside} "
            "--from-file=keys.json=$HOME/.dukou/access/keys.json",
            f"kubectl create secret tls {wishes.name}-tls{inside} --cert=tls.crt --key=tls.key",
        ]
    if wishes.is_encrypted:
        commands.append(
            f"kubectl create secret generic {wishes.name}-encryption{inside} --from-file=key=KEY_FILE"
        )
    return commands


def _meta(wishes: Wishes) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": wishes.name}
    if wishes.namespace is not None:
        meta["namespace"] = wishes.namespace
    return {**meta, "labels": _labels(wishes)}


def _labels(wishes: Wishes) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": wishes.name,
        "app.kubernetes.io/component": "inference",
        "app.kubernetes.io/managed-by": "dukou",
    }


def _selected(wishes: Wishes) -> dict[str, Any]:
    return {"matchLabels": {"app.kubernetes.io/name": wishes.name}}


def _deployment(wishes: Wishes) -> dict[str, Any]:
    drain_s = math.ceil(defaults.DRAIN_MS / 1000)
    spec: dict[str, Any] = {
        "revisionHistoryLimit": 5,
        "selector": _selected(wishes),
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {
                "maxSurge": 1,
                "maxUnavailable": Noted(0, "a new pod answers before an old one goes"),
            },
        },
        "template": {
            "metadata": {"labels": _labels(wishes)},
            "spec": {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": Noted(
                    _NEWS_S + drain_s + _SPARE_S,
                    f"{_NEWS_S} s until no new caller comes, {drain_s} s at most for requests in "
                    f"flight, {_SPARE_S} s to spare",
                ),
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "fsGroup": USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": key,
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": _selected(wishes),
                    }
                    for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
                ],
                "containers": [_container(wishes)],
            },
        },
    }
    volumes = _volumes(wishes)
    if volumes:
        spec["template"]["spec"]["volumes"] = volumes
    note = "how many there are is the HorizontalPodAutoscaler's business: no `replicas` here"
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(wishes),
        "spec": Noted(spec, note),
    }


def _container(wishes: Wishes) -> dict[str, Any]:
    arguments = ["--listen", f"http=0.0.0.0:{wishes.port}"]
    container: dict[str, Any] = {
        "name": "engine",
        "image": str(wishes.image),
        "args": arguments + (["--insecure"] if wishes.insecure else []),
        "ports": [{"name": "http", "containerPort": wishes.port, "protocol": "TCP"}],
        "resources": _resources(wishes),
        "startupProbe": {
            **_probe(wishes, READY),
            "periodSeconds": 1,
            "failureThreshold": Noted(
                60 + math.ceil(wishes.model_bytes / _READ_BYTES_S),
                f"a minute, and longer where weights are read: here {_size(wishes.model_bytes)}",
            ),
        },
        "readinessProbe": {**_probe(wishes, READY), "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {**_probe(wishes, LIVE), "periodSeconds": 10, "failureThreshold": 3},
        "lifecycle": {
            "preStop": Noted(
                {"sleep": {"seconds": _NEWS_S}},
                "the pod leaves its Service first; then SIGTERM drains it. Kubernetes 1.30 and newer",
            )
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if wishes.is_encrypted:
        key = {"name": f"{wishes.name}-encryption", "key": "key"}
        container["env"] = [
            {"name": "DUKOU_MODEL_KEY", "valueFrom": {"secretKeyRef": key}},
            {"name": "DUKOU_ENCRYPTION_KEY", "value": "env:DUKOU_MODEL_KEY"},
        ]
    if not wishes.insecure:
        container["volumeMounts"] = [{"name": "access", "mountPath": ACCESS, "readOnly": True}]
    return container


def _volumes(wishes: Wishes) -> list[dict[str, Any]]:
    if wishes.insecure:
        return []
    sources = [
        {"secret": {"name": f"{wishes.name}-keys"}},
        {"secret": {"name": f"{wishes.name}-tls"}},
    ]
    # 0440: the group is the pod's own.
    return [{"name": "access", "projected": {"defaultMode": 0o440, "sources": sources}}]


def _probe(wishes: Wishes, path: str) -> dict[str, Any]:
    scheme = "HTTP" if wishes.insecure else "HTTPS"
    return {"httpGet": {"path": path, "port": "http", "scheme": scheme}, "timeoutSeconds": 2}


def _resources(wishes: Wishes) -> dict[str, Any]:
    memory = f"{math.ceil(wishes.memory.value / _MIB)}Mi"
    asked = max(1, math.ceil(wishes.cpu.value * 1000))
    # The engine has as many threads as whole processors: a limit keeps it from one a processor of the node.
    limit = max(1, math.ceil(wishes.cpu.value))
    return {
        "requests": {
            "cpu": Noted(f"{asked}m", wishes.cpu.origin),
            "memory": Noted(memory, wishes.memory.origin),
        },
        "limits": {
            "cpu": Noted(str(limit), "whole processors: the engine runs one thread on each"),
            "memory": Noted(memory, "as requested, so that no neighbour's need ends it"),
        },
    }


def _service(wishes: Wishes) -> dict[str, Any]:
    port = 80 if wishes.insecure else 443
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(wishes),
        "spec": {
            "type": "ClusterIP",
            "selector": {"app.kubernetes.io/name": wishes.name},
            "ports": [
                {
                    "name": "http",
                    "port": port,
                    "targetPort": "http",
                    "protocol": "TCP",
                    "appProtocol": "http" if wishes.insecure else "https",
                }
            ],
        },
    }


def _autoscaler(wishes: Wishes) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _meta(wishes),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": wishes.name},
            "minReplicas": wishes.least,
            "maxReplicas": wishes.most,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": _BUSY_PERCENT},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0},
                "scaleDown": {"stabilizationWindowSeconds": 300},
            },
        },
    }


def _disruption_budget(wishes: Wishes) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(wishes),
        "spec": {
            "maxUnavailable": Noted(1, "nodes can be emptied, one replica at a time"),
            "selector": _selected(wishes),
        },
    }


def _network_policy(wishes: Wishes) -> dict[str, Any]:
    callers: list[dict[str, Any]] = [{"podSelector": {}}]
    for namespace in wishes.callers:
        selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        callers.append({"namespaceSelector": selector})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(wishes),
        "spec": {
            "podSelector": _selected(wishes),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": Noted(callers, "its own namespace, and those that were named"),
                    "ports": [{"port": "http", "protocol": "TCP"}],
                }
            ],
            "egress": Noted([{}], "it asks servers elsewhere: narrow this to where they are")
            if wishes.asks_others
            else Noted([], "it asks nobody"),
        },
    }


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
