"""Privacy: every tag is of a field that there is, and nothing is captured that nobody thought about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dukou.lifecycle.stage import Line
from dukou.lifecycle.tags import check_tags


class PrivacyStage:
    """Before training: a mistake here would else be said only when the model is there. Cheap."""

    name = "privacy"
    needs = ("data",)
    revision = 1
    cached = False

    def depends(self, line: Line) -> Mapping[str, Any]:
        """The tags, and whether requests are to be kept."""
        return {
            "privacy": line.project.privacy.model_dump(),
            "capture": line.project.monitor.capture,
        }

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:  # noqa: ARG002 (facts are all it leaves)
        """Raises InputError `privacy.unknown-field`, `privacy.untagged`."""
        features = line.facts("data")["features"]
        policy = check_tags(line.project, features)
        kinds = Counter(
            policy.fields[name].kind if name in policy.fields else "" for name in features
        )
        return {
            "fields": len(features),
            "tagged": dict(sorted((kind, count) for kind, count in kinds.items() if kind)),
            "others": policy.fields["*"].text if "*" in policy.fields else "",
            "capture": line.project.monitor.capture,
        }

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        said = ", ".join(f"{count} {kind}" for kind, count in facts["tagged"].items())
        if facts["others"]:
            said += f"{', ' if said else ''}all {'others ' if said else ''}{facts['others']}"
        capture = "requests are kept so" if facts["capture"] else "no request is kept"
        return f"{facts['fields']} fields, {said or 'none tagged'}; {capture}"
