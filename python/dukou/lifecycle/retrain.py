"""Retraining: the project's own training again, on the rows that came since, and through every gate.

A person, a schedule or a drift alarm starts it. The labelled requests that the monitor kept join the
project's rows; the champion is handed to the training command for a warm start, and the result must
not be worse than the champion on labelled rows that neither was trained on. What passes is published
and deployed as `[deploy]` says: by canary, where the project asks for one. What does not is written
down with its reason, and serving goes on with what it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.durations import parse_duration
from dukou.base.errors import DukouError, InputError, StateError
from dukou.lifecycle.cache import remove_captured, use_cache
from dukou.lifecycle.champion import Champion, find_champion, open_champion
from dukou.lifecycle.project import Project
from dukou.lifecycle.runner import Shipment, ship
from dukou.lifecycle.stages.data import TEST, TRAIN, write_csv
from dukou.package.disk import hold_lock, translate_errors
from dukou.package.memory import memory_folder, memory_scope
from dukou.trust.keyring import load_keyring
from dukou.trust.privacy.policy import EVERY, OUTPUT

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.data import Table
    from dukou.lifecycle.labelled import LabelledRows
    from dukou.registry.chores import ChoreEntry
    from dukou.registry.registry import Registry

    Array = np.ndarray[Any, Any]

CHORE = "retrain"
# Of the labelled rows, this part judges and is never trained on, in no retraining: what a row holds
# says which, so that the same row always falls the same way.
_HELD_OUT_SHARE = 0.25
# Fewer labelled rows than this judge nothing; the project's own held-out rows join them.
_FEWEST_JUDGES = 50
_RECENT = "recent.csv"
_STREAM_POINTS = 40
# task → what the plot of the stream shows.
STREAM_METRICS = {"classification": "accuracy", "regression": "mean absolute error"}


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why a model is trained again.

    Attributes:
        reason: one sentence.
        kind: `person`, `schedule` or `drift`.
        window: id of the newest drift window that was looked at.
    """

    reason: str
    kind: str
    window: int = 0


@dataclass(frozen=True, slots=True)
class Retraining:
    """What came of a retraining.

    Attributes:
        version: the new version's number; None where it was refused.
        refused: why, as an error's text; empty where it was not.
        code: the error's code; empty where it was not refused.
        record: the folder of the run record, with the report; None where nothing ran.
        labelled: labelled rows that were there.
    """

    version: int | None
    refused: str
    code: str
    record: Path | None
    labelled: int


def find_trigger(project: Project, home: Path, *, now: datetime | None = None) -> Trigger | None:
    """Why the model should be trained again now; None where there is no reason.

    Drift counts once for each alarm, and only when enough new labels came since the last retraining:
    without them there is nothing to learn from.

    Raises:
        DukouError: `registry.*`; `config.invalid` for an interval that cannot be read.
    """
    from dukou.lifecycle.labelled import count_labelled
    from dukou.registry.registry import Registry

    wanted, name = project.retrain, project.model.name
    now = now or datetime.now(UTC)
    with Registry.open(home) as registry:
        if name not in [model.name for model in registry.models()]:
            return None
        if registry.rollouts.running(name) is not None:
            return None
        last = _last(registry, name)
        if wanted.every is not None:
            since = _parse_time(last.ended if last else registry.resolve(name).created)
            if now - since >= parse_duration(wanted.every, key="retrain.every"):
                return Trigger(f"`retrain.every` is {wanted.every}", "schedule", _window(last))
        if not wanted.on_drift:
            return None
        alarms = [w for w in registry.windows.list(name, "drift", after=_window(last)) if w.alarm]
    if not alarms:
        return None
    fresh = count_labelled(home, name) - (last.document.get("labelled", 0) if last else 0)
    if fresh < wanted.min_labels:
        return None
    newest = alarms[-1]
    return Trigger(
        f"the data drifted between {newest.began} and {newest.ended}", "drift", newest.id
    )


def retrain(
    project: Project,
    home: Path,
    *,
    trigger: Trigger,
    say: Callable[[str], None] = lambda _text: None,
) -> Retraining:
    """Trains again and sends the result through the line.

    Args:
        project: whose training command, gates and deployment.
        home: DUKOU_HOME.
        trigger: why.
        say: shows a line of progress.

    Returns:
        What came of it; written down as the chore `retrain` of the model too. A result that does not
        pass is no error of this function.

    Raises:
        StateError: `retrain.running`, where one of the same model is under way; `rollout.running`, where
            the version before is still on its way.
    """
    with _alone(project, home):
        _refuse_while_rolling_out(project, home)
        return _retrain(project, home, trigger, say)


def retrain_if_due(
    project: Project, home: Path, *, say: Callable[[str], None] = lambda _text: None
) -> Retraining | None:
    """Trains again where there is a reason; None where there is none. Of several that ask, one does it.

    Raises:
        StateError: `retrain.running`, where one of the same model is under way.
    """
    with _alone(project, home):
        trigger = find_trigger(project, home)
        return None if trigger is None else _retrain(project, home, trigger, say)


@contextlib.contextmanager
def _alone(project: Project, home: Path) -> Iterator[None]:
    """The lock goes with the process, however that ends."""
    with contextlib.ExitStack() as held:
        with translate_errors(home):
            lock = home / f".retrain-{project.model.name}.lock"
            mine = held.enter_context(hold_lock(lock, shared=False, wait=False))
        if not mine:
            raise StateError(
                "retrain.running", f"a retraining of `{project.model.name}` is under way already"
            )
        yield


def _refuse_while_rolling_out(project: Project, home: Path) -> None:
    """A canary could not begin in the end, and the training would have been for nothing."""
    from dukou.registry.registry import Registry

    if project.deploy.strategy != "canary":
        return
    with Registry.open(home) as registry:
        running = registry.rollouts.running(project.model.name)
    if running is not None:
        raise StateError(
            "rollout.running",
            f"a rollout of `{running.model}` from version {running.champion} to version "
            f"{running.challenger} is under way",
        )


def _retrain(
    project: Project, home: Path, trigger: Trigger, say: Callable[[str], None]
) -> Retraining:
    from dukou.registry.registry import Registry

    name, began = project.model.name, datetime.now(UTC).isoformat(timespec="microseconds")
    say(f"retrain   {trigger.reason}")
    with use_cache(home):
        done, facts = _run(project, home, trigger, say)
    # The rows that callers sent do not stay behind (where another run is on, it or the next takes them).
    remove_captured(home)
    if done.refused:
        say(f"refused   {done.refused} [{done.code}]")
    document = {
        "reason": trigger.reason,
        "kind": trigger.kind,
        "window": trigger.window,
        "labelled": done.labelled,
        "version": done.version,
        "refused": done.refused,
        "code": done.code,
        "record": "" if done.record is None else str(done.record),
        **facts,
    }
    with Registry.open(home) as registry:
        outcome = "failed" if done.refused else "done"
        registry.chores.add(name, CHORE, outcome=outcome, began=began, document=document)
    return done


def watch(
    project: Project,
    home: Path,
    *,
    poll: timedelta,
    ended: Callable[[float], bool],
    say: Callable[[str], None],
) -> None:
    """Retrains whenever there is a reason, until told to end.

    Args:
        project: the project.
        home: DUKOU_HOME.
        poll: how often to look.
        ended: waits so many seconds and says whether to end.
        say: shows a line of progress.
    """
    said = ""
    while not ended(poll.total_seconds()):
        try:
            # Folders in memory go with a process that ends; this one goes on.
            with memory_scope():
                retrain_if_due(project, home, say=say)
            said = ""
        except DukouError as error:
            # What is in the way now (a locked registry, a full disk) may be gone at the next look.
            if str(error) != said:
                said = str(error)
                say(f"warning   {error}")


def _run(
    project: Project, home: Path, trigger: Trigger, say: Callable[[str], None]
) -> tuple[Retraining, dict[str, Any]]:
    from dukou.lifecycle.labelled import count_labelled, load_labelled
    from dukou.lifecycle.tags import require_learnable

    name = project.model.name
    facts: dict[str, Any] = {}
    labelled = 0
    shipment: Shipment | None = None
    try:
        champion = find_champion(home, name)
        base = ship(project, home, until="data")
        features = list(base.results["data"].facts["features"])
        policy = project.privacy.policy(features, project.data.target)
        if policy.says_anything and count_labelled(home, name):
            require_learnable(policy, features, name)
        rows = load_labelled(
            home,
            name,
            features=features,
            labels=champion.model.card.labels if champion else (),
            task=project.model.task,
            newest=project.retrain.recent_rows,
        )
        labelled = rows.total
        retraining: dict[str, Any] = {"reason": trigger.reason, "kind": trigger.kind}
        if rows.count:
            retraining["metric"] = STREAM_METRICS[project.model.task]
            retraining["stream"] = describe_stream(home, name, rows, task=project.model.task)
        retraining |= {"champion": champion and champion.version, "labelled": rows.count}
        # What the stages keep of the rows is under their own keys: these files are needed until then.
        with _scratch(home) as folder:
            changed = _with_rows(project, base, rows, folder)
            shipment = ship(
                changed, home, until="gates", champion=champion, say=say, notes=retraining
            )
            facts = _compare(shipment, champion)
            shipment = ship(changed, home, champion=champion, say=say, notes=retraining | facts)
        facts["champion"] = champion and champion.version
        done = Retraining(shipment.version, "", "", shipment.record, labelled)
    except DukouError as error:
        record = shipment.record if shipment else _newest_record(home, name)
        done = Retraining(None, error.message, error.code, record, labelled)
    return done, facts


def _newest_record(home: Path, name: str) -> Path | None:
    """Of the run that was just stopped: it is written whatever stopped it."""
    found = [path for path in (home / "runs" / name).glob("*") if (path / "report.html").is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


@contextlib.contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A folder for rows: in the home, or in memory where what lies there is to be sealed."""
    if load_keyring(home) is not None:
        with memory_folder() as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="retrain-", dir=home / "cache") as place:
        yield Path(place)


def _with_rows(project: Project, base: Shipment, rows: LabelledRows, into: Path) -> Project:
    """The project, with its own split and the labelled rows, each on the side that its content says."""
    import numpy as np

    from dukou.evaluate.data import load_table

    if not rows.count:
        return project
    target, folder = project.data.target, base.results["data"].folder
    learn, judge = load_table(folder / TRAIN), load_table(folder / TEST)
    names = list(rows.features)
    learnt, judged = set(_contents(learn.columns, names)), set(_contents(judge.columns, names))
    contents = _contents(rows.features, names)
    # Of rows that are the same, the newest.
    newest = {content: place for place, content in enumerate(contents)}
    place = np.array(sorted(newest.values()), dtype=np.int64)
    held = np.array(
        [
            contents[i] in judged or (contents[i] not in learnt and _is_held_out(contents[i]))
            for i in place
        ]
    )
    keep = round(learn.rows * project.retrain.original_share)
    chance = np.random.default_rng(project.data.seed)
    chosen = np.sort(chance.permutation(learn.rows)[:keep])
    parts = {TRAIN: [learn.take(chosen)] if keep else [], TEST: []}
    # The newest rows are what the model is for: they judge, unless there are too few of them.
    few = bool(held.sum() < _FEWEST_JUDGES)
    if few:
        parts[TEST].append(judge)
    # What the project itself has is there already, and is not learnt twice.
    there = (learnt if keep else set()) | (judged if few else set())
    new = np.array([contents[i] not in there for i in place])
    # What comes now is what the new version will be asked: drift is measured against that alone.
    parts[_RECENT] = []
    for file, taken in (
        (TRAIN, place[~held & new]),
        (TEST, place[held & new]),
        (_RECENT, place),
    ):
        columns = {name: column[taken] for name, column in rows.features.items()}
        columns[target] = rows.truth[taken]
        write_csv(_join(parts[file], columns, rows.source), into / file)
    data = project.data.model_copy(
        update={"path": str(into / TRAIN), "held_out": str(into / TEST), "drop": []}
        | {"reference": str(into / _RECENT)}
        # A caller's row may not travel with a version for ever: golden samples are the project's own.
        | {"golden": project.data.golden or str(folder / TEST)}
    )
    known = {*names, target, EVERY}
    said = project.privacy.fields.items()
    tags = {name: tag for name, tag in said if name in known or name.startswith(OUTPUT)}
    privacy = project.privacy.model_copy(update={"fields": tags})
    return project.model_copy(update={"data": data, "privacy": privacy})


def _join(tables: list[Table], columns: dict[str, Array], source: str) -> Table:
    """The tables' rows and those of `columns`, in the columns of the first."""
    import numpy as np

    from dukou.evaluate.data import Table

    joined = {}
    for name, column in columns.items():
        parts = [table.columns[name] for table in tables]
        if any(part.dtype.kind in "OUS" for part in [*parts, column]):
            parts = [part.astype(object) for part in parts]
            column = column.astype(object)
        elif parts and parts[0].dtype.kind in "iu" and np.array_equal(column, column.round()):
            column = column.astype(parts[0].dtype)
        joined[name] = np.concatenate([*parts, column])
    return Table(columns=joined, source=source, digest="")


def _contents(columns: Mapping[str, Array], names: Sequence[str]) -> list[bytes]:
    """Bytes that are equal where rows are, whatever their columns' types."""
    import numpy as np

    keys = [b""] * len(columns[names[0]])
    for name in names:
        column = columns[name]
        if column.dtype.kind in "iufb":
            parts = [value.tobytes() for value in column.astype(np.float64) + 0.0]
        else:
            parts = [str(value).encode() + b"\0" for value in column.tolist()]
        keys = [key + part for key, part in zip(keys, parts, strict=True)]
    return keys


def _is_held_out(content: bytes) -> bool:
    number = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    return number < _HELD_OUT_SHARE * 2**64


def _compare(shipment: Shipment, champion: Champion | None) -> dict[str, Any]:
    """What the evaluation says of challenger and champion.

    Raises:
        InputError: `evaluate.gate-failed`, where the challenger is not as good on the same rows.
    """
    comparison = shipment.results["improve"].facts["evaluation"].get("comparison")
    if champion is None or comparison is None:
        return {}
    difference = comparison["difference"]
    if comparison.get("kind") == "numbers":
        if difference["value"] > 0:
            raise InputError(
                "evaluate.gate-failed",
                f"the new model's mean absolute error on {comparison['rows']} held-out rows is "
                f"{comparison['relative']:+.1%} against version {champion.version}: "
                f"{difference['value']:+.5g} [{difference['low']:+.5g}, {difference['high']:+.5g}]",
                hint="the champion stays; more labelled rows may tell otherwise",
            )
    elif difference["value"] < 0:
        raise InputError(
            "evaluate.gate-failed",
            f"the new model loses {comparison['lost']} and gains {comparison['gained']} of "
            f"{comparison['rows']} held-out rows against version {champion.version}: "
            f"{difference['value']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]",
            hint="the champion stays; more labelled rows may tell otherwise",
        )
    return {"comparison": comparison}


def describe_stream(
    home: Path, name: str, rows: LabelledRows, *, task: str = "classification"
) -> list[dict[str, Any]]:
    """The labelled rows in the order of time: how right what was served was, and how right the first
    version would have been, which is what there would be without retraining.

    Returns:
        Points of equal numbers of rows: `ended` (ISO 8601), `rows`, `served`, `frozen` (what
        `STREAM_METRICS` says of the task) and `versions` (number → rows).
    """
    import numpy as np

    from dukou.evaluate.labels import as_labels
    from dukou.evaluate.predict import predict_classes, predict_numbers
    from dukou.registry.registry import Registry

    with Registry.open(home) as registry:
        first = registry.versions(name)[0]
    frozen = open_champion(home, name, first.number, first.digest).model
    if task == "regression":
        numbers = rows.truth.astype(np.float64)
        served = np.abs(rows.said.astype(np.float64) - numbers)
        still = np.abs(predict_numbers(frozen, rows.features) - numbers)
    else:
        truth = as_labels(rows.truth)
        served = as_labels(rows.said) == truth
        still = predict_classes(frozen, rows.features).names() == truth
    points = []
    for part in np.array_split(np.arange(rows.count), min(_STREAM_POINTS, rows.count)):
        numbers, counts = np.unique(rows.versions[part], return_counts=True)
        points.append(
            {
                "ended": rows.times[part[-1]],
                "rows": len(part),
                "served": float(served[part].mean()),
                "frozen": float(still[part].mean()),
                "versions": dict(zip(numbers.tolist(), counts.tolist(), strict=True)),
            }
        )
    return points


def _last(registry: Registry, name: str) -> ChoreEntry | None:
    done = registry.chores.list(name, CHORE, limit=1)
    return done[-1] if done else None


def _window(last: ChoreEntry | None) -> int:
    return int(last.document.get("window", 0)) if last else 0


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)
