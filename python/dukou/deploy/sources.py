"""Where a version of a serving table comes from: a file, an artifact, other servers, a graph of others."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dukou.deploy.addresses import problem_with_address
from dukou.deploy.graphs import problem_with_graph
from dukou.deploy.peers import DeclaredSignature, Peer, problem_with_peer
from dukou.deploy.rules import Name, TableDocument, refuse, refuse_relative, refuse_twice

Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Reference = Annotated[
    str, Field(description="`input.NAME`, `NODE.OUTPUT`, or `NODE` where it has one output")
]
Wiring = Annotated[
    str | dict[str, Reference],
    Field(description="a node: all from it, by name or in order; or name → reference"),
]


class FileSource(TableDocument):
    """A bare ONNX file: its signature is read from the session, nothing is verified."""

    file: Annotated[str, Field(description="absolute path of an ONNX file")]


class ArtifactSource(TableDocument):
    """A packaged version in an OCI image layout."""

    artifact: Annotated[Sha256, Field(description="digest of the version's manifest")]
    store: Annotated[str, Field(description="absolute path of the OCI image layout")]


class Remote(TableDocument):
    """Other servers that answer a model: dukou's engines, or whoever speaks one of its dialects."""

    dialect: Annotated[Peer, Field(description="what they speak")]
    signature: Annotated[
        DeclaredSignature | None,
        Field(description="what the model takes and gives; null: they are asked for it"),
    ]
    model: Annotated[Name, Field(description="its name there")]
    version: Annotated[
        Name | None,
        Field(description="version or alias that is asked for there; null: whichever they choose"),
    ]
    replicas: Annotated[list[str], Field(min_length=1, description="their base addresses")]
    key_file: Annotated[
        str | None, Field(description="absolute path of the file with the key shown to them")
    ]
    ca_file: Annotated[
        str | None,
        Field(
            description="absolute path of the certificates, PEM, that theirs are checked against"
        ),
    ]
    health_ms: Annotated[int, Field(ge=10, le=60_000, description="how often they are looked at")]
    retry_percent: Annotated[
        int,
        Field(ge=0, le=100, description="of a hundred requests, so many may be asked of another"),
    ]

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        for index, text in enumerate(self.replicas):
            problem = problem_with_address(text, ca_file=self.ca_file is not None)
            if problem is not None:
                refuse(f"replicas[{index}]", problem)
        refuse_twice(self.replicas, "replicas[{}]")
        spoken = problem_with_peer(self.dialect, self.model, self.version, self.signature)
        if spoken is not None:
            refuse(*spoken)
        for field, path in (("key_file", self.key_file), ("ca_file", self.ca_file)):
            if path is not None:
                refuse_relative(field, path)
        return self


class RemoteSource(TableDocument):
    """Answered by other servers."""

    remote: Remote


class ModelNode(TableDocument):
    """A model answers."""

    name: str
    model: Name
    version: Annotated[Name | None, Field(description="version or alias; null: its split's")]
    inputs: Annotated[
        Wiring | None, Field(description="null: from the graph's inputs of the same names")
    ]


class EnsembleNode(TableDocument):
    """Several outputs become one, element by element."""

    name: str
    ensemble: list[Reference]
    combine: Literal["mean", "vote"]
    weights: Annotated[list[int] | None, Field(description="null: all count alike")]


class SwitchNode(TableDocument):
    """One of several models answers."""

    name: str
    switch: Annotated[Reference, Field(description="by whose value it is chosen")]
    cases: Annotated[dict[str, Name], Field(description="value → model")]
    otherwise: Annotated[
        Name | None, Field(description="for every other value; null: it is refused")
    ]
    inputs: Annotated[
        Wiring | None, Field(description="null: from the graph's inputs of the same names")
    ]


class Graph(TableDocument):
    """Other models of the same table, one after the other or side by side."""

    nodes: list[ModelNode | EnsembleNode | SwitchNode]
    outputs: Wiring

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        found = problem_with_graph(self.model_dump())
        if found is not None:
            refuse(*found)
        return self


class GraphSource(TableDocument):
    """Answered by a graph of other models of the same table."""

    graph: Graph


Source = FileSource | ArtifactSource | RemoteSource | GraphSource
