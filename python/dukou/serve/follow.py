"""Folders of models that are followed: a version that is put there is served, one that is taken away is not.

A folder is looked at about once a second, and read anew once it has stood still from one look to the next: what
is being copied there is not taken half-way. What cannot be read changes nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dukou.base.errors import DukouError, InputError
from dukou.base.ids import ModelName
from dukou.deploy.dropin.triton import Policy
from dukou.serve.bare import NO_SETTINGS, FileModel, Settings
from dukou.serve.local_api import LocalApi
from dukou.serve.repository import read_repository

# A model's folder, a version's, Triton's folder of a graph with its weights.
_DEEPEST = 3
Files = Mapping[ModelName, FileModel]
Converted = Mapping[Path, tuple[Path, list[dict[str, Any]] | None]]


class Followed(NamedTuple):
    """A folder that is followed.

    Attributes:
        path: where it is.
        name: what its only model is served as; the folder's word where None.
        policy: which versions are served; its models' own word where None.
        converted: files of other kinds → what was made of them at the start.
        settings: what is said of its models elsewhere.
    """

    path: Path
    name: ModelName | None
    policy: Policy | None
    converted: Converted
    settings: Settings = NO_SETTINGS


class Follower:
    """Looks at folders, and says what is to be served once that has changed.

    Args:
        folders: that are followed.
        files: what is served at first, from them and from elsewhere.
    """

    def __init__(self, folders: Sequence[Followed], files: Files) -> None:
        self._folders = folders
        self._elsewhere = dict(files)
        for folder in folders:
            for name in _read(folder):
                self._elsewhere.pop(name, None)
        self._served = dict(files)
        self._pending = self._stamp()
        self._seen: tuple[Any, ...] = self._pending

    def look(self) -> Files | None:
        """All that is to be served now, where it is not what is; None where nothing changed, or not yet.

        Raises:
            DukouError: the folders changed, and cannot be served as they lie. Said once.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        if stamp != self._pending:
            self._pending = stamp
            return None
        self._seen = stamp
        files = dict(self._elsewhere)
        for folder in self._folders:
            for name, model in _read(folder).items():
                if name in files:
                    raise InputError("usage.invalid", f"two models are to be served as `{name}`")
                files[name] = model
        return None if files == self._served else files

    def taken(self, files: Files) -> str:
        """What was said by `look` is served now; what of it is new, for people."""
        changed = [
            f"{name} {', '.join(model.versions)}"
            for name, model in files.items()
            if self._served.get(name) != model
        ]
        gone = [f"no {name}" for name in self._served if name not in files]
        self._served = dict(files)
        return "; ".join([*changed, *gone])

    def look_again(self) -> None:
        """What `look` said was not taken for no fault of its own: it says it again."""
        self._seen = ()

    @property
    def served(self) -> Files:
        """What is served."""
        return self._served

    def _stamp(self) -> tuple[Any, ...]:
        return tuple(_entries(str(folder.path), _DEEPEST) for folder in self._folders)


class Offer(threading.Thread):
    """A table on its way to the engine, which may take a while to load what is new in it.

    Attributes:
        files: what the table serves.
        error: why the engine did not take it.
    """

    def __init__(self, api: LocalApi, table: dict[str, Any], files: Files) -> None:
        super().__init__(daemon=True)
        self._api = api
        self._table = table
        self.files = files
        self.error: DukouError | None = None
        self.start()

    def run(self) -> None:
        """Offers it."""
        try:
            self._api.put_table(self._table)
        except DukouError as error:
            self.error = error


def _entries(folder: str, depth: int) -> tuple[Any, ...]:
    """What lies in a folder, as far down as models do; equal for as long as nothing there changes."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                inside: Any = None
                if depth and entry.is_dir():
                    inside = _entries(entry.path, depth - 1)
                at = entry.stat()
                found.append((entry.name, at.st_mtime_ns, at.st_size, inside))
    except OSError:
        return ("unreadable",)
    return tuple(sorted(found, key=lambda entry: entry[0]))


def _read(folder: Followed) -> Files:
    def convert(path: Path) -> tuple[Path, list[dict[str, Any]] | None]:
        if path in folder.converted:
            return folder.converted[path]
        raise InputError(
            "folder.foreign-model",
            f"`{path}` is new there, and has to be converted first",
            hint="serve the folder anew, or put its ONNX there: `dukou convert` makes it",
        )

    found = read_repository(folder.path, convert, policy=folder.policy, trust_code=True).models
    # A label whose version has gone is no reason to serve nothing new.
    settings = folder.settings._replace(lenient=True)
    found = {name: settings.upon(name, model)[0] for name, model in found.items()}
    if folder.name is None:
        return found
    if len(found) != 1:
        raise InputError(
            "usage.invalid",
            f"`{folder.path}` holds {len(found)} models now, and its one was served as `{folder.name}`",
        )
    return {folder.name: model for model in found.values()}  # noqa: B035 (there is one)
