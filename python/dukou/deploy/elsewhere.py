"""Deployed models that are not versions of the registry: files, other servers, graphs of other models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dukou.deploy import defaults
from dukou.deploy.addresses import problem_with_address
from dukou.deploy.graphs import problem_with_graph
from dukou.deploy.peers import DeclaredSignature, Peer, problem_with_peer
from dukou.deploy.rules import Name, refuse

# What the version of a remote model is called in a table; of a graph.
REMOTE_VERSION = "remote"
GRAPH_VERSION = "graph"
FILE_VERSION = "1"
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_KINDS = ("model", "ensemble", "switch")
_KEYS = {
    "model": {"name", "model", "version", "inputs"},
    "ensemble": {"name", "ensemble", "combine", "weights"},
    "switch": {"name", "switch", "cases", "otherwise", "inputs"},
}


def label(said: Any) -> Any:
    """A version as people write it: a number or an alias."""
    if isinstance(said, int) and not isinstance(said, bool):
        said = str(said)
    if isinstance(said, str) and not _LABEL.match(said):
        raise ValueError("a version is a number or an alias")
    return said


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Remote(_Part):
    """Other servers that answer a model.

    Attributes:
        replicas: their base addresses.
        dialect: what they speak.
        signature: what the model takes and gives; they are asked for it where absent.
        model: its name there; the same where nothing is said.
        version: the version or alias that is asked for there; whichever they choose where absent.
        key_file: the file of the key that is shown to them.
        ca_file: the certificates, PEM, that theirs are checked against.
        health_ms: how often they are looked at.
        retry_percent: of a hundred requests, so many may be asked once more of another.
    """

    replicas: Annotated[list[str], Field(min_length=1)]
    dialect: Peer = "v2"
    signature: DeclaredSignature | None = None
    model: Name | None = None
    version: str | None = None
    key_file: str | None = None
    ca_file: str | None = None
    health_ms: Annotated[int, Field(ge=10, le=60_000)] = defaults.HEALTH_MS
    retry_percent: Annotated[int, Field(ge=0, le=100)] = defaults.RETRY_PERCENT

    @field_validator("version", mode="before")
    @classmethod
    def _number(cls, said: Any) -> Any:
        return label(said)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Remote:
        for index, text in enumerate(self.replicas):
            problem = problem_with_address(text, ca_file=self.ca_file is not None)
            if problem is None and text in self.replicas[:index]:
                problem = f"`{text}` is there twice"
            if problem is not None:
                refuse(f"replicas.{index}", problem)
        spoken = problem_with_peer(self.dialect, self.model or "it", self.version, self.signature)
        if spoken is not None:
            refuse(*spoken)
        return self

    def to_table(self, name: str) -> dict[str, Any]:
        """As the source of a table's version."""
        return {"remote": {**self.model_dump(), "model": self.model or name}}


class Node(_Part):
    """One step of a graph: a model, an ensemble of outputs, or a switch between models.

    Attributes:
        name: what others call it.
        model: that answers.
        version: of that model; its traffic's where absent.
        inputs: where they come from: `{x = "input.x"}`, or a node; the graph's own of the same names
            where absent.
        ensemble: references to the outputs that become one.
        combine: how: their `mean`, or a `vote`.
        weights: how much each counts.
        switch: a reference, by whose value one of the cases is chosen.
        cases: value → model.
        otherwise: the model for every other value.
    """

    name: str
    model: Name | None = None
    version: str | None = None
    inputs: str | dict[str, str] | None = None
    ensemble: list[str] | None = None
    combine: Literal["mean", "vote"] | None = None
    weights: list[int] | None = None
    switch: str | None = None
    cases: dict[str, Name] | None = None
    otherwise: Name | None = None

    @field_validator("version", mode="before")
    @classmethod
    def _number(cls, said: Any) -> Any:
        return label(said)

    @model_validator(mode="after")
    def _is_one_kind(self) -> Node:
        kinds = [kind for kind in _KINDS if kind in self.model_fields_set]
        if len(kinds) != 1:
            said = f"says `{'` and `'.join(kinds)}`" if kinds else "says none of them"
            raise ValueError(f"a node is one of `model`, `ensemble`, `switch`, and this one {said}")
        strange = sorted(self.model_fields_set - _KEYS[kinds[0]])
        if strange:
            raise ValueError(f"a node with `{kinds[0]}` has no `{strange[0]}`")
        for key, kind in (("combine", "ensemble"), ("cases", "switch")):
            if kind == kinds[0] and getattr(self, key) is None:
                raise ValueError(f"a node with `{kind}` needs `{key}`")
        return self

    def to_table(self) -> dict[str, Any]:
        """As a node of a table's graph."""
        kind = next(kind for kind in _KINDS if kind in self.model_fields_set)
        said = self.model_dump()
        return {key: said[key] for key in said if key in _KEYS[kind]}


class Graph(_Part):
    """Other models of the same deployment, one after the other or side by side.

    Attributes:
        sequence: models, each of which takes what the one before gives; short for nodes.
        nodes: the steps.
        outputs: what is answered: a node, or name → reference.
    """

    sequence: Annotated[list[Name], Field(min_length=1)] | None = None
    nodes: list[Node] | None = None
    outputs: str | dict[str, str] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Graph:
        if self.sequence is not None:
            if self.nodes is not None or self.outputs is not None:
                raise ValueError("a graph is either a `sequence`, or `nodes` with `outputs`")
        elif self.nodes is None or self.outputs is None:
            raise ValueError("a graph needs `nodes` and `outputs`, or a `sequence`")
        found = problem_with_graph(self._as_nodes())
        if found is not None:
            refuse(*found)
        return self

    def to_table(self) -> dict[str, Any]:
        """As the source of a table's version."""
        return {"graph": self._as_nodes()}

    def _as_nodes(self) -> dict[str, Any]:
        if self.sequence is not None:
            return _sequence(self.sequence)
        nodes = [node.to_table() for node in self.nodes or []]
        return {"nodes": nodes, "outputs": self.outputs or {}}


def _sequence(models: Sequence[str]) -> dict[str, Any]:
    """The nodes of a sequence, called like their models as far as that is possible."""
    names: list[str] = []
    for model in models:
        name = re.sub(r"[^A-Za-z0-9_-]", "-", model)[:60]
        if name in names or name == "input":
            name = f"{name}-{len(names) + 1}"
        names.append(name)
    nodes = [
        {"name": name, "model": model, "version": None, "inputs": before}
        for name, model, before in zip(names, models, [None, *names[:-1]], strict=True)
    ]
    return {"nodes": nodes, "outputs": names[-1]}
