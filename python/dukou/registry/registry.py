"""The registry: which models and versions there are, what they are called, what is deployed.

Every change is one transaction with its audit event. Two writers: one waits for the other, and where
it relied on what the other changed it gets `registry.conflict`. Knows digests, not blobs; whether
the store has them is `package`'s.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dukou.base.canonical import dump_canonical
from dukou.base.errors import InputError, StateError
from dukou.base.ids import parse_digest, parse_model_name
from dukou.base.settings import make_private_folder, resolve_setting
from dukou.registry.audit import AuditEvent, append_event, read_events, verify_chain
from dukou.registry.database import Database
from dukou.registry.entries import (
    ARCHIVED,
    CHAMPION,
    READY,
    DeploymentEntry,
    ModelEntry,
    VersionEntry,
    parse_reference,
)
from dukou.registry.queries import (
    find_version,
    read_aliases,
    read_deployment,
    read_model_names,
    read_versions,
    require_model,
    say_what_there_is,
)
from dukou.registry.tables import (
    ALIASES,
    AUDIT_HEAD,
    DEPLOYMENTS,
    MODELS,
    VERSIONS,
)

if TYPE_CHECKING:
    from dukou.registry.chores import Chores
    from dukou.registry.evaluations import Evaluations
    from dukou.registry.revisions import Revisions
    from dukou.registry.rollouts import Rollouts
    from dukou.registry.windows import Windows


class _Anything:
    """The type of `ANYTHING`."""

    def __repr__(self) -> str:
        return "ANYTHING"


ANYTHING: Final = _Anything()
"""For `expected`: whatever stands there now."""


class Registry:
    """Names for what the store holds. Use as a context manager, or `close` it.

    Safe to share between threads, and with any number of other processes.
    """

    def __init__(self, database: Database, actor: str, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._actor = actor
        self._clock = clock

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        url: str | None = None,
        actor: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Registry:
        """Opens the installation's registry; makes or upgrades its tables where that is due.

        Args:
            home: the folder of dukou's state; the registry is `registry.db` in it.
            url: another database (SQLAlchemy URL); `DUKOU_REGISTRY` where absent.
            actor: who changes things, for the audit chain; `user@host` where absent.
            clock: the time of changes.

        Raises:
            StateError: `registry.unreadable`: damaged, no registry, or of a newer dukou.
            ResourceError: `store.disk-full`, `store.not-writable`.
        """
        make_private_folder(home)
        said, file = url or resolve_setting("registry").value, home / "registry.db"
        database = (
            Database(_sqlite_url(file), home / ".registry.lock", file)
            if said is None
            else Database(said, home / ".registry.lock")
        )
        return cls(database, actor or _whoami(), clock)

    def close(self) -> None:
        """Closes every connection."""
        self._database.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Versions and aliases

    def register_version(
        self,
        model: str,
        digest: str,
        *,
        variant: str = "original",
        metrics: Mapping[str, Any] | None = None,
    ) -> int:
        """Gives the artifact the model's next number; one that has a number keeps it.

        Raises:
            InputError: `config.invalid`: no name or digest.
        """
        name, known = parse_model_name(model), parse_digest(digest)
        with self._database.write() as connection:
            number = connection.execute(
                sa.select(VERSIONS.c.number).where(
                    VERSIONS.c.model == name, VERSIONS.c.digest == known
                )
            ).scalar_one_or_none()
            if number is not None:
                return int(number)
            time = self.now()
            if name not in read_model_names(connection):
                connection.execute(MODELS.insert().values(name=name, created=time))
            latest = connection.execute(
                sa.select(sa.func.max(VERSIONS.c.number)).where(VERSIONS.c.model == name)
            ).scalar_one()
            number = (latest or 0) + 1
            connection.execute(
                VERSIONS.insert().values(
                    model=name,
                    number=number,
                    digest=known,
                    variant=variant,
                    metrics=_dump(metrics or {}),
                    created=time,
                    status=READY,
                )
            )
            details = {"digest": known, "variant": variant, "metrics": dict(metrics or {})}
            self.note(connection, "version.register", f"{name}:{number}", details, time)
            return number

    def set_status(self, model: str, number: int, status: str) -> None:
        """Marks a version `ready` or `archived`; an archived one is never chosen by default.

        Raises:
            StateError: `registry.unknown-model`, `registry.unknown-version`.
            InputError: `config.invalid`.
        """
        if status not in (READY, ARCHIVED):
            raise InputError(
                "config.invalid", f"a version is `ready` or `archived`, not `{status}`"
            )
        with self._database.write() as connection:
            before = find_version(connection, parse_model_name(model), number)
            if before.status == status:
                return
            connection.execute(
                VERSIONS.update()
                .where(VERSIONS.c.model == model, VERSIONS.c.number == number)
                .values(status=status)
            )
            details = {"from": before.status, "to": status}
            self.note(connection, "version.status", f"{model}:{number}", details)

    def set_alias(
        self, model: str, alias: str, number: int | None, *, expected: int | _Anything | None
    ) -> None:
        """Moves a name to a version, or takes it away (`number=None`).

        Args:
            model: the model's name.
            alias: 1 to 128 letters, digits, `.`, `_`, `-`; not digits alone.
            number: the version's; None removes the alias.
            expected: the number that it has now (None: it is not there), or `ANYTHING`.

        Raises:
            StateError: `registry.conflict`: it has another number than expected;
                `registry.unknown-model`, `registry.unknown-version`.
            InputError: `config.invalid`: it cannot be an alias.
        """
        name = parse_model_name(model)
        _check_alias(alias)
        with self._database.write() as connection:
            if number is not None:
                find_version(connection, name, number)
            else:
                require_model(connection, name)
            before = read_aliases(connection, name).get(alias)
            if not isinstance(expected, _Anything) and before != expected:
                raise StateError(
                    "registry.conflict",
                    f"`{name}@{alias}` was expected to be {_version(expected)}, "
                    f"and is {_version(before)}",
                )
            if before == number:
                return
            row, time = (ALIASES.c.model == name) & (ALIASES.c.name == alias), self.now()
            if number is None:
                connection.execute(ALIASES.delete().where(row))
            elif before is None:
                connection.execute(
                    ALIASES.insert().values(model=name, name=alias, number=number, updated=time)
                )
            else:
                connection.execute(ALIASES.update().where(row).values(number=number, updated=time))
            details = {"from": before, "to": number}
            self.note(connection, "alias.set", f"{name}@{alias}", details, time)

    def resolve(self, reference: str) -> VersionEntry:
        """The version that `name`, `name:3`, `name@alias` or `name@sha256:…` means now.

        `name` alone is the champion, or, where no alias says who that is, the latest version that
        is not archived.

        Raises:
            StateError: `registry.unknown-model`, `registry.unknown-version`, naming what there is.
            InputError: `config.invalid`: it is not a reference.
        """
        wanted = parse_reference(reference)
        with self._database.read() as connection:
            if wanted.number is not None:
                return find_version(connection, wanted.model, wanted.number)
            entries = read_versions(connection, wanted.model)
        if wanted.digest is not None:
            found = [e for e in entries if e.digest == wanted.digest]
            what = f"`{wanted.model}` has no version with digest `{wanted.digest}`"
        else:
            alias = CHAMPION if wanted.alias is None else wanted.alias
            found = [e for e in entries if alias in e.aliases]
            what = f"`{wanted.model}` has no alias `{alias}`"
            if not found and wanted.alias is None:
                found = [e for e in entries if e.status == READY]
                what = f"`{wanted.model}` has no version that is not archived"
        if not found:
            raise StateError("registry.unknown-version", what, hint=say_what_there_is(entries))
        return found[-1]

    def models(self) -> list[ModelEntry]:
        """Every model, by name."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(
                    MODELS.c.name,
                    MODELS.c.created,
                    sa.func.count(VERSIONS.c.number).label("versions"),
                    sa.func.coalesce(sa.func.max(VERSIONS.c.number), 0).label("latest"),
                )
                .outerjoin(VERSIONS, VERSIONS.c.model == MODELS.c.name)
                .group_by(MODELS.c.name, MODELS.c.created)
                .order_by(MODELS.c.name)
            ).all()
            return [
                ModelEntry(**row._mapping, aliases=read_aliases(connection, row.name))
                for row in rows
            ]

    def versions(self, model: str) -> list[VersionEntry]:
        """The model's versions, by number.

        Raises:
            StateError: `registry.unknown-model`.
        """
        with self._database.read() as connection:
            return read_versions(connection, parse_model_name(model))

    # Deployments

    def put_deployment(self, name: str, document: Mapping[str, Any], *, expected: int) -> int:
        """Stores a deployment's next revision and returns it; the same document changes nothing.

        Args:
            name: the deployment's.
            document: JSON-able.
            expected: the revision that the change was made from; 0 where there was none.

        Raises:
            StateError: `registry.conflict`: somebody else put a revision meanwhile.
            InputError: `config.invalid`: the name.
        """
        parse_model_name(name)
        with self._database.write() as connection:
            current = read_deployment(connection, name)
            revision = current.revision if current else 0
            if revision != expected:
                raise StateError(
                    "registry.conflict",
                    f"deployment `{name}` was expected at revision {expected}, and is at {revision}",
                )
            text = _dump(document)
            if current and _dump(current.document) == text:
                return revision
            time = self.now()
            connection.execute(
                DEPLOYMENTS.insert().values(
                    name=name, revision=revision + 1, document=text, created=time
                )
            )
            details = {"from": revision, "to": revision + 1, "document": json.loads(text)}
            self.note(connection, "deployment.put", name, details, time)
            return revision + 1

    def deployment(self, name: str, revision: int | None = None) -> DeploymentEntry | None:
        """The deployment's current revision, or the one asked for; None where there is none."""
        with self._database.read() as connection:
            return read_deployment(connection, name, revision)

    def deployments(self) -> list[DeploymentEntry]:
        """The current revision of every deployment, by name."""
        with self._database.read() as connection:
            names = connection.execute(
                sa.select(DEPLOYMENTS.c.name).distinct().order_by(DEPLOYMENTS.c.name)
            ).scalars()
            found = [read_deployment(connection, name) for name in names.all()]
            return [entry for entry in found if entry is not None]

    # What is kept of a version's life, a file each

    @property
    def evaluations(self) -> Evaluations:
        """What was found about versions."""
        from dukou.registry.evaluations import Evaluations

        return Evaluations(self)

    @property
    def revisions(self) -> Revisions:
        """What served tables are numbered by."""
        from dukou.registry.revisions import Revisions

        return Revisions(self)

    @property
    def rollouts(self) -> Rollouts:
        """Versions on their way to all of the traffic."""
        from dukou.registry.rollouts import Rollouts

        return Rollouts(self)

    @property
    def windows(self) -> Windows:
        """What the monitor found."""
        from dukou.registry.windows import Windows

        return Windows(self)

    @property
    def chores(self) -> Chores:
        """Work that comes back, and when it was done."""
        from dukou.registry.chores import Chores

        return Chores(self)

    # Changes

    def change_token(self) -> int:
        """A number that grows with every change; equal tokens mean that nothing changed. Cheap."""
        return self.audit_head()[0]

    def audit_head(self) -> tuple[int, str]:
        """Where the audit chain ends: the last event's sequence and hash."""
        with self._database.read() as connection:
            head = connection.execute(sa.select(AUDIT_HEAD)).one()
            return int(head.sequence), str(head.hash)

    def audit_events(self, after: int = 0, limit: int = 1000) -> list[AuditEvent]:
        """Events in order, from the one behind `after`."""
        with self._database.read() as connection:
            return read_events(connection, after, limit)

    def verify_audit(self) -> int:
        """Walks the whole chain; returns the number of events.

        Raises:
            StateError: `registry.audit-broken`, naming the first event that does not verify.
        """
        with self._database.read() as connection:
            return verify_chain(connection)

    def add_event(self, action: str, subject: str, details: Mapping[str, Any]) -> None:
        """Writes down what was done outside of the registry, as an audit event."""
        with self._database.write() as connection:
            self.note(connection, action, subject, details)

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that sees one moment; for this room's files."""
        return self._database.read()

    def write(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that changes the registry; for this room's files."""
        return self._database.write()

    def note(
        self,
        connection: sa.Connection,
        action: str,
        subject: str,
        details: Mapping[str, Any],
        time: str | None = None,
    ) -> None:
        """Adds the change's event to the audit chain, within its transaction."""
        append_event(
            connection,
            time=time or self.now(),
            actor=self._actor,
            action=action,
            subject=subject,
            details=details,
        )

    def now(self) -> str:
        """The time of a change: ISO 8601 in UTC."""
        return self._clock().astimezone(UTC).isoformat(timespec="microseconds")


def _sqlite_url(path: Path) -> sa.URL:
    # Not as text: a path may hold what means something in a URL.
    return sa.URL.create("sqlite", database=str(path))


def _whoami() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A user id without a name, as in many containers.
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _dump(document: Mapping[str, Any]) -> str:
    return dump_canonical(document).decode()


def _version(number: int | _Anything | None) -> str:
    return "absent" if number is None else f"version {number}"


def _check_alias(alias: str) -> None:
    parse_model_name(alias)
    if alias.isdigit():
        raise InputError(
            "config.invalid",
            f"`{alias}` cannot be an alias: it would be taken for a version's number",
        )
