"""The serving table: a compiled deployment, the whole of what an engine's behaviour depends on.

`spec/serving-table.schema.json` is generated from this module, and the golden tables under
`conformance/tables/` are read by the tests of both languages. A table is immutable, has a revision,
and is swapped whole. Every value is resolved here: the engine has no defaults of its own.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dukou.deploy import defaults
from dukou.deploy.graphs import problem_among_models
from dukou.deploy.rules import Name, TableDocument, refuse, refuse_relative, refuse_twice
from dukou.deploy.sources import ArtifactSource, FileSource, GraphSource, Source

Models = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,127}|\*)$", description="a model, or `*`: every one"
    ),
]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Network = Annotated[str, Field(description="`10.0.0.0/8`, `2001:db8::/32`, or one address")]


class Provider(TableDocument):
    """A way to run a model that ONNX Runtime may have."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_.]{1,64}ExecutionProvider[A-Za-z0-9_.]{0,46}$",
            description="by ONNX Runtime's name",
        ),
    ]
    options: Annotated[dict[str, str], Field(description="its own settings, by its own names")]


class Backend(TableDocument):
    """How a version is run."""

    kind: Literal["onnx"]
    instances: Annotated[int, Field(ge=1, le=256, description="runs that can go on at once")]
    threads: Annotated[int, Field(ge=1, le=256, description="threads inside one run")]
    providers: Annotated[
        list[Provider],
        Field(
            min_length=1,
            description="execution providers in order of preference, the CPU last; one that is not there, "
            "or does not take the model, is passed over",
        ),
    ]
    share_weights: Annotated[
        bool,
        Field(
            description="map weights once per process from the compiled cache; false: a session of the plain file"
        ),
    ]


class Batching(TableDocument):
    """Caps of a batch. An idle instance takes what is queued at once; `delay_us` waits for more."""

    max_rows: Annotated[
        int, Field(ge=1, le=65536, description="rows of one run; 1 turns batching off")
    ]
    max_bytes: Annotated[int, Field(ge=1, description="bytes of input of one run")]
    delay_us: Annotated[
        int, Field(ge=0, le=1_000_000, description="how long an idle instance waits for more")
    ]


class ModelLimits(TableDocument):
    """What one model may hold at once; more is refused at once."""

    queue: Annotated[int, Field(ge=1, description="requests that wait")]
    concurrency: Annotated[int, Field(ge=1, description="requests admitted and not yet answered")]
    deadline_ms: Annotated[int, Field(ge=1, description="of a request that names none")]


class ServedVersion(TableDocument):
    """One version that the engine holds ready."""

    version: Name
    source: Source
    backend: Annotated[
        Backend | None, Field(description="null where this process does not run it: remote, graph")
    ]
    golden: Annotated[
        Literal["require", "alarm", "off"],
        Field(
            description="what a version that does not reproduce its golden samples does to the table"
        ),
    ]

    @property
    def is_run_here(self) -> bool:
        """Whether the engine that serves it runs it."""
        return isinstance(self.source, FileSource | ArtifactSource)

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        here = self.is_run_here
        if here and self.backend is None:
            refuse("backend", "is null, and this process is to run the version")
        if not here and self.backend is not None:
            refuse("backend", "must be null: this process does not run the version")
        if not here and self.golden != "off":
            refuse("golden", "must be `off`: this process does not run the version")
        return self


class Weight(TableDocument):
    """One arm of a split."""

    version: Name
    arm: Name
    weight: Annotated[int, Field(ge=0, le=1_000_000)]


class Shadow(TableDocument):
    """A version that answers a share of the split's requests too, after their callers have theirs."""

    version: Name
    share: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="of a million requests that another version answered, so many",
        ),
    ]


class Capture(TableDocument):
    """Which answered requests are kept for the monitor, and how much of them at once."""

    share: Annotated[
        int, Field(ge=1, le=1_000_000, description="of a million answered requests, so many")
    ]
    buffer_bytes: Annotated[
        int,
        Field(ge=1, description="bytes that wait to be fetched; what comes beyond them is lost"),
    ]


class Cache(TableDocument):
    """How many answers are kept for whoever asks the same again, and for how long."""

    max_bytes: Annotated[
        int, Field(ge=defaults.LEAST_CACHE_BYTES, description="of questions and answers together")
    ]
    ttl_ms: Annotated[
        int | None,
        Field(
            ge=1,
            le=defaults.LONGEST_CACHE_MS,
            description="how long an answer is good; null: for as long as its version is served and there "
            "is room",
        ),
    ]


class ServedModel(TableDocument):
    """A model with the versions that are served and where its traffic goes."""

    name: Name
    versions: Annotated[list[ServedVersion], Field(min_length=1)]
    aliases: Annotated[dict[Name, Name], Field(description="alias → version")]
    split: Annotated[
        list[Weight], Field(min_length=1, description="where requests without a version go")
    ]
    batching: Batching
    limits: ModelLimits
    labels: Annotated[list[str], Field(description="class names, where known; empty otherwise")]
    shadow: Annotated[
        Shadow | None, Field(description="null: no request is answered by another version too")
    ]
    capture: Annotated[Capture | None, Field(description="null: nothing is kept")]
    cache: Annotated[Cache | None, Field(description="null: every request is run")]

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        names = [version.version for version in self.versions]
        refuse_twice(names, "versions[{}].version")
        for index, version in enumerate(self.versions):
            match version.source:
                case FileSource(file=path) | ArtifactSource(store=path):
                    refuse_relative(f"versions[{index}].source", path)
        if not all(version.is_run_here for version in self.versions):
            for field in ("shadow", "capture", "cache"):
                if getattr(self, field) is not None:
                    problem = "is for models that this process runs, and one version is not"
                    refuse(field, problem)
        for alias, target in self.aliases.items():
            if target not in names:
                refuse(f"aliases.{alias}", f"`{target}` is not a version of this model")
            if alias in names:
                refuse(f"aliases.{alias}", f"`{alias}` is a version already")
        for index, weight in enumerate(self.split):
            if weight.version not in names:
                problem = f"`{weight.version}` is not a version of this model"
                refuse(f"split[{index}].version", problem)
        refuse_twice([f"{w.arm}` of version `{w.version}" for w in self.split], "split[{}].arm")
        if self.shadow is not None and self.shadow.version not in names:
            refuse("shadow.version", f"`{self.shadow.version}` is not a version of this model")
        if not any(weight.weight for weight in self.split):
            refuse("split", "all weights are 0, so that no request could go anywhere")
        return self


class Tls(TableDocument):
    """Where a listener's certificate lies. Read again when a file changes; a bad one changes nothing."""

    certificate: Annotated[
        str,
        Field(description="absolute path of the certificate chain, PEM, the server's own first"),
    ]
    key: Annotated[str, Field(description="absolute path of its private key, PEM")]


class Listener(TableDocument):
    """What is allowed on one inherited socket, by the name that the supervisor gave it."""

    name: Name
    dialects: Annotated[
        list[
            Literal[
                "v2",
                "tensorflow",
                "keras",
                "v2-grpc",
                "tensorflow-grpc",
                "torchserve",
                "torchserve-grpc",
            ]
        ],
        Field(
            min_length=1,
            description="what is spoken there; the first has the first word where a path means two things",
        ),
    ]
    access: Annotated[
        Literal["loopback", "keys", "open"],
        Field(
            description="loopback: anonymous, with foreign `Host` and `Origin` refused; keys: whoever holds "
            "a principal's key, and health for anybody; open: anonymous"
        ),
    ]
    hosts: Annotated[list[str], Field(description="`Host` names answered to besides loopback's")]
    tls: Annotated[Tls | None, Field(description="null: what is said travels in clear")]
    allow: Annotated[
        list[Network], Field(description="who may connect; empty: whoever is not denied")
    ]
    deny: Annotated[list[Network], Field(description="who may not connect, before `allow`")]

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        if self.tls is not None:
            refuse_relative("tls.certificate", self.tls.certificate)
            refuse_relative("tls.key", self.tls.key)
        for field, networks in (("allow", self.allow), ("deny", self.deny)):
            for index, text in enumerate(networks):
                if not _is_network(text):
                    problem = f"`{text}` is neither an address nor a network such as `10.0.0.0/8`"
                    refuse(f"{field}[{index}]", problem)
        return self


def _is_network(text: str) -> bool:
    if not re.fullmatch(r"[0-9a-fA-F.:]+(/[0-9]{1,3})?", text):
        return False
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


class Grant(TableDocument):
    """What a key may do, with which models."""

    role: Annotated[
        Literal["predict", "manage", "read-metrics"],
        Field(description="read-metrics is of the whole server: it counts with `*` alone"),
    ]
    models: Annotated[list[Models], Field(min_length=1)]


class Rate(TableDocument):
    """How often a key may ask; more is refused at once."""

    requests: Annotated[int, Field(ge=1, le=1_000_000_000, description="in so many `seconds`")]
    seconds: Annotated[int, Field(ge=1, le=86_400)]
    burst: Annotated[
        int,
        Field(ge=1, le=1_000_000_000, description="requests that may come at once after a silence"),
    ]


class Principal(TableDocument):
    """Whoever holds the key `dk_<id>_<secret>`. The secret itself stands nowhere."""

    id: Annotated[
        str, Field(pattern=r"^[0-9a-f]{12}$", description="the key's, by which it is found")
    ]
    name: Annotated[Name, Field(description="whose key it is, for logs")]
    secret_sha256: Annotated[Hex, Field(description="SHA-256 of the secret's text")]
    grants: Annotated[list[Grant], Field(description="what is not granted is refused")]
    rate: Annotated[Rate | None, Field(description="null: as often as there is room")]
    expires: Annotated[
        int | None,
        Field(ge=0, description="the key is good before this second since 1970; null: for ever"),
    ]


class ServerLimits(TableDocument):
    """What the process holds at once."""

    connections: Annotated[int, Field(ge=1)]
    body_bytes: Annotated[int, Field(ge=1)]
    json_depth: Annotated[int, Field(ge=1, le=1000)]
    header_ms: Annotated[int, Field(ge=1, description="how long a client may take for its head")]
    drain_ms: Annotated[
        int, Field(ge=0, description="how long requests in flight may take after SIGTERM")
    ]


class TrustedKey(TableDocument):
    """A public key whose signatures count."""

    id: Annotated[
        str,
        Field(
            pattern=r"^[0-9a-f]{64}$",
            description="sha256 of `pem` (SubjectPublicKeyInfo, lines of 64, LF), hex",
        ),
    ]
    pem: str


class Trust(TableDocument):
    """Whose artifacts are loaded. Bare files are the user's own word."""

    require_signature: bool
    keys: list[TrustedKey]


class Observability(TableDocument):
    """What is written down about requests."""

    access_log: Annotated[
        str | None,
        Field(description="file for one JSON line a request; `-` for stdout; null for none"),
    ]
    security_log: Annotated[
        str | None,
        Field(description="file for one JSON line a refusal or a burst of them; null for none"),
    ]


class Repository(TableDocument):
    """Where models may be registered from while the table is served, and how those are run."""

    folders: Annotated[
        list[str],
        Field(min_length=1, description="absolute; their files and folders are models"),
    ]
    backend: Backend
    batching: Batching
    limits: ModelLimits

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        for index, folder in enumerate(self.folders):
            refuse_relative(f"folders[{index}]", folder)
        refuse_twice(self.folders, "folders[{}]")
        return self


class ServingTable(TableDocument):
    """Everything that an engine does, but for its listeners' sockets."""

    format: Literal[1]
    revision: Name
    sequence: Annotated[
        int, Field(ge=0, description="later tables have larger numbers; an older one is refused")
    ]
    listeners: Annotated[list[Listener], Field(min_length=1)]
    principals: Annotated[
        list[Principal], Field(description="whose keys are good on listeners with `keys`")
    ]
    limits: ServerLimits
    trust: Trust
    observability: Observability
    repository: Annotated[
        Repository | None, Field(description="null: no client can have a model registered")
    ]
    models: list[ServedModel]

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        refuse_twice([listener.name for listener in self.listeners], "listeners[{}].name")
        refuse_twice([principal.id for principal in self.principals], "principals[{}].id")
        refuse_twice([model.name for model in self.models], "models[{}].name")
        graphs = [
            (
                model.name,
                f"models[{index}].versions[{place}].source.graph",
                source.graph.model_dump(),
            )
            for index, model in enumerate(self.models)
            for place, version in enumerate(model.versions)
            if isinstance(source := version.source, GraphSource)
        ]
        served = {
            model.name: {*model.aliases, *(version.version for version in model.versions)}
            for model in self.models
        }
        found = problem_among_models(graphs, served)
        if found is not None:
            refuse(*found)
        return self
