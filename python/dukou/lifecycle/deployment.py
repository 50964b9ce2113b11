"""The project's part of its model's deployment: what the registry keeps for whoever serves the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dukou.lifecycle.project import Project

if TYPE_CHECKING:
    from dukou.registry.registry import Registry


def put_deployment(registry: Registry, project: Project) -> None:
    """Writes the project's settings into the model's deployment; what others wrote there stays.

    A project that asks for nothing leaves no deployment behind: the model's name is enough.

    Raises:
        StateError: `registry.conflict`, where somebody changed it at the same time.
        InputError: `deploy.invalid`, where what is there cannot be read.
    """
    from dukou.base.documents import parse_document
    from dukou.deploy.document import Deployment

    name = project.model.name
    kept = registry.deployment(name)
    ours = _ours(project)
    if kept is None and not ours:
        return
    document: dict[str, Any] = {"version": 1, "name": name, "models": [{"name": name}]}
    if kept is not None:
        document = dict(kept.document)
    models = [dict(model) for model in document["models"]]
    for model in models:
        if (model.get("model") or model["name"]) == name:
            model.pop("capture", None)
            model.pop("monitor", None)
            model.update(ours)
    document["models"] = models
    parse_document(Deployment, document, code="deploy.invalid", source=f"deployment `{name}`")
    registry.put_deployment(name, document, expected=0 if kept is None else kept.revision)


def _ours(project: Project) -> dict[str, Any]:
    monitor = project.monitor
    if not monitor.capture:
        return {}
    return {
        "capture": {"share": monitor.share},
        "monitor": {
            "window_rows": monitor.window_rows,
            "alarms": monitor.alarms,
            "within": monitor.within,
            "max_bytes": monitor.max_bytes,
            "keep": monitor.keep,
            "webhook": monitor.webhook,
            "drift": monitor.drift,
        },
    }
