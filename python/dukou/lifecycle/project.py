"""The project file, `dukou.toml`: one model's life, written down.

Everything a stage depends on stands here or in a file named here. Unknown keys are refused with the
nearest known one; a relative path is relative to the project's folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dukou.base.documents import parse_document
from dukou.base.durations import parse_duration
from dukou.base.errors import InputError
from dukou.base.ids import parse_model_name
from dukou.base.sizes import parse_size
from dukou.deploy.document import Profile
from dukou.deploy.override import cache_document
from dukou.deploy.providers import provider_document
from dukou.evaluate.gates import check_gate_metrics
from dukou.lifecycle.extends import load_extended
from dukou.registry.entries import CHAMPION
from dukou.rollout.policy import Policy

if TYPE_CHECKING:
    from dukou.evaluate.threshold import Objective
    from dukou.trust.privacy.policy import PrivacyPolicy

FILE_NAME = "dukou.toml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(_Section):
    """`[model]`: what it is called and what it is for."""

    name: str
    task: Literal["classification", "regression"] = "classification"
    title: str = ""
    description: str = ""
    license: str = ""

    @field_validator("name")
    @classmethod
    def _name(cls, text: str) -> str:
        try:
            return parse_model_name(text)
        except InputError as error:
            raise ValueError(error.hint) from None


class DataSection(_Section):
    """`[data]`: rows with a target column, and what must hold of them."""

    path: str
    target: str
    held_out: str | None = None
    reference: str | None = None
    golden: str | None = None
    drop: list[str] = Field(default_factory=list)
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: int = 0
    min_rows: Annotated[int, Field(ge=1)] = 50
    max_missing: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_duplicates: Annotated[float, Field(ge=0, le=1)] = 0.05
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)


class TrainSection(_Section):
    """`[train]`: the project's own command (see docs/train-contract.md)."""

    command: Annotated[str, Field(min_length=1)]
    files: list[str] = Field(default_factory=list)
    seed: int = 0
    timeout_s: Annotated[float, Field(gt=0)] = 3600.0


class EvaluateSection(_Section):
    """`[evaluate]`: how the model is judged, on which parts of the rows too, and the gates that stop the
    line.
    """

    cross_validation: Annotated[int, Field(ge=0, le=50)] = 5
    gates: list[str] = Field(default_factory=list)
    slices: list[str] = Field(default_factory=list)
    bootstrap: Annotated[int, Field(ge=100, le=100_000)] = 2000
    seed: int = 0


class ImproveSection(_Section):
    """`[improve]`: what is tried on the model after the evaluation, and what counts as proof.

    Without a word truer probabilities are tried where they can be; a threshold where an objective says
    what it is to be good for.
    """

    calibrate: bool | None = None
    objective: str | None = None
    costs: dict[str, float] = Field(default_factory=dict)
    accuracy_budget: Annotated[float, Field(ge=0, lt=1)] = 0.01
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    seed: int = 0

    @model_validator(mode="after")
    def _can_be_read(self) -> ImproveSection:
        try:
            self.parse_objective()
        except InputError as error:
            raise ValueError(error.message) from None
        return self

    def parse_objective(self) -> Objective | None:
        """What a threshold is to be good for; None where none is to be tried.

        Raises:
            InputError: `project.invalid`.
        """
        from dukou.evaluate.threshold import parse_objective

        if self.objective is not None:
            return parse_objective(self.objective, self.costs)
        if self.costs:
            raise InputError(
                "project.invalid",
                f"`improve.costs` names {len(self.costs)} classes and `improve.objective` is not "
                "set: costs go with the objective `cost`",
            )
        return None


class OptimizeSection(_Section):
    """`[optimize]`: which passes may try, and how much they may cost: accuracy, or growth of the rmse as a
    share.
    """

    passes: list[str] = Field(default_factory=lambda: ["simplify", "int8", "int8-static"])
    accuracy_budget: Annotated[float, Field(ge=0, lt=1)] = 0.01


class PackageSection(_Section):
    """`[package]`: what the version is made into. `encrypt` is true where a key is configured, unless said."""

    encrypt: bool | None = None


class RetrainSection(_Section):
    """`[retrain]`: when the training command runs again, and on which rows."""

    on_drift: bool = True
    every: str | None = None
    min_labels: Annotated[int, Field(ge=1)] = 200
    recent_rows: Annotated[int, Field(ge=1)] = 5000
    original_share: Annotated[float, Field(ge=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _can_be_read(self) -> RetrainSection:
        try:
            if self.every is not None:
                parse_duration(self.every, key="retrain.every")
        except InputError as error:
            raise ValueError(error.message) from None
        return self


class MonitorSection(_Section):
    """`[monitor]`: whether requests are kept and looked at; off unless asked for."""

    capture: bool = False
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    window_rows: Annotated[int, Field(ge=20)] = 500
    drift: bool = True
    alarms: Annotated[float, Field(gt=0)] = 1.0
    within: str = "30d"
    max_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    keep: str | None = None
    webhook: str | None = None

    @model_validator(mode="after")
    def _can_be_read(self) -> MonitorSection:
        from dukou.monitor.alerts import check_webhook

        try:
            parse_duration(self.within, key="monitor.within")
            if self.keep is not None:
                parse_duration(self.keep, key="monitor.keep")
            if self.webhook is not None:
                check_webhook(self.webhook)
        except InputError as error:
            raise ValueError(error.message) from None
        return self


class PrivacySection(_Section):
    """`[privacy]`: what may be kept of a field, and travel with a version (docs/privacy.md)."""

    fields: dict[str, str] = Field(default_factory=dict)
    subject: str = ""
    capture_untagged: bool = False

    @model_validator(mode="after")
    def _can_be_read(self) -> PrivacySection:
        from dukou.trust.privacy.policy import PrivacyPolicy

        try:
            PrivacyPolicy.make(self.fields)
        except InputError as error:
            raise ValueError(error.message + (f" ({error.hint})" if error.hint else "")) from None
        return self

    def policy(self, columns: Sequence[str], target: str) -> PrivacyPolicy:
        """The policy of a model with these columns and this target."""
        from dukou.trust.privacy.policy import PrivacyPolicy

        return PrivacyPolicy.make(
            self.fields,
            columns=columns,
            target=target,
            subject=self.subject,
            capture_untagged=self.capture_untagged,
        )


class MaintainSection(_Section):
    """`[maintain]`: how often what is to be done again; a chore without an interval is never due."""

    retrain: str | None = None
    backup: str | None = None
    backup_drill: str | None = None
    rotate_keys: str | None = None
    retention: str | None = None
    audit_dependencies: str | None = None

    @model_validator(mode="after")
    def _can_be_read(self) -> MaintainSection:
        try:
            for name, text in self.intervals().items():
                if text is not None:
                    parse_duration(text, key=f"maintain.{name.replace('-', '_')}")
        except InputError as error:
            raise ValueError(error.message) from None
        return self

    def intervals(self) -> dict[str, str | None]:
        """Chore, as `dukou maintain` calls it → its interval."""
        return {name.replace("_", "-"): text for name, text in self.model_dump().items()}


class BackupSection(_Section):
    """`[backup]`: where snapshots of the installation are kept, and how many."""

    to: str | None = None
    keep: Annotated[int, Field(ge=1)] = 14


class CanarySection(_Section):
    """`[deploy.canary]`: what a rollout may do; what is not said is as `dukou.rollout.policy` has it."""

    steps: list[float] | None = None
    min_seconds: int | None = None
    min_requests: int | None = None
    error_ratio: float | None = None
    error_slack: float | None = None
    slow_ratio: float | None = None
    slow_slack: float | None = None
    slo_ms: float | None = None
    max_disagreement: float | Literal["none"] | None = None
    shadow_share: float | None = None
    alpha: float | None = None
    deadline: str | None = None
    on_deadline: Literal["rollback", "promote", "hold"] | None = None

    @model_validator(mode="after")
    def _makes_a_policy(self) -> CanarySection:
        try:
            self.policy()
        except InputError as error:
            raise ValueError(error.message) from None
        return self

    def policy(self) -> Policy:
        """The rules that this makes.

        Raises:
            InputError: `deploy.invalid`, `project.invalid`: they make no rollout.
        """
        said = {key: value for key, value in self.model_dump().items() if value is not None}
        if "steps" in said:
            said["steps"] = tuple(said["steps"])
        if said.get("max_disagreement") == "none":
            said["max_disagreement"] = None
        if "deadline" in said:
            limit = parse_duration(said.pop("deadline"), key="deploy.canary.deadline")
            said["deadline_s"] = limit.total_seconds()
        return Policy(**said)


class CacheSection(_Section):
    """`[deploy.cache]`: answers that are kept for whoever asks the same again; for models that always
    answer the same.

    Attributes:
        size: of questions and answers together: `64m`.
        ttl: how long an answer is good: `10min`; for as long as its version is served where absent.
    """

    size: str
    ttl: str | None = None

    @model_validator(mode="after")
    def _can_be_read(self) -> CacheSection:
        try:
            self.document()
        except InputError as error:
            raise ValueError(error.message) from None
        return self

    def document(self) -> dict[str, int | None]:
        """As in a deployment."""
        return cache_document(self.size, self.ttl, keys=("deploy.cache.size", "deploy.cache.ttl"))


class DeploySection(_Section):
    """`[deploy]`: how the new version is put in the place of the champion, and how it is run.

    Attributes:
        alias: what moves to the new version.
        strategy: at once, or by canary.
        canary: the rules of the latter.
        profile: the strategy of deployment.
        replicas: engines that are to serve the model.
        instances: runs that go on at once in one engine; the CPUs where nothing is said.
        threads: inside one run.
        providers: what it is to run on, in order of preference; the CPU alone where nothing is said.
        batch_rows: of one run, at most; 1 turns batching off.
        queue: requests that wait; more is refused at once.
        deadline: of a request that names none: `500ms`.
        memory: that one engine may take: `256m`; watched, not enforced.
        cache: answers that are kept; none where absent.
    """

    alias: str = "champion"
    strategy: Literal["immediate", "canary"] = "immediate"
    canary: CanarySection = CanarySection()
    profile: Profile = "centralized"
    replicas: Annotated[int, Field(ge=1, le=10_000)] = 1
    instances: Annotated[int, Field(ge=1, le=256)] | None = None
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    providers: list[str | dict[str, Any]] | None = None
    batch_rows: Annotated[int, Field(ge=1, le=65536)] | None = None
    queue: Annotated[int, Field(ge=1)] | None = None
    deadline: str | None = None
    memory: str | None = None
    cache: CacheSection | None = None

    @model_validator(mode="after")
    def _canary_is_for_the_champion(self) -> DeploySection:
        if self.strategy == "canary" and self.alias != CHAMPION:
            raise ValueError(
                f"a canary ends with the alias `{CHAMPION}`, and `alias` is `{self.alias}`"
            )
        return self

    @model_validator(mode="after")
    def _can_be_read(self) -> DeploySection:
        try:
            _, _ = self.deadline_ms, self.memory_bytes
            for said in self.providers or ():
                provider_document(said, key="deploy.providers")
        except InputError as error:
            hint = f" ({error.hint})" if error.code == "deploy.unknown-provider" else ""
            raise ValueError(error.message + hint) from None
        return self

    @property
    def deadline_ms(self) -> int | None:
        """Milliseconds, at least 1; None where nothing is said."""
        if self.deadline is None:
            return None
        length = parse_duration(self.deadline, key="deploy.deadline")
        return max(1, round(length.total_seconds() * 1000))

    @property
    def memory_bytes(self) -> int | None:
        """None where nothing is said."""
        return None if self.memory is None else parse_size(self.memory, key="deploy.memory")


class Project(_Section):
    """A parsed `dukou.toml` with the folder that it stands in."""

    version: Literal[1]
    model: ModelSection
    data: DataSection
    train: TrainSection
    evaluate: EvaluateSection = EvaluateSection()
    improve: ImproveSection = ImproveSection()
    optimize: OptimizeSection = OptimizeSection()
    package: PackageSection = PackageSection()
    deploy: DeploySection = DeploySection()
    monitor: MonitorSection = MonitorSection()
    privacy: PrivacySection = PrivacySection()
    retrain: RetrainSection = RetrainSection()
    maintain: MaintainSection = MaintainSection()
    backup: BackupSection = BackupSection()
    folder: Annotated[Path, Field(exclude=True)] = Path()

    @model_validator(mode="after")
    def _backups_have_a_place(self) -> Project:
        if self.maintain.backup is not None and self.backup.to is None:
            raise ValueError("`maintain.backup` asks for backups, and `backup.to` names no folder")
        return self

    def path(self, relative: str) -> Path:
        """A path of the project file, made absolute."""
        return (self.folder / relative).resolve()


def load_project(folder: Path | str = ".") -> Project:
    """The project whose file is in `folder`, or `folder` itself where it is a file.

    Raises:
        InputError: `project.not-found` where there is none, `project.invalid` where it does not say
            what it must, or names files that are not there; `evaluate.unknown-metric` for a gate on a
            metric that the task does not have, `improve.cannot-apply` for an improvement likewise.
    """
    path = _find_file(folder)
    project = read_project(path)
    check_gate_metrics(project.evaluate.gates, project.model.task)
    asked = project.improve
    if project.model.task != "classification" and (asked.calibrate or asked.objective):
        raise InputError(
            "improve.cannot-apply",
            f"`{path}`: `[improve]` asks for a classifier's probabilities or threshold, "
            f"`model.task` is `{project.model.task}`",
        )
    data = project.data
    named = {
        "data.path": data.path,
        "data.held_out": data.held_out,
        "data.reference": data.reference,
        "data.golden": data.golden,
    }
    for key, text in (
        *((key, text) for key, text in named.items() if text is not None),
        *(("train.files", text) for text in project.train.files),
    ):
        if not project.path(text).exists():
            raise InputError(
                "project.invalid",
                f"`{path}`: `{key}` names `{text}`, and there is nothing at `{project.path(text)}`",
            )
    return project


def read_project(folder: Path | str = ".") -> Project:
    """As `load_project`, where the files that it names need not be there yet.

    Raises:
        InputError: `project.not-found`, `project.invalid`.
    """
    path = _find_file(folder)
    data = load_extended(path)
    if "folder" in data:
        raise InputError("project.invalid", f"`{path}`: `folder` is not a key that dukou knows")
    data["folder"] = path.parent.resolve()
    return parse_document(Project, data, code="project.invalid", source=f"`{path}`")


def _find_file(folder: Path | str) -> Path:
    folder = Path(folder)
    path = folder if folder.is_file() else folder / FILE_NAME
    if not path.is_file():
        raise InputError("project.not-found", f"there is no `{FILE_NAME}` in `{folder.resolve()}`")
    return path


_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def fill_command(command: str, values: dict[str, str]) -> str:
    """`command` with `{name}` replaced; an unknown name is the user's mistake."""

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InputError(
                "project.invalid",
                f"`train.command` uses `{{{match[1]}}}`, which dukou does not fill",
                hint=f"it fills {', '.join('{' + name + '}' for name in values)}",
            )
        return values[match[1]]

    return _PLACEHOLDER.sub(fill, command)
