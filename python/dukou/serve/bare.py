"""A serving table for bare ONNX files: no registry, no pydantic, no look into the file.

The engine reads the signature from its session. A test proves these documents valid against the
schema that `dukou.deploy.table` declares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from dukou.base.errors import InputError
from dukou.base.ids import ModelName, parse_model_name
from dukou.deploy import defaults
from dukou.deploy.door import LOOPBACK, Door
from dukou.deploy.dropin.tensorflow import check_labels
from dukou.deploy.override import NO_OVERRIDE, Override

# A bare file has no number of its own; clients that name a version name this one.
VERSION = "1"
# What of a model may be said in its folder and elsewhere.
_OF_RUNS = ("max_rows", "delay_us", "instances", "threads")


class FileModel(NamedTuple):
    """A model of bare files, and what the folder that it lies in says of it.

    Attributes:
        versions: number → ONNX file; requests that name no version go to the last.
        labels: class names, where known.
        max_rows: rows of one run; the usual where None, as for the next three.
        delay_us: how long an idle instance waits for more.
        instances: runs at once.
        threads: inside one run.
        aliases: names of versions → their numbers.
    """

    versions: Mapping[str, Path]
    labels: tuple[str, ...] = ()
    max_rows: int | None = None
    delay_us: int | None = None
    instances: int | None = None
    threads: int | None = None
    aliases: Mapping[str, str] = MappingProxyType({})

    @property
    def default(self) -> str:
        """The version that requests go to which name none."""
        return list(self.versions)[-1]

    @property
    def graph(self) -> Path:
        """Its file."""
        return self.versions[self.default]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        versions = {number: str(path.absolute()) for number, path in self.versions.items()}
        lists = {"labels": list(self.labels), "aliases": dict(self.aliases)}
        return {**self._asdict(), "versions": versions, **lists}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> FileModel:
        """What `to_json` gave."""
        versions = {number: Path(path) for number, path in document["versions"].items()}
        labels = tuple(document["labels"])
        return cls(**{**document, "versions": versions, "labels": labels})


class Settings(NamedTuple):
    """What a server's configuration says of a model beside its folder.

    Attributes:
        labels: names of versions → their numbers.
        lenient: whether a label of a version that is not there is passed over.
        max_rows: as of `FileModel`, as the next three.
        delay_us: …
        instances: …
        threads: …
    """

    labels: Mapping[str, str] = MappingProxyType({})
    lenient: bool = False
    max_rows: int | None = None
    delay_us: int | None = None
    instances: int | None = None
    threads: int | None = None

    def upon(self, name: ModelName, model: FileModel) -> tuple[FileModel, list[str]]:
        """A folder's model with what is said of it, and sentences of what is not honoured.

        Raises:
            InputError: `folder.invalid-config`: a label names what is not served.
        """
        aliases, notes = check_labels(
            name, dict(self.labels), list(model.versions), lenient=self.lenient
        )
        said = {key: getattr(self, key) for key in _OF_RUNS}
        said = {key: value for key, value in said.items() if value is not None}
        return model._replace(aliases=aliases, **said), notes


NO_SETTINGS = Settings()


def file_model(path: Path) -> FileModel:
    """A model of one file, which has no number of its own."""
    return FileModel({VERSION: path})


def name_of_file(path: Path) -> ModelName:
    """A model's name made of a file's: what a name cannot hold becomes `-`."""
    return name_of_words(path.stem, f"the file name `{path.name}`")


def name_of_words(words: str, said: str) -> ModelName:
    """A model's name made of these words: what a name cannot hold becomes `-`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", words).lstrip("._-")[:128]
    if not name:
        raise InputError(
            "config.invalid",
            f"no model's name can be made of {said}",
            hint="give one with `--name`",
        )
    return parse_model_name(name)


def bare_model(
    name: ModelName, model: FileModel | Path, override: Override = NO_OVERRIDE
) -> dict[str, Any]:
    """A served model of ONNX files: of one, or of a folder's versions."""
    if isinstance(model, Path):
        model = file_model(model)
    batching = defaults.batching_document()
    if model.max_rows is not None:
        batching["max_rows"] = model.max_rows
    if model.delay_us is not None:
        batching["delay_us"] = model.delay_us
    return {
        "name": name,
        "versions": [
            {
                "version": number,
                "source": {"file": str(path.absolute())},
                "backend": defaults.backend_document(
                    instances=model.instances,
                    threads=model.threads or 1,
                    providers=override.providers,
                ),
                "golden": "off",
            }
            for number, path in model.versions.items()
        ],
        "aliases": dict(model.aliases),
        "split": [{"version": model.default, "arm": "main", "weight": 1}],
        "batching": batching,
        "limits": defaults.model_limits_document(),
        "labels": list(model.labels),
        "shadow": None,
        "capture": None,
        "cache": override.cache,
    }


def bare_table(
    models: Mapping[ModelName, FileModel] | Mapping[ModelName, Path],
    *,
    listeners: list[str],
    connections: int = defaults.CONNECTIONS,
    access_log: Path | None = None,
    security_log: Path | None = None,
    door: Door = LOOPBACK,
    principals: Sequence[dict[str, Any]] = (),
    sequence: int = 1,
    override: Override = NO_OVERRIDE,
    stores: Sequence[Path] = (),
) -> dict[str, Any]:
    """The table that serves these files on these listeners; from `stores` clients may register more."""
    return {
        "format": 1,
        "revision": "bare",
        "sequence": sequence,
        "listeners": [door.listener_document(name) for name in listeners],
        "principals": list(principals),
        "limits": defaults.server_limits_document(connections),
        "trust": {"require_signature": True, "keys": []},
        "observability": {
            "access_log": None if access_log is None else str(access_log),
            "security_log": None if security_log is None else str(security_log),
        },
        "repository": defaults.repository_document(stores, providers=override.providers),
        "models": [bare_model(name, model, override) for name, model in models.items()],
    }
