"""A deployment becomes a serving table: names to digests, defaults to values. Pure but for what it asks.

What it names must exist: the first thing that does not is `deploy.invalid`, with its place in the
document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dukou.base.documents import parse_document
from dukou.base.errors import InputError, StateError
from dukou.deploy import defaults
from dukou.deploy.document import Arm, DeployedModel, Deployment
from dukou.deploy.door import LOOPBACK, Door
from dukou.deploy.elsewhere import FILE_VERSION, GRAPH_VERSION, REMOTE_VERSION
from dukou.deploy.graphs import problem_among_models
from dukou.deploy.override import NO_OVERRIDE, Override
from dukou.deploy.table import ServingTable

_MILLION = 1_000_000


class ResolvedVersion(Protocol):
    """What a resolver says of a version; the registry's entries are such."""

    @property
    def number(self) -> int:
        """Its number."""
        ...

    @property
    def digest(self) -> str:
        """Of its manifest."""
        ...

    @property
    def aliases(self) -> Sequence[str]:
        """The names that lead to it now."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a table says besides its models.

    Attributes:
        store: the OCI layout that holds the versions.
        listeners: names of the inherited sockets.
        trusted: (id, PEM) of the keys whose signatures count.
        connections: that the process may hold.
        access_log: where requests are written down; None for nowhere.
        security_log: where refusals are.
        door: what is allowed on the listeners.
        principals: whose keys are good on them, as in a table.
        bare: models served from bare files, as in a table.
        override: what is said of every model in place of its deployment's word.
        stores: folders from which clients may register models.
    """

    store: Path
    listeners: Sequence[str]
    trusted: Sequence[tuple[str, str]] = ()
    connections: int = defaults.CONNECTIONS
    access_log: Path | None = None
    security_log: Path | None = None
    door: Door = LOOPBACK
    principals: Sequence[dict[str, Any]] = ()
    bare: Sequence[dict[str, Any]] = ()
    override: Override = NO_OVERRIDE
    stores: Sequence[Path] = ()


def compile_deployment(
    deployments: Sequence[Deployment],
    *,
    resolve: Callable[[str], ResolvedVersion],
    labels: Callable[[str], Sequence[str]],
    surroundings: Surroundings,
    sequence: int,
) -> ServingTable:
    """The table that serves these deployments together.

    Args:
        deployments: what is to be served; usually one.
        resolve: `NAME`, `NAME:3` or `NAME@alias` → version; raises StateError `registry.unknown-*`.
        labels: digest → class names, empty where there are none.
        surroundings: everything else that the table says.
        sequence: of the table; later ones have larger numbers.

    Raises:
        InputError: `deploy.invalid`, naming what does not exist or is said twice.
    """
    compiled = list(surroundings.bare)
    taken = {str(model["name"]) for model in compiled}
    graphs: list[tuple[str, str, dict[str, Any]]] = []
    for deployment in deployments:
        for index, model in enumerate(deployment.models):
            if model.name in taken:
                raise InputError("deploy.invalid", f"two models are called `{model.name}`")
            taken.add(model.name)
            place = f"deployment `{deployment.name}`: models.{index}"
            if model.is_registered:
                compiled.append(_compile_model(model, place, resolve, labels, surroundings))
                continue
            compiled.append(_compile_elsewhere(model, surroundings.override))
            if model.graph is not None:
                graphs.append((model.name, f"{place}.graph", model.graph.to_table()["graph"]))
    _refuse_graphs(graphs, compiled)
    document = {
        "format": 1,
        "revision": f"r{sequence}",
        "sequence": sequence,
        "listeners": [surroundings.door.listener_document(n) for n in surroundings.listeners],
        "principals": list(surroundings.principals),
        "limits": defaults.server_limits_document(surroundings.connections),
        "trust": {
            "require_signature": all(d.require_signature for d in deployments),
            "keys": [{"id": key, "pem": pem} for key, pem in surroundings.trusted],
        },
        "observability": {
            "access_log": _text(surroundings.access_log),
            "security_log": _text(surroundings.security_log),
        },
        "repository": defaults.repository_document(
            surroundings.stores, providers=surroundings.override.providers
        ),
        "models": compiled,
    }
    return parse_document(ServingTable, document, code="deploy.invalid", source="the table")


def _compile_elsewhere(model: DeployedModel, override: Override) -> dict[str, Any]:
    """A model that is no version of the registry."""
    backend, cache = None, None
    if model.remote is not None:
        version, source = REMOTE_VERSION, model.remote.to_table(model.name)
    elif model.graph is not None:
        version, source = GRAPH_VERSION, model.graph.to_table()
    else:
        version, source = FILE_VERSION, {"file": str(model.file)}
        backend = defaults.backend_document(
            instances=model.run.instances, threads=model.run.threads
        )
        cache = override.cache or (model.cache and model.cache.model_dump())
    return {
        "name": model.name,
        "versions": [{"version": version, "source": source, "backend": backend, "golden": "off"}],
        "aliases": {},
        "split": [{"version": version, "arm": "main", "weight": 1}],
        "batching": model.batching.model_dump(),
        "limits": model.limits.model_dump(),
        "labels": [],
        "shadow": None,
        "capture": None,
        "cache": cache,
    }


def _refuse_graphs(
    graphs: Sequence[tuple[str, str, dict[str, Any]]], compiled: Sequence[dict[str, Any]]
) -> None:
    """Refuses graphs of models that are not there: by the place in the document, not in the table."""
    served = {
        model["name"]: {*model["aliases"], *(v["version"] for v in model["versions"])}
        for model in compiled
    }
    found = problem_among_models(graphs, served)
    if found is not None:
        raise InputError(
            "deploy.invalid",
            f"{found[0]}: {found[1]}",
            hint="a graph asks models of the same server: name it in the document, or on the command line",
        )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _compile_model(
    model: DeployedModel,
    place: str,
    resolve: Callable[[str], ResolvedVersion],
    labels: Callable[[str], Sequence[str]],
    surroundings: Surroundings,
) -> dict[str, Any]:
    store, override = str(surroundings.store), surroundings.override
    found: dict[int, ResolvedVersion] = {}
    split: list[dict[str, Any]] = []
    for index, arm in enumerate(model.traffic):
        entry = _resolve_arm(model, arm, f"{place}.traffic.{index}", resolve)
        found[entry.number] = entry
        split.append({"version": str(entry.number), "arm": arm.arm, "weight": arm.weight})
    shadow = None
    if model.shadow is not None:
        copied = Arm(arm="shadow", version=model.shadow.version)
        entry = _resolve_arm(model, copied, f"{place}.shadow", resolve)
        found[entry.number] = entry
        share = max(1, round(model.shadow.share * _MILLION))
        shadow = {"version": str(entry.number), "share": share}
    heaviest = max(model.traffic, key=lambda arm: arm.weight)
    champion = found[int(split[model.traffic.index(heaviest)]["version"])]
    return {
        "name": model.name,
        "versions": [
            {
                "version": str(number),
                "source": {"artifact": entry.digest, "store": store},
                "backend": defaults.backend_document(
                    instances=model.run.instances,
                    threads=model.run.threads,
                    providers=override.providers or model.run.provider_documents(),
                ),
                "golden": model.golden,
            }
            for number, entry in sorted(found.items())
        ],
        "aliases": {
            alias: str(number) for number, entry in found.items() for alias in entry.aliases
        },
        "split": split,
        "batching": model.batching.model_dump(),
        "limits": model.limits.model_dump(),
        "labels": list(labels(champion.digest)),
        "shadow": shadow,
        "capture": model.capture
        and {
            "share": max(1, round(model.capture.share * _MILLION)),
            "buffer_bytes": model.capture.buffer_bytes,
        },
        "cache": override.cache or (model.cache and model.cache.model_dump()),
    }


def _resolve_arm(
    model: DeployedModel, arm: Arm, place: str, resolve: Callable[[str], ResolvedVersion]
) -> ResolvedVersion:
    reference = model.line
    if arm.version is not None:
        reference += f":{arm.version}" if arm.version.isdigit() else f"@{arm.version}"
    try:
        return resolve(reference)
    except StateError as error:
        if not error.code.startswith("registry.unknown-"):
            raise
        raise InputError(
            "deploy.invalid", f"{place} names `{reference}`: {error.message}", hint=error.hint
        ) from error


def deployment_of_reference(name: str, reference: str) -> Deployment:
    """The deployment that a reference alone means: one model, all of its traffic to one version."""
    line, colon, number = reference.partition(":")
    line, at, alias = line.partition("@")
    version = number if colon else alias if at else None
    model = DeployedModel.model_validate(
        {"name": name, "model": line, "traffic": [{"version": version}]}
    )
    return Deployment(name=name, models=[model])
