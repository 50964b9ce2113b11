"""Rollouts: a version on its way to all of the traffic, with the evidence so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dukou.base.canonical import dump_canonical
from dukou.base.errors import StateError
from dukou.base.ids import ModelName, parse_model_name
from dukou.registry.entries import CHAMPION
from dukou.registry.queries import find_version, read_aliases
from dukou.registry.tables import ALIASES, ROLLOUTS

if TYPE_CHECKING:
    from dukou.registry.registry import Registry

CHALLENGER = "challenger"
_LONGEST_HOLD = timedelta(minutes=1)
RUNNING, PROMOTED, ROLLED_BACK, CANCELLED = "running", "promoted", "rolled-back", "cancelled"


@dataclass(frozen=True, slots=True)
class RolloutEntry:
    """A rollout.

    Attributes:
        id: grows with every rollout.
        model: the model's name.
        champion: the version that served when it began.
        challenger: the version on its way.
        policy: what it was started with: steps, budgets, what counts.
        status: `running`, `promoted`, `rolled-back` or `cancelled`.
        step: index into the policy's steps.
        evidence: what was counted, and what was concluded from it.
        holder: the server whose counters feed it; empty for none yet.
        held_until: ISO 8601 in UTC; empty for none yet.
        created: when it began.
        updated: when anything of it changed last.
    """

    id: int
    model: ModelName
    champion: int
    challenger: int
    policy: Mapping[str, Any]
    status: str
    step: int
    evidence: Mapping[str, Any]
    holder: str
    held_until: str
    created: str
    updated: str


class Rollouts:
    """The rollouts of a registry; `Registry.rollouts` gives it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def start(self, model: str, challenger: int, policy: Mapping[str, Any]) -> RolloutEntry:
        """Begins a rollout from the model's champion to `challenger`, whose alias it becomes.

        Raises:
            StateError: `rollout.running` where one is under way, `rollout.no-champion`,
                `rollout.same-version`, `registry.unknown-*`.
        """
        name = parse_model_name(model)
        with self._registry.write() as connection:
            find_version(connection, name, challenger)
            running = self._running(connection, name)
            if running is not None:
                raise StateError(
                    "rollout.running",
                    f"a rollout of `{name}` from version {running.champion} to version "
                    f"{running.challenger} is under way",
                )
            aliases, time = read_aliases(connection, name), self._registry.now()
            champion = aliases.get(CHAMPION)
            if champion is None:
                raise StateError(
                    "rollout.no-champion", f"`{name}` has no champion to compare a version with"
                )
            if champion == challenger:
                raise StateError(
                    "rollout.same-version", f"version {challenger} is `{name}`'s champion already"
                )
            self._set_alias(connection, name, CHALLENGER, challenger, time)
            done = connection.execute(
                ROLLOUTS.insert().values(
                    model=name,
                    champion=champion,
                    challenger=challenger,
                    policy=dump_canonical(policy).decode(),
                    status=RUNNING,
                    step=0,
                    evidence="{}",
                    holder="",
                    held_until="",
                    created=time,
                    updated=time,
                )
            )
            number = int((done.inserted_primary_key or (0,))[0])
            details = {"rollout": number, "champion": champion, "policy": dict(policy)}
            self._registry.note(connection, "rollout.start", f"{name}:{challenger}", details, time)
            return _entry(connection.execute(_by_id(number)).one())

    def get(self, number: int) -> RolloutEntry:
        """The rollout with this id."""
        with self._registry.read() as connection:
            row = connection.execute(_by_id(number)).one_or_none()
        if row is None:
            raise StateError("rollout.unknown", f"there is no rollout {number}")
        return _entry(row)

    def running(self, model: str) -> RolloutEntry | None:
        """The model's rollout that is under way."""
        with self._registry.read() as connection:
            return self._running(connection, model)

    def list(self, model: str | None = None, *, limit: int = 20) -> list[RolloutEntry]:
        """The newest rollouts, newest first; of one model or of all."""
        query = sa.select(ROLLOUTS).order_by(ROLLOUTS.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(ROLLOUTS.c.model == model)
        with self._registry.read() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def hold(self, number: int, holder: str, until: str) -> bool:
        """Makes `holder` the server whose counters feed the rollout, or lets it stay so.

        Returns whether it is: another one's hold counts until its time is over. One that reaches far
        beyond what is asked for now was taken before the clock was set back, and counts no more.
        """
        longest = datetime.fromisoformat(until) + _LONGEST_HOLD
        with self._registry.write() as connection:
            now = self._registry.now()
            done = connection.execute(
                ROLLOUTS.update()
                .where(
                    ROLLOUTS.c.id == number,
                    ROLLOUTS.c.status == RUNNING,
                    (ROLLOUTS.c.holder == holder)
                    | (ROLLOUTS.c.held_until < now)
                    | (ROLLOUTS.c.held_until > longest.isoformat(timespec="microseconds")),
                )
                .values(holder=holder, held_until=until)
            )
            return bool(done.rowcount)

    def note(
        self,
        number: int,
        *,
        evidence: Mapping[str, Any],
        step: int | None = None,
        action: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> RolloutEntry:
        """Keeps what was counted; with `action` (`rollout.step` …) also as an audit event.

        Raises:
            StateError: `rollout.ended` where it is not running any more.
        """
        with self._registry.write() as connection:
            entry, time = self._require_running(connection, number), self._registry.now()
            values: dict[str, Any] = {
                "evidence": dump_canonical(evidence).decode(),
                "updated": time,
                "step": entry.step if step is None else step,
            }
            connection.execute(ROLLOUTS.update().where(ROLLOUTS.c.id == number).values(**values))
            if action is not None:
                subject = f"{entry.model}:{entry.challenger}"
                said = {"rollout": number, "step": values["step"], **(details or {})}
                self._registry.note(connection, action, subject, said, time)
            return _entry(connection.execute(_by_id(number)).one())

    def end(self, number: int, status: str, *, details: Mapping[str, Any]) -> RolloutEntry:
        """Ends a rollout, in one transaction with the aliases and its audit event.

        Args:
            number: its id.
            status: `promoted` makes the challenger the champion; `rolled-back` and `cancelled`
                leave the champion.
            details: the numbers of the decision; into the audit chain, and into the evidence under
                `decision`.

        Raises:
            StateError: `rollout.ended`, `registry.conflict` where somebody moved the champion.
        """
        with self._registry.write() as connection:
            entry, time = self._require_running(connection, number), self._registry.now()
            aliases = read_aliases(connection, entry.model)
            if status == PROMOTED:
                if aliases.get(CHAMPION) != entry.champion:
                    raise StateError(
                        "registry.conflict",
                        f"`{entry.model}@{CHAMPION}` was version {entry.champion} when the rollout "
                        f"began, and is version {aliases.get(CHAMPION)}",
                    )
                self._set_alias(connection, entry.model, CHAMPION, entry.challenger, time)
            if aliases.get(CHALLENGER) == entry.challenger:
                self._set_alias(connection, entry.model, CHALLENGER, None, time)
            evidence = {**entry.evidence, "decision": dict(details)}
            connection.execute(
                ROLLOUTS.update()
                .where(ROLLOUTS.c.id == number)
                .values(
                    status=status,
                    evidence=dump_canonical(evidence).decode(),
                    updated=time,
                )
            )
            subject = f"{entry.model}:{entry.challenger}"
            said = {"rollout": number, "champion": entry.champion, **details}
            self._registry.note(connection, f"rollout.{status}", subject, said, time)
            return _entry(connection.execute(_by_id(number)).one())

    def _running(self, connection: sa.Connection, model: str) -> RolloutEntry | None:
        row = connection.execute(
            sa.select(ROLLOUTS).where(ROLLOUTS.c.model == model, ROLLOUTS.c.status == RUNNING)
        ).one_or_none()
        return None if row is None else _entry(row)

    def _require_running(self, connection: sa.Connection, number: int) -> RolloutEntry:
        row = connection.execute(_by_id(number)).one_or_none()
        if row is None:
            raise StateError("rollout.unknown", f"there is no rollout {number}")
        if row.status != RUNNING:
            raise StateError("rollout.ended", f"rollout {number} is over: it was {row.status}")
        return _entry(row)

    def _set_alias(
        self, connection: sa.Connection, model: str, alias: str, number: int | None, time: str
    ) -> None:
        before = read_aliases(connection, model).get(alias)
        if before == number:
            return
        row = (ALIASES.c.model == model) & (ALIASES.c.name == alias)
        connection.execute(ALIASES.delete().where(row))
        if number is not None:
            connection.execute(
                ALIASES.insert().values(model=model, name=alias, number=number, updated=time)
            )
        details = {"from": before, "to": number}
        self._registry.note(connection, "alias.set", f"{model}@{alias}", details, time)


def _by_id(number: int) -> sa.Select[Any]:
    return sa.select(ROLLOUTS).where(ROLLOUTS.c.id == number)


def _entry(row: sa.Row[Any]) -> RolloutEntry:
    return RolloutEntry(
        **{
            **row._mapping,
            "policy": json.loads(row.policy),
            "evidence": json.loads(row.evidence),
        }
    )
