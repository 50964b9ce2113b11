"""An audit of what is installed, offline: requirements that do not hold, pins that are not kept, licences.

It cannot know what was found wrong with a release since: that needs a network and somebody's list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from dukou.base.errors import StateError
from dukou.lifecycle.project import Project

_PIN = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\]+)")
# Copyleft that would reach what is linked with it; weak forms are the user's to judge.
_COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)


def audit_dependencies(
    project: Project, _home: Path, say: Callable[[str], None]
) -> Mapping[str, Any]:
    """Looks at every installed distribution.

    Returns:
        `packages` (name → version), `unmet`, `unpinned` (of the project's `requirements*.txt`) and
        `copyleft`.

    Raises:
        StateError: `maintain.failed`, where a requirement or a pin does not hold.
    """
    packages = {_canonical(d.metadata["Name"]): d.version for d in metadata.distributions()}
    unmet = sorted(set(_unmet(packages)))
    unpinned = sorted(set(_unpinned(project.folder, packages)))
    copyleft = sorted(
        _canonical(d.metadata["Name"])
        for d in metadata.distributions()
        if _COPYLEFT.search(_licence(d.metadata)) and "LGPL" not in _licence(d.metadata)
    )
    found = {"packages": packages, "unmet": unmet, "unpinned": unpinned, "copyleft": copyleft}
    say(
        f"{len(packages)} packages: {len(unmet)} requirements not met, {len(unpinned)} pins not "
        f"kept, {len(copyleft)} under a copyleft licence"
    )
    if unmet or unpinned:
        raise StateError("maintain.failed", "; ".join([*unmet, *unpinned][:5]))
    return found


def _unmet(packages: Mapping[str, str]) -> Iterator[str]:
    from packaging.requirements import InvalidRequirement, Requirement

    for distribution in metadata.distributions():
        for text in distribution.requires or ():
            try:
                wanted = Requirement(text)
            except InvalidRequirement:
                continue
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            there = packages.get(_canonical(wanted.name))
            name = distribution.metadata["Name"]
            if there is None:
                yield f"`{name}` requires `{wanted.name}`, which is not installed"
            elif not wanted.specifier.contains(there, prereleases=True):
                yield f"`{name}` requires `{wanted}`, installed is {there}"


def _unpinned(folder: Path, packages: Mapping[str, str]) -> Iterator[str]:
    for file in sorted(folder.glob("requirements*.txt")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            pin = _PIN.match(line)
            if pin is None:
                continue
            there = packages.get(_canonical(pin[1]))
            if there != pin[2]:
                came = "not installed" if there is None else f"installed is {there}"
                yield f"`{file.name}` pins `{pin[1]}=={pin[2]}`, {came}"


def _licence(about: Any) -> str:
    classifiers = [c for c in about.get_all("Classifier") or () if c.startswith("License")]
    return " ".join([about.get("License-Expression") or "", *classifiers])


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
