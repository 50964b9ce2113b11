"""The deployment: which versions are served, with what traffic, limits and batching; what people write.

Kept in the registry by revisions, compiled to a serving table by `compile.py`. What a document does
not say stands in `defaults.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dukou.base.errors import InputError
from dukou.deploy import defaults
from dukou.deploy.elsewhere import Graph, Remote, label
from dukou.deploy.providers import provider_document, with_cpu
from dukou.deploy.rules import Name
from dukou.trust.privacy.policy import PrivacyPolicy

# The strategies of deployment; `placement.py` says what carries each out.
Profile = Literal["centralized", "distributed", "edge", "container", "microservice"]
PROFILES: tuple[Profile, ...] = get_args(Profile)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Arm(_Section):
    """A share of a model's traffic.

    Attributes:
        arm: the name under which its requests are counted.
        version: a number (`3`), an alias (`champion`), or nothing: what the registry says for the
            model's bare name.
        weight: its share of the sum of weights; 0 keeps a version ready without traffic.
    """

    arm: Name = "main"
    version: str | None = None
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1

    @field_validator("version", mode="before")
    @classmethod
    def _number(cls, said: Any) -> Any:
        return label(said)


class Limits(_Section):
    """What one model may hold at once; more is refused at once."""

    queue: Annotated[int, Field(ge=1)] = defaults.QUEUE
    concurrency: Annotated[int, Field(ge=1)] = defaults.CONCURRENCY
    deadline_ms: Annotated[int, Field(ge=1)] = defaults.DEADLINE_MS


class Batch(_Section):
    """Caps of a batch; `delay_us` makes an idle instance wait for more."""

    max_rows: Annotated[int, Field(ge=1, le=65536)] = defaults.BATCH_ROWS
    max_bytes: Annotated[int, Field(ge=1)] = defaults.BATCH_BYTES
    delay_us: Annotated[int, Field(ge=0, le=1_000_000)] = defaults.BATCH_DELAY_US


class Run(_Section):
    """How a version is run.

    Attributes:
        instances: runs that can go on at once; the CPUs that may be used, where nothing is said.
        threads: inside one run.
        providers: what it is to run on, in order of preference: `"cuda"`, or
            `{"name": "cuda", "options": {"device_id": "0"}}`; the CPU ends every list.
    """

    instances: Annotated[int, Field(ge=1, le=256)] | None = None
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    providers: list[str | dict[str, Any]] = []

    @model_validator(mode="after")
    def _providers_are_known(self) -> Run:
        try:
            self.provider_documents()
        except InputError as error:
            raise ValueError(f"{error.message} ({error.hint})") from None
        return self

    def provider_documents(self) -> list[dict[str, Any]]:
        """The providers as in a table."""
        return with_cpu(provider_document(said, key="run.providers") for said in self.providers)


class Shadow(_Section):
    """A version that answers some requests too, unseen, so that the answers can be compared.

    Attributes:
        version: a number or an alias.
        share: of the requests that another version answered.
    """

    version: str
    share: Annotated[float, Field(gt=0, le=1)] = 0.1

    @field_validator("version", mode="before")
    @classmethod
    def _number(cls, said: Any) -> Any:
        return label(said)


class Capture(_Section):
    """Which answered requests are kept for the monitor.

    Attributes:
        share: of them.
        buffer_bytes: of tensors that wait in the engine; what comes beyond them is lost.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    buffer_bytes: Annotated[int, Field(ge=1)] = defaults.CAPTURE_BYTES


class Cache(_Section):
    """How many answers are kept for whoever asks the same again: for models that always answer the same.

    Attributes:
        max_bytes: of questions and answers together.
        ttl_ms: how long an answer is good; for as long as its version is served where absent.
    """

    max_bytes: Annotated[int, Field(ge=defaults.LEAST_CACHE_BYTES)] = defaults.CACHE_BYTES
    ttl_ms: Annotated[int, Field(ge=1, le=defaults.LONGEST_CACHE_MS)] | None = None


class Monitor(_Section):
    """What is looked for in the requests that `capture` keeps.

    Attributes:
        window_rows: rows that are looked at together.
        alarms: so many false ones there may be,
        within: in so much time: `30d`.
        max_bytes: of captures on disk; the oldest go first.
        keep: how long a capture stays: `30d`; for ever where absent.
        webhook: an http or https address that is told of alarms.
        drift: whether drift is looked for.
    """

    window_rows: Annotated[int, Field(ge=20)] = 500
    alarms: Annotated[float, Field(gt=0)] = 1.0
    within: str = "30d"
    max_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    keep: str | None = None
    webhook: str | None = None
    drift: bool = True


class Privacy(_Section):
    """What may be kept of requests and answers (`dukou.trust.privacy.policy`).

    Attributes:
        fields: field → tag: `keep`, `detect`, `mask`, `hash`, `generalize:…`, `drop`.
        columns: the names of a matrix input's columns, in order.
        target: the column that labels are of.
        subject: the field that says whose a row is.
        capture_untagged: the user's word that fields without a tag may be kept.
    """

    fields: dict[str, str] = Field(default_factory=dict)
    columns: list[str] = Field(default_factory=list)
    target: str = ""
    subject: str = ""
    capture_untagged: bool = False

    @model_validator(mode="after")
    def _can_be_read(self) -> Privacy:
        try:
            self.policy()
        except InputError as error:
            raise ValueError(error.message) from None
        return self

    def policy(self) -> PrivacyPolicy:
        """The policy that this makes."""
        return PrivacyPolicy.from_json(self.model_dump())


# What a model that is no version of the registry may say besides.
_ELSEWHERE = {
    "file": {"name", "file", "batching", "limits", "run", "cache"},
    "remote": {"name", "remote", "limits"},
    "graph": {"name", "graph", "limits"},
}


class DeployedModel(_Section):
    """A served model.

    Attributes:
        name: what it is called in requests.
        model: its name in the registry; the same where nothing is said.
        traffic: where requests that name no version go.
        golden: what a version that does not reproduce its golden samples does to the table.
        shadow: a version that answers some requests too, unseen.
        capture: which requests are kept for the monitor; none where absent.
        cache: how many answers are kept for whoever asks the same again; none where absent.
        monitor: what is looked for in them.
        privacy: what may be kept of them; what the version itself carries where absent.
        file: an ONNX file instead of the registry.
        remote: other servers that answer it instead.
        graph: other models of this deployment that answer it instead.
    """

    name: Name
    model: Name | None = None
    file: str | None = None
    remote: Remote | None = None
    graph: Graph | None = None
    traffic: Annotated[list[Arm], Field(min_length=1)] = [Arm()]
    batching: Batch = Batch()
    limits: Limits = Limits()
    run: Run = Run()
    golden: Literal["require", "alarm", "off"] = "require"
    shadow: Shadow | None = None
    capture: Capture | None = None
    cache: Cache | None = None
    monitor: Monitor = Monitor()
    privacy: Privacy | None = None

    @property
    def line(self) -> str:
        """The model's name in the registry."""
        return self.model or self.name

    @property
    def is_registered(self) -> bool:
        """Whether its versions are the registry's."""
        return self.file is None and self.remote is None and self.graph is None

    @model_validator(mode="after")
    def _is_one_kind(self) -> DeployedModel:
        kinds = [kind for kind in _ELSEWHERE if getattr(self, kind) is not None]
        if len(kinds) > 1:
            raise ValueError(f"a model is one of `{'`, `'.join(kinds)}`")
        if kinds:
            strange = [key for key in self.model_fields_set if key not in _ELSEWHERE[kinds[0]]]
            if strange:
                raise ValueError(f"a model with `{kinds[0]}` has no `{sorted(strange)[0]}`")
        return self

    @model_validator(mode="after")
    def _arms_differ(self) -> DeployedModel:
        twice = [arm for arm, count in Counter(a.arm for a in self.traffic).items() if count > 1]
        if twice:
            raise ValueError(f"two arms are called `{twice[0]}`")
        if not any(arm.weight for arm in self.traffic):
            raise ValueError("every arm's weight is 0: no request would go anywhere")
        return self


class Deployment(_Section):
    """A deployment document, as written in a file or kept in the registry.

    Attributes:
        name: what `dukou serve` is given.
        models: that are served together.
        profile: the strategy; `dukou.deploy.placement` says what carries it out.
        replicas: engines that are to serve this.
        memory_bytes: that one engine may take; watched, not enforced.
        access: who may ask.
        require_signature: whether versions must be signed by a key of the trust store.
    """

    version: Literal[1] = 1
    name: Name
    models: Annotated[list[DeployedModel], Field(min_length=1)]
    profile: Profile = "centralized"
    replicas: Annotated[int, Field(ge=1, le=10_000)] = 1
    memory_bytes: Annotated[int, Field(ge=1)] | None = None
    access: Literal["loopback"] = "loopback"
    require_signature: bool = True

    @model_validator(mode="after")
    def _names_differ(self) -> Deployment:
        twice = [name for name, count in Counter(m.name for m in self.models).items() if count > 1]
        if twice:
            raise ValueError(f"two models are called `{twice[0]}`")
        return self
