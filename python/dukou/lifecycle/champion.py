"""The version that serves now, as a new training sees it: something to start from and to beat."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import StateError
from dukou.lifecycle.results import KeptResults

if TYPE_CHECKING:
    from dukou.model.model import Model


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that serves now.

    Attributes:
        version: its number.
        digest: of its manifest.
        model: the model that is served, its files in a folder of its own.
        trained: the file that its training command left; None where this machine has it no more.
    """

    version: int
    digest: str
    model: Model
    trained: Path | None

    @property
    def warm_start(self) -> Path:
        """What the training command is given: its own file, else the served graph."""
        return self.trained or self.model.graph


def find_champion(home: Path, name: str) -> Champion | None:
    """The champion of `name`, verified and laid out; None where the model has no version yet.

    Raises:
        DukouError: `registry.unreadable`, `package.*`.
    """
    from dukou.registry.registry import Registry

    with Registry.open(home) as registry:
        try:
            entry = registry.resolve(name)
        except StateError as error:
            if error.code in ("registry.unknown-model", "registry.unknown-version"):
                return None
            raise
    return open_champion(home, name, entry.number, entry.digest)


def open_champion(home: Path, name: str, number: int, digest: str) -> Champion:
    """This version of `name`, as a champion.

    Raises:
        DukouError: `package.*`.
    """
    from dukou.package.store import Store
    from dukou.package.unpack import folder_for, open_version
    from dukou.trust.keys import load_trust_store

    store, trusted = Store(home / "store"), load_trust_store(home)
    # Copies: tools that read a graph refuse weights with several names, as the store's have.
    place = home / "cache" / "champions" / digest.removeprefix("sha256:")
    folder = folder_for(store, digest, place)
    if folder is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
    model = open_version(store, digest, trusted, folder=folder, copy=True)
    return Champion(number, digest, model, _find_trained(home, name, digest))


def _find_trained(home: Path, name: str, digest: str) -> Path | None:
    """What the training of this version left, by the record of the run that published it."""
    for record in sorted((home / "runs" / name).glob("*/run.json"), reverse=True):
        try:
            stages = json.loads(record.read_text(encoding="utf-8"))["stages"]
            if stages["publish"]["facts"]["digest"] != digest:
                continue
            key, file = str(stages["train"]["key"]), str(stages["train"]["facts"]["model"])
        except (OSError, ValueError, LookupError, TypeError):
            continue  # a run that stopped earlier, or a record of another kind
        kept = KeptResults(home).find("train", key)
        if kept is not None and (kept / file).is_file():
            return kept / file
    return None
