"""Where running fleets are found: a private folder each, beside those of servers, held by a lock.

RUNTIME/fleet-<name>-<pid>/lock         flock'd by the fleet's process
RUNTIME/fleet-<name>-<pid>/fleet.json   what `dukou fleet status` needs to know
RUNTIME/fleet-<name>-<pid>/wanted.json  how many replicas `dukou fleet scale` asks for
HOME/fleets/<name>/                     the gateway's document, the replicas' logs
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dukou.base.errors import StateError
from dukou.serve.folder import ServerFolder, runtime_folder

_PREFIX = "fleet-"


class FleetFolder(ServerFolder):
    """The folder of a fleet that this process runs, or looks at."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fleet = path / "fleet.json"
        self.wanted = path / "wanted.json"


def new_fleet_folder(name: str) -> FleetFolder:
    """A folder for a fleet of this process; not made yet.

    Raises:
        StateError: `fleet.running`: there is one of this name.
    """
    for _, document in running_fleets():
        if document["name"] == name:
            raise StateError(
                "fleet.running",
                f"a fleet `{name}` runs already, as process {document['pid']}, at {document['url']}",
                hint=f"`dukou fleet scale {name} N` changes it, `dukou fleet down {name}` ends it",
            )
    folder = FleetFolder(runtime_folder() / f"{_PREFIX}{name[:40]}-{os.getpid()}")
    if folder.path.exists() and not folder.is_alive():
        folder.remove()  # of a fleet that was killed, whose number this process got
    return folder


def running_fleets() -> Iterator[tuple[FleetFolder, dict[str, Any]]]:
    """The fleets of this user that live, oldest first, each with its `fleet.json`."""
    found = []
    for path in runtime_folder().iterdir():
        folder = FleetFolder(path)
        if not path.name.startswith(_PREFIX) or not folder.is_alive():
            continue
        document = folder.read(folder.fleet)
        if document is not None:
            found.append((float(document["started"]), folder, document))
    for _, folder, document in sorted(found, key=lambda entry: entry[0]):
        yield folder, document


def find_fleet(name: str | None) -> tuple[FleetFolder, dict[str, Any]]:
    """The running fleet of this name; the only one where no name is said.

    Raises:
        StateError: `fleet.not-running`, with those that run.
    """
    fleets = list(running_fleets())
    for folder, document in fleets:
        if name == document["name"] or (name is None and len(fleets) == 1):
            return folder, document
    names = ", ".join(f"`{document['name']}`" for _, document in fleets)
    raise StateError(
        "fleet.not-running",
        (f"no fleet `{name}` runs here" if name is not None else "no one fleet is meant")
        + (f"; running: {names}" if names else "; none runs"),
        hint="`dukou fleet up NAME` starts one",
    )
