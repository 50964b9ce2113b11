"""The project's part of its model's deployment: what the registry keeps for whoever serves the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dukou.lifecycle.project import DeploySection, Project

if TYPE_CHECKING:
    from dukou.registry.registry import Registry
    from dukou.trust.privacy.policy import PrivacyPolicy


# What of a deployment `[deploy]` can say: the document's key, or section and key → the project's.
_WHOLE = {"profile": "profile", "replicas": "replicas", "memory_bytes": "memory_bytes"}
_OF_MODEL = {
    ("run", "instances"): "instances",
    ("run", "threads"): "threads",
    ("run", "providers"): "providers",
    ("batching", "max_rows"): "batch_rows",
    ("limits", "queue"): "queue",
    ("limits", "deadline_ms"): "deadline_ms",
}


def put_deployment(
    registry: Registry, project: Project, policy: PrivacyPolicy | None = None
) -> None:
    """Writes the project's settings into the model's deployment; what others wrote there stays.

    What the project file can say is the project's alone: a line that is gone from the file is gone
    from the deployment, and the default holds.

    A project that asks for nothing leaves no deployment behind: the model's name is enough.

    Args:
        registry: where to.
        project: whose settings.
        policy: what may be kept of requests, where they are to be; None leaves it to what the version
            says of itself.

    Raises:
        StateError: `registry.conflict`, where somebody changed it at the same time.
        InputError: `deploy.invalid`, where what is there cannot be read.
    """
    from dukou.base.documents import parse_document
    from dukou.deploy.document import Deployment

    name = project.model.name
    kept = registry.deployment(name)
    ours, whole = _ours(project, policy), _whole(project.deploy)
    if kept is None and not ours and not whole:
        return
    document: dict[str, Any] = {"version": 1, "name": name, "models": [{"name": name}]}
    if kept is not None:
        document = dict(kept.document)
    models = [dict(model) for model in document["models"]]
    for model in models:
        if (model.get("model") or model["name"]) == name:
            model.pop("capture", None)
            model.pop("monitor", None)
            model.pop("privacy", None)
            model.pop("cache", None)
            for section, key in _OF_MODEL:
                model[section] = {k: v for k, v in model.get(section, {}).items() if k != key}
            for section in {section for section, _ in _OF_MODEL}:
                model[section] |= ours.get(section, {})
                if not model[section]:
                    del model[section]
            model.update({key: value for key, value in ours.items() if key not in model})
    document = {key: value for key, value in document.items() if key not in _WHOLE} | whole
    document["models"] = models
    parse_document(Deployment, document, code="deploy.invalid", source=f"deployment `{name}`")
    registry.put_deployment(name, document, expected=0 if kept is None else kept.revision)


def _whole(deploy: DeploySection) -> dict[str, Any]:
    """What `[deploy]` says of the deployment as a whole, but for what is the default anyway."""
    said = {key: getattr(deploy, name) for key, name in _WHOLE.items()}
    default = DeploySection()
    return {key: value for key, value in said.items() if value != getattr(default, _WHOLE[key])}


def _ours(project: Project, policy: PrivacyPolicy | None) -> dict[str, Any]:
    """What the project says of its model, as in a deployment."""
    ours: dict[str, Any] = {}
    for (section, key), name in _OF_MODEL.items():
        value = getattr(project.deploy, name)
        if value is not None:
            ours.setdefault(section, {})[key] = value
    if project.deploy.cache is not None:
        ours["cache"] = project.deploy.cache.document()
    return ours | _watching(project, policy)


def _watching(project: Project, policy: PrivacyPolicy | None) -> dict[str, Any]:
    monitor = project.monitor
    if not monitor.capture:
        return {}
    return {
        "capture": {"share": monitor.share},
        "privacy": None if policy is None else policy.to_json(),
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
