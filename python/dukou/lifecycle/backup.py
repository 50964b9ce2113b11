"""Backups of this installation: taken, proved by restoring them, put back; and when that was, noted.

`HOME/backup.json` says what was done last, for `dukou status` and the metrics: a backup that nobody
has restored for a year is a hope.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dukou.base.errors import DukouError, InputError, StateError
from dukou.base.settings import make_private_folder, resolve_setting
from dukou.lifecycle.project import Project
from dukou.registry.backup.folder import Backups, Taken, Verified
from dukou.registry.backup.snapshot import Snapshot
from dukou.serve.backup_age import FILE_NAME, read_backup_facts
from dukou.trust.envelope import OpeningReader, SealingWriter, is_sealed, key_id_of
from dukou.trust.keyring import Keyring, load_every_key, load_keyring

if TYPE_CHECKING:
    from dukou.model.model import Model

Say = Callable[[str], None]
# The subject of what is written down for the whole installation.
INSTALLATION = "installation"


def open_backups(home: Path, folder: Path | None) -> Backups:
    """The backups of this installation, sealed where it has an encryption key.

    Args:
        home: DUKOU_HOME.
        folder: where they are; `DUKOU_BACKUP`, or where the last one was put, where None.

    Raises:
        InputError: `usage.invalid`: nobody says where.
        TrustError, InputError: `trust.*`, of an encryption key that cannot be read.
    """
    said = resolve_setting("backup", None if folder is None else str(folder)).value
    said = said or (read_backup_facts(home) or {}).get("folder")
    if not said:
        raise InputError(
            "usage.invalid",
            "nobody says where backups are kept",
            hint="`dukou backup --to FOLDER`, best on another disk; it is remembered",
        )
    return Backups(Path(str(said)).expanduser(), sealer_of(home))


class EnvelopeSealer:
    """Seals backups as everything else here is sealed (`dukou.trust.envelope`)."""

    _CONTEXT = "backup"

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    @property
    def key_id(self) -> str:
        """The id of the key that seals."""
        return self._keyring.current.id

    def is_current(self, head: bytes) -> bool:
        """Whether what begins so is sealed under the key that seals now."""
        return is_sealed(head) and key_id_of(head) == self.key_id

    def seal(self, sink: IO[bytes]) -> SealingWriter:
        """What is written to it arrives sealed in `sink`."""
        return SealingWriter(sink, self._keyring, self._CONTEXT)

    def open(self, source: IO[bytes], where: str) -> OpeningReader:
        """What was sealed. Raises TrustError `trust.*`."""
        return OpeningReader(source, self._keyring, self._CONTEXT, where)


def sealer_of(home: Path) -> EnvelopeSealer | None:
    """What seals this installation's backups; None where no encryption key is configured."""
    keyring = load_keyring(home)
    return None if keyring is None else EnvelopeSealer(keyring)


def take_backup(
    home: Path, backups: Backups, *, keep: int | None = None, say: Say = lambda _text: None
) -> Taken:
    """Takes a snapshot, removes older ones, and writes down that it was done.

    Args:
        home: DUKOU_HOME.
        backups: where to.
        keep: so many snapshots stay; all where None.
        say: shows a line of progress.

    Raises:
        StateError: `backup.own-database`: the registry is no file; what `Backups.take` raises.
    """
    from dukou.registry.registry import Registry

    _require_file_registry()
    began = _now()
    taken = backups.take(home, say=say)
    gone = [] if keep is None else backups.prune(keep)
    _remember(home, folder=str(backups.folder), taken=taken.snapshot.created)
    found = {
        "snapshot": taken.snapshot.id,
        "files": len(taken.snapshot.files),
        "bytes": taken.snapshot.size,
        "new_bytes": taken.new_bytes,
        "sealed": taken.snapshot.sealed,
        "removed": gone,
    }
    with Registry.open(home) as registry:
        registry.chores.add(INSTALLATION, "backup", outcome="done", began=began, document=found)
    return taken


def verify_backup(
    home: Path, backups: Backups, snapshot: str | None = None, *, say: Say = lambda _text: None
) -> Verified:
    """Restores a snapshot into a scratch folder, proves what is in it, and writes that down.

    The audit chain is walked, every blob hashed, every aliased version's signature verified and its
    golden samples replayed.

    Args:
        home: DUKOU_HOME: whose keys are used, and whose registry is told.
        backups: where it is.
        snapshot: its id; the newest where None.
        say: shows a line of progress.

    Raises:
        InputError: `backup.unknown`.
        StateError: `backup.does-not-hold`, with what did not.
    """
    from dukou.registry.registry import Registry

    chosen = backups.find(snapshot)
    began, start = _now(), time.monotonic()
    failure: DukouError | None = None
    found: dict[str, Any] = {"snapshot": chosen.id}
    with tempfile.TemporaryDirectory(prefix="dukou-verify-") as scratch:
        try:
            backups.restore(chosen, Path(scratch) / "home")
            keyring = load_every_key(home)
            found |= prove_home(Path(scratch) / "home", Path(scratch), keyring)
        except DukouError as error:
            failure = error
            found |= {"code": error.code, "message": error.message}
    found["seconds"] = round(time.monotonic() - start, 2)
    outcome = "done" if failure is None else "failed"
    with Registry.open(home) as registry:
        registry.chores.add(
            INSTALLATION, "backup-verify", outcome=outcome, began=began, document=found
        )
    if failure is not None:
        raise StateError(
            "backup.does-not-hold",
            f"snapshot `{chosen.id}` in `{backups.folder}` does not hold: {failure.message} "
            f"[{failure.code}]",
        ) from failure
    proof = backups.note_verified(chosen.id, found)
    _remember(home, folder=str(backups.folder), verified=proof.time)
    say(
        f"restored {chosen.size:,} bytes and proved them in {found['seconds']:.1f} s: "
        f"{found['events']} audit events, {len(found['versions'])} versions"
    )
    return proof


def restore_backup(
    backups: Backups, snapshot: Snapshot, into: Path, *, replace: bool, say: Say
) -> Path | None:
    """Puts a snapshot back as a home folder.

    Args:
        backups: where it is.
        snapshot: which.
        into: the home folder to be.
        replace: moves what is there aside first; without it, what is there is not touched.
        say: shows a line of progress.

    Returns:
        Where what was there is now; None where nothing was.

    Raises:
        StateError: `backup.not-empty`, without `replace`; `backup.busy`: a server runs on that home.
        TrustError: `backup.damaged`, `trust.*`; nothing was changed.
    """
    from dukou.registry.backup.home import is_empty
    from dukou.serve.folder import running_servers

    into = into.absolute()
    if is_empty(into):
        backups.restore(snapshot, into)
        _remember(into, folder=str(backups.folder), taken=snapshot.created)
        return None
    if not replace:
        raise StateError("backup.not-empty", f"`{into}` is there and is not empty")
    for _folder, server in running_servers():
        if Path(str(server.get("state_dir", ""))).is_relative_to(into):
            raise StateError(
                "backup.busy", f"a server (process {server['pid']}) runs on `{into}`: end it first"
            )
    # The new one is whole before the old one moves.
    fresh = into.with_name(f".{into.name}.restored-{os.getpid()}")
    backups.restore(snapshot, fresh)
    _remember(fresh, folder=str(backups.folder), taken=snapshot.created)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = into.with_name(f"{into.name}.before-{stamp}")
    into.rename(aside)
    fresh.rename(into)
    say(f"what was in `{into}` is in `{aside}` now")
    return aside


def prove_home(home: Path, scratch: Path, keyring: Keyring | None = None) -> dict[str, Any]:
    """Proves a restored installation: audit chain, every blob, aliased versions with their signatures.

    Args:
        home: the restored home folder.
        scratch: a folder for laid-out versions; encrypted ones are laid out in memory.
        keyring: for encrypted versions: a backup holds no key.

    Returns:
        `events` of the audit chain, and `versions` (reference → golden samples reproduced).

    Raises:
        DukouError: what does not hold.
    """
    from dukou.package.memory import memory_scope
    from dukou.package.store import Store
    from dukou.package.unpack import folder_for, open_version
    from dukou.registry.registry import Registry
    from dukou.trust.keys import load_trust_store

    store, trusted = Store(home / "store"), load_trust_store(home)
    with Registry.open(home, url=f"sqlite:///{home / 'registry.db'}") as registry:
        events = registry.verify_audit()
        entries = [
            version
            for model in registry.models()
            for version in registry.versions(model.name)
            if version.aliases
        ]
    damaged = store.verify_all()
    if damaged:
        raise damaged[0]
    versions: dict[str, int] = {}
    for entry in entries:
        reference = f"{entry.model}:{entry.number}"
        place = folder_for(store, entry.digest, scratch / reference.replace(":", "-"))
        with memory_scope():
            model = open_version(
                store, entry.digest, trusted, folder=place, copy=True, keyring=keyring
            )
            versions[reference] = replay_golden(model, reference)
    return {"events": events, "versions": versions}


def replay_golden(model: Model, reference: str) -> int:
    """Runs a version's golden samples and compares; gives how many were reproduced.

    Raises:
        StateError: `table.golden-mismatch`, naming the sample that differs.
    """
    import numpy as np

    from dukou.evaluate.predict import run_model

    if model.golden is None:
        return 0
    tolerance = model.golden.tolerance
    for number, (inputs, expected) in enumerate(model.golden.samples):
        came = run_model(model, inputs)
        for name, answer in expected.items():
            same = (
                np.allclose(
                    came[name], answer, tolerance.relative, tolerance.absolute, equal_nan=True
                )
                if answer.dtype.kind == "f"
                else np.array_equal(came[name], answer)
            )
            if not same:
                raise StateError(
                    "backup.does-not-hold",
                    f"`{reference}`: golden sample {number} differs in `{name}`",
                )
    return len(model.golden.samples)


# Chores of a project


def keep_backup(project: Project, home: Path, say: Say) -> Mapping[str, Any]:
    """The chore `backup`: one snapshot into `[backup] to`."""
    taken = take_backup(home, _backups_of(project, home), keep=project.backup.keep, say=say)
    say(f"snapshot {taken.snapshot.id}: {taken.snapshot.size:,} bytes, {taken.new_bytes:,} new")
    return {"snapshot": taken.snapshot.id, "new_bytes": taken.new_bytes}


def drill_backup(project: Project, home: Path, say: Say) -> Mapping[str, Any]:
    """The chore `backup-drill`: the newest snapshot of `[backup] to` is restored and proved; where the
    project has no backups, one is made, proved and thrown away.

    Raises:
        StateError: `maintain.failed`, with what did not hold.
    """
    try:
        if project.backup.to is not None:
            return verify_backup(home, _backups_of(project, home), say=say).found
        _require_file_registry()
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="dukou-drill-") as scratch:
            folder = Path(scratch)
            backups = Backups(folder / "backups", sealer_of(home))
            taken = backups.take(home, say=say)
            backups.restore(taken.snapshot, folder / "home")
            found = prove_home(folder / "home", folder, load_every_key(home))
        seconds = round(time.monotonic() - start, 2)
        say(
            f"{taken.snapshot.size:,} bytes copied and proved in {seconds:.1f} s: "
            f"{found['events']} audit events, {len(found['versions'])} versions"
        )
        return {"bytes": taken.snapshot.size, "seconds": seconds, **found}
    except DukouError as error:
        raise StateError("maintain.failed", f"the copy does not hold: {error}") from error


def _backups_of(project: Project, home: Path) -> Backups:
    folder = project.backup.to
    return open_backups(home, None if folder is None else project.path(folder))


def _require_file_registry() -> None:
    said = resolve_setting("registry")
    if said.value is not None:
        raise StateError(
            "backup.own-database",
            f"{said.origin} names a database of its own, and a backup copies files alone",
        )


def _remember(home: Path, **facts: str) -> None:
    """Adds to `HOME/backup.json`, whole or not at all."""
    make_private_folder(home)
    document = {"format": 1, **(read_backup_facts(home) or {}), **facts}
    incoming = home / f".{FILE_NAME}.{os.getpid()}"
    incoming.write_text(json.dumps(document, indent=1), encoding="utf-8")
    incoming.replace(home / FILE_NAME)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
