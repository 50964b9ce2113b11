"""Desired state: what the registry says now about what this server was told to serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError, StateError
from dukou.base.ids import ModelName
from dukou.control.privacy import policy_for
from dukou.control.revisions import Numbering, content_of, subject_of
from dukou.control.split import follows_champion, split_for_rollout
from dukou.deploy.compile import Surroundings, compile_deployment
from dukou.deploy.document import Deployment
from dukou.deploy.door import Door
from dukou.deploy.files import read_deployment
from dukou.deploy.override import Override
from dukou.deploy.placement import unplaced
from dukou.deploy.standalone import find_deployment
from dukou.deploy.table import ServingTable
from dukou.package.layout import GOLDEN_FILE
from dukou.package.store import Store
from dukou.package.unpack import read_config, read_document
from dukou.registry.registry import Registry
from dukou.serve.bare import FileModel, bare_model, file_model
from dukou.trust.keys import load_trust_store

# How often a table is made anew where the registry changes meanwhile.
_TRIES = 8


class DesiredState:
    """The desired table of one server, from its `desired.json` and the registry.

    Args:
        document: `desired.json`, written by the supervisor.
        registry: open for as long as this is used.
    """

    def __init__(self, document: dict[str, Any], registry: Registry) -> None:
        self._home = Path(document["home"])
        self._document = document
        self._registry = registry
        self._door = Door.from_json(document["door"])
        # Written by an older supervisor: it knew of none.
        self._documents = [Path(path) for path in document.get("documents", ())]
        self._numbering = Numbering(registry, subject_of(document))
        self._override = Override.from_json(document["override"])
        self.store = Store(self._home / "store")
        # digest → class names: a version never changes.
        self._labels: dict[str, tuple[str, ...]] = {}
        # Of these it was said that nothing is kept of them.
        self._unsaid: set[str] = set()
        # What the deployments of the last table ask for and nobody carries out.
        self.unplaced: list[StateError] = []
        self.memory_bytes: int | None = None

    def token(self) -> object:
        """Compares equal for as long as nothing that the table depends on changed. Cheap."""
        try:
            trusted = (self._home / "trust").stat().st_mtime_ns
        except OSError:
            trusted = 0
        documents = tuple(_stamp(path) for path in self._documents)
        return self._registry.change_token(), trusted, self._door.token(self._home), documents

    def compile(self, above: int) -> ServingTable:
        """The table that should be served, under the number that every server of it says.

        Args:
            above: the sequence that is being served; 0 for none. No smaller one comes.

        Raises:
            DukouError: `registry.unknown-*`, `registry.conflict`, `deploy.invalid`, `package.*`,
                `config.invalid`.
        """
        for _ in range(_TRIES):
            token = self.token()
            table, deployments = self._compile()
            number = self._numbering.number(
                content_of(table, deployments),
                token,
                above=above,
                is_current=lambda token=token: self.token() == token,  # type: ignore[misc]
            )
            if number is not None:
                return table.model_copy(update={"sequence": number, "revision": f"r{number}"})
        raise StateError(
            "registry.conflict", f"the registry changed {_TRIES} times while a table was made of it"
        )

    def _compile(self) -> tuple[ServingTable, list[Deployment]]:
        trusted = load_trust_store(self._home)
        surroundings = Surroundings(
            store=self.store.path,
            listeners=self._document["listeners"],
            trusted=[(key.id, key.pem) for key in trusted.values()],
            connections=self._document["connections"],
            access_log=Path(self._document["access_log"]),
            security_log=Path(self._document["security_log"]),
            door=self._door,
            principals=self._door.principals(self._home),
            bare=[
                bare_model(ModelName(entry["name"]), _file_model(entry), self._override)
                for entry in self._document["files"]
            ],
            override=self._override,
            # Written by an older supervisor: it knew of none.
            stores=[Path(folder) for folder in self._document.get("stores", ())],
        )
        deployments = [
            self._deployment(e["name"], e["reference"]) for e in self._document["references"]
        ]
        deployments += [read_deployment(path) for path in self._documents]
        # A replica is a part of what carries the profile out.
        alone = deployments if self._document.get("replica_of") is None else []
        self.unplaced = [error for error in map(unplaced, alone) if error is not None]
        allowed = [d.memory_bytes for d in deployments if d.memory_bytes is not None]
        # They share one engine: where one says nothing, the sum says nothing either.
        self.memory_bytes = sum(allowed) if len(allowed) == len(deployments) else None
        deployments = [self._with_privacy(self._with_rollouts(each)) for each in deployments]
        table = compile_deployment(
            deployments,
            resolve=self._registry.resolve,
            labels=self._labels_of,
            surroundings=surroundings,
            sequence=1,
        )
        return table, deployments

    def golden_inputs(self, digest: str) -> list[dict[str, Any]] | None:
        """The input tensors of the version's first golden sample, in the protocol's JSON.

        None where there is none, or where it cannot be read: it only makes a better example, and
        the engine is the one to say what is wrong with a version.
        """
        try:
            golden = read_document(self.store, digest, GOLDEN_FILE)
            if golden is None:
                return None
            inputs = golden["samples"][0]["inputs"]
        except (DukouError, ValueError, LookupError, TypeError):
            return None
        return inputs if isinstance(inputs, list) else None

    def _deployment(self, name: str, reference: str) -> Deployment:
        return find_deployment(name, reference, self._registry, self._registry.resolve)

    def rollout_names(self) -> dict[str, str]:
        """The models whose rollouts this server follows: name in the registry → name in the table."""
        names: dict[str, str] = {}
        for entry in self._document["references"]:
            try:
                deployment = self._deployment(entry["name"], entry["reference"])
            except DukouError:
                continue  # what cannot be served is said where it is to be served
            names |= _followers(deployment)
        for path in self._documents:
            try:
                names |= _followers(read_deployment(path))
            except DukouError:
                continue
        return names

    def _with_rollouts(self, deployment: Deployment) -> Deployment:
        models = []
        for model in deployment.models:
            if not model.is_registered:
                models.append(model)
                continue
            rollout = self._registry.rollouts.running(model.line)
            if rollout is not None and follows_champion(model):
                model = split_for_rollout(model, rollout)
            models.append(model)
        return deployment.model_copy(update={"models": models})

    def _with_privacy(self, deployment: Deployment) -> Deployment:
        """Without the captures of models of which nobody has said what may be kept."""
        models = []
        for model in deployment.models:
            if model.capture is not None and not policy_for(model, self._registry, self.store):
                if model.name not in self._unsaid:
                    self._unsaid.add(model.name)
                    print(
                        f"warning: no request of `{model.name}` is kept: its deployment asks for that, and "
                        "nothing says what of them may be (`[privacy]` in dukou.toml)",
                        file=sys.stderr,
                        flush=True,
                    )
                model = model.model_copy(update={"capture": None})
            models.append(model)
        return deployment.model_copy(update={"models": models})

    def _labels_of(self, digest: str) -> tuple[str, ...]:
        if digest not in self._labels:
            self._labels[digest] = read_config(self.store, digest).labels
        return self._labels[digest]


def _file_model(entry: dict[str, Any]) -> FileModel:
    """A model of files as the supervisor wrote it; an older one knew of no versions."""
    if "file" in entry:
        return file_model(Path(entry["file"]))
    return FileModel.from_json({name: entry[name] for name in entry if name != "name"})


def _followers(deployment: Deployment) -> dict[str, str]:
    """The models of a deployment that a rollout may split: name in the registry → name in the table."""
    return {m.line: m.name for m in deployment.models if m.is_registered and follows_champion(m)}


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Tells whether a file is still what it was; None where it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
