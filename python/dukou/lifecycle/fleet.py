"""What a fleet is to be, by the deployment that the registry holds of what it serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dukou.base.ids import parse_model_name

# Where neither the command nor the deployment says how many: one may go, and two share the load.
DEFAULT_REPLICAS = 3


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What a deployment asks of a fleet.

    Attributes:
        name: of the fleet.
        replicas: how many.
        memory_bytes: that one engine may take; None where nothing is said.
        cpus: that one replica uses: its runs times their threads, of the model that takes most.
    """

    name: str
    replicas: int
    memory_bytes: int | None = None
    cpus: float = 1.0


def plan_fleet(home: Path, word: str, *, name: str | None, replicas: int | None) -> FleetPlan:
    """The plan for `dukou fleet up WORD`.

    Args:
        home: DUKOU_HOME.
        word: a deployment's or a model's name, a reference, a project's folder, a file.
        name: of the fleet, where the command says one.
        replicas: where the command says how many.

    Raises:
        DukouError: `deploy.invalid`, `formats.not-found`, `project.invalid`, `config.invalid`.
    """
    from dukou.serve.bare import name_of_file
    from dukou.serve.choose import model_of_project, model_of_reference, names_a_file

    model = model_of_project(word)
    path = Path(word).expanduser()
    if model is None and names_a_file(word, path):
        of_file = name_of_file(path) if name is None else parse_model_name(name)
        return FleetPlan(of_file, replicas or DEFAULT_REPLICAS)
    line = model or model_of_reference(word)
    called = line if name is None else parse_model_name(name)
    document = _deployment(home, line) if word == line or model is not None else None
    if document is None:
        return FleetPlan(called, replicas or DEFAULT_REPLICAS)
    said = document.replicas if document.replicas > 1 else None
    cpus = [m.run.instances * m.run.threads for m in document.models if m.run.instances is not None]
    return FleetPlan(
        called,
        replicas or said or DEFAULT_REPLICAS,
        document.memory_bytes,
        float(max(cpus, default=1)),
    )


def _deployment(home: Path, name: str) -> Any:
    from dukou.base.documents import parse_document
    from dukou.deploy.document import Deployment
    from dukou.registry.registry import Registry

    with Registry.open(home) as registry:
        entry = registry.deployment(name)
    if entry is None:
        return None
    source = f"deployment `{entry.name}`, revision {entry.revision}"
    return parse_document(Deployment, entry.document, code="deploy.invalid", source=source)
