"""The folder that backups are kept in: snapshots that share what did not change.

    FOLDER/snapshots/ID.json     what one snapshot holds; appears last, by rename
    FOLDER/blobs/SHA256          bytes, by the digest of what was written first; shared by snapshots
    FOLDER/verified/ID.json      when a snapshot was restored and proved, and what was found

Killed at any moment, a backup leaves the snapshots that were there and perhaps bytes that no snapshot
names, which the next one takes away. Where a `Sealer` is given, snapshots and bytes are sealed: then
nothing of an installation, no file's name and no digest of its content, stands here in the clear.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

from dukou import __version__
from dukou.base.errors import DukouError, InputError, StateError, TrustError
from dukou.base.settings import make_private_folder
from dukou.package.disk import (
    fsync_folder,
    hold_lock,
    remove_quietly,
    translate_errors,
    write_whole,
)
from dukou.package.store import Store
from dukou.registry.backup.home import REGISTRY, HomeFile, copy_registry, is_empty, list_files
from dukou.registry.backup.snapshot import KeptFile, Snapshot, parse_snapshot_id
from dukou.registry.registry import Registry

_PIECE = 1 << 20
_CLOCK = Callable[[], datetime]


class Sealer(Protocol):
    """What makes bytes unreadable to whoever has not the key, and back."""

    @property
    def key_id(self) -> str:
        """The id of the key that seals."""
        ...

    def is_current(self, head: bytes) -> bool:
        """Whether what begins so (16 bytes) is sealed, and under the key that seals now."""
        ...

    def seal(self, sink: IO[bytes]) -> io.RawIOBase:
        """What is written to it arrives sealed in `sink`; whole once the block ends well."""
        ...

    def open(self, source: IO[bytes], where: str) -> io.RawIOBase:
        """What was sealed. Raises TrustError; `where` names it."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """What one `Backups.take` did.

    Attributes:
        snapshot: what is kept now.
        new_bytes: that were not there before.
    """

    snapshot: Snapshot
    new_bytes: int


@dataclass(frozen=True, slots=True)
class Verified:
    """When a snapshot was restored and proved.

    Attributes:
        id: the snapshot's.
        time: ISO 8601 in UTC.
        found: what the proof says: events, versions, seconds.
    """

    id: str
    time: str
    found: Mapping[str, Any]


class Backups:
    """One such folder. Making the object touches nothing.

    Args:
        folder: where it is, or will be.
        sealer: how bytes are sealed; None keeps them in the clear.
        clock: the time of snapshots.
    """

    def __init__(
        self,
        folder: Path,
        sealer: Sealer | None = None,
        *,
        clock: _CLOCK = lambda: datetime.now(UTC),
    ) -> None:
        self.folder = folder.absolute()
        self._sealer = sealer
        self._clock = clock
        self._snapshots = self.folder / "snapshots"
        self._blobs = self.folder / "blobs"
        self._verified = self.folder / "verified"
        self._incoming = self.folder / ".incoming"

    # Looking

    def ids(self) -> list[str]:
        """The snapshots that are there, the oldest first; nothing is read."""
        if not self._snapshots.is_dir():
            return []
        found = [path.stem for path in self._snapshots.glob("*.json")]
        return sorted(found)

    def read(self, snapshot: str) -> Snapshot:
        """One of them.

        Raises:
            InputError: `backup.unknown`.
            TrustError: `backup.damaged`, `trust.*` where it is sealed and the key is not here.
        """
        ids = self.ids()
        if snapshot not in ids:
            newest = f"; the newest is `{ids[-1]}`" if ids else ""
            raise InputError(
                "backup.unknown",
                f"`{self.folder}` has no snapshot `{snapshot}`: it has {len(ids)}{newest}",
            )
        where = f"snapshot `{snapshot}` in `{self.folder}`"
        with (self._snapshots / f"{snapshot}.json").open("rb") as file:
            if file.read(1) in (b"{", b""):
                file.seek(0)
                return Snapshot.from_json(file.read(), where)
            file.seek(0)
            return Snapshot.from_json(self._open(file, where).readall(), where)

    def find(self, snapshot: str | None) -> Snapshot:
        """The one of this id; the newest where None. Raises as `read`."""
        if snapshot is not None:
            return self.read(snapshot)
        ids = self.ids()
        if not ids:
            raise InputError("backup.unknown", f"there is no backup in `{self.folder}`")
        return self.read(ids[-1])

    def newest_verified(self) -> Verified | None:
        """The proof that was made last, of a snapshot that is still there."""
        ids = set(self.ids())
        found = [proof for proof in map(self._read_proof, self._verified.glob("*.json")) if proof]
        return max((p for p in found if p.id in ids), key=lambda p: p.time, default=None)

    def all_files(self) -> list[Path]:
        """Everything here that may be sealed."""
        folders = [folder for folder in (self._snapshots, self._blobs) if folder.is_dir()]
        return [path for folder in folders for path in sorted(folder.iterdir())]

    # Taking

    def take(self, home: Path, *, say: Callable[[str], None] = lambda _text: None) -> Taken:
        """Keeps the installation as it is now. What an earlier snapshot has is not written again.

        Raises:
            InputError: `usage.invalid`: the folder and the home lie in each other.
            StateError: `backup.busy`, `registry.unreadable`.
            TrustError: `package.digest-mismatch`: the store is damaged, and so would be the copy.
            ResourceError: `store.disk-full`, `store.not-writable`.
        """
        self._keep_apart(home)
        with self._alone(), contextlib.ExitStack() as held:
            # Nobody takes blobs away while they are copied.
            held.enter_context(Store(home / "store").holding())
            snapshots, problem = self._read_all()
            if problem is not None:
                say(f"what is not needed any more stays: {problem.message}")
            self._sweep(snapshots, problem)
            known = self._known_blobs(snapshots)
            moment = self._clock().astimezone(UTC)
            registry = self._incoming / f"registry-{secrets.token_hex(8)}.db"
            try:
                with translate_errors(self.folder):
                    copy_registry(home, registry)
                with Registry.open(self._incoming, url=f"sqlite:///{registry}") as copy:
                    audit = copy.audit_head()
                files, left_out = list_files(home, secrets=self._sealer is not None)
                kept: list[KeptFile] = []
                new_bytes = 0
                for file in [HomeFile(REGISTRY, registry, ""), *files]:
                    added = self._keep(file, known)
                    if added is None:
                        left_out.append(f"`{file.path}` went away while the backup was made")
                        continue
                    kept.append(added[0])
                    new_bytes += added[1]
            finally:
                for path in self._incoming.glob(f"{registry.name}*"):
                    remove_quietly(path)
            name = f"{moment.strftime('%Y%m%dT%H%M%S%fZ')}-{secrets.token_hex(4)}"
            sealed = "" if self._sealer is None else self._sealer.key_id
            snapshot = Snapshot(
                name,
                moment.isoformat(),
                __version__,
                sealed,
                audit,
                tuple(kept),
                tuple(left_out),
            )
            with translate_errors(self.folder):
                fsync_folder(self._blobs)
                self._write(self._snapshots / f"{name}.json", snapshot.to_json())
                fsync_folder(self._snapshots)
            return Taken(snapshot, new_bytes)

    def prune(self, keep: int) -> list[str]:
        """Removes all but the newest `keep` snapshots; the one that was verified last always stays.

        Returns:
            The ids of those that went.
        """
        with self._alone():
            proved = self.newest_verified()
            ids = self.ids()
            stay = {*ids[len(ids) - min(keep, len(ids)) :], *([proved.id] if proved else [])}
            gone = [name for name in ids if name not in stay]
            for name in gone:
                remove_quietly(self._snapshots / f"{name}.json")
                remove_quietly(self._verified / f"{name}.json")
            if gone:
                self._sweep(*self._read_all())
            return gone

    # Putting back

    def restore(self, snapshot: Snapshot, into: Path) -> None:
        """Makes `into` a home folder as it was; every byte is proved, and it appears whole or not at all.

        Raises:
            StateError: `backup.not-empty`: something is there.
            TrustError: `backup.damaged`, naming the file.
            ResourceError: `store.disk-full`, `store.not-writable`.
        """
        into = into.absolute()
        if not is_empty(into):
            raise StateError("backup.not-empty", f"`{into}` is there and is not empty")
        scratch = into.with_name(f".{into.name}.{secrets.token_hex(8)}")
        try:
            with translate_errors(into):
                make_private_folder(scratch)
                for file in snapshot.files:
                    self._put_back(file, scratch / file.path, sealed=bool(snapshot.sealed))
                with contextlib.suppress(FileNotFoundError):
                    into.rmdir()
                scratch.rename(into)
                fsync_folder(into.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def note_verified(self, snapshot: str, found: Mapping[str, Any]) -> Verified:
        """Writes down that a snapshot was restored and proved just now."""
        proof = Verified(snapshot, self._clock().astimezone(UTC).isoformat(), dict(found))
        document = {"format": 1, "id": proof.id, "time": proof.time, "found": dict(found)}
        with translate_errors(self.folder):
            for folder in (self._verified, self._incoming):
                make_private_folder(folder)
            content = json.dumps(document, indent=1).encode()
            write_whole(self._verified / f"{snapshot}.json", [content], self._incoming, mode=0o600)
        return proof

    # Inside

    def _keep(
        self, file: HomeFile, known: Mapping[tuple[str, int], KeptFile]
    ) -> tuple[KeptFile, int] | None:
        """Keeps one file; gives it with the bytes that were new, or None where it is gone."""
        try:
            facts = file.place.stat()
            mode, size = facts.st_mode & 0o777, facts.st_size
            before = known.get((file.known, size)) if file.known else None
            if before is None:
                digest, size = _digest(file.place)
                if file.known and digest != file.known:
                    raise TrustError(
                        "package.digest-mismatch",
                        f"blob `sha256:{file.known}` of the store holds bytes whose digest is "
                        f"`sha256:{digest}`: a backup of it would be worth nothing",
                    )
                before = known.get((digest, size))
            if before is not None:
                return KeptFile(file.path, mode, size, before.sha256, before.blob), 0
            with file.place.open("rb") as source, translate_errors(self.folder):
                found = self._write_blob(source)
        except FileNotFoundError:
            return None
        digest, size, blob, kept_bytes = found
        return KeptFile(file.path, mode, size, digest, blob), kept_bytes

    def _write_blob(self, source: IO[bytes]) -> tuple[str, int, str, int]:
        """Digest and size of what was read, the blob's name, and its bytes (0 for one that was there)."""
        temporary = self._incoming / secrets.token_hex(16)
        try:
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400
            )
            with os.fdopen(descriptor, "wb") as file:
                sink = _Hashing(file)
                with self._seal(sink) as writer:
                    digest, size = _copy(source, writer)
                file.flush()
                os.fsync(file.fileno())
            blob = sink.digest.hexdigest()
            target = self._blobs / blob
            fresh = not target.exists()
            temporary.replace(target)
            return digest, size, blob, sink.size if fresh else 0
        except BaseException:
            remove_quietly(temporary)
            raise

    def _put_back(self, file: KeptFile, target: Path, *, sealed: bool) -> None:
        where = f"`{file.path}` in `{self.folder}`"
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            source = (self._blobs / file.blob).open("rb")
        except FileNotFoundError:
            raise TrustError("backup.damaged", f"{where}: its bytes are not there") from None
        with source, target.open("xb") as sink:
            plain = self._open(source, where) if sealed else source
            digest, size = _copy(plain, sink)
            sink.flush()
            os.fsync(sink.fileno())
        if digest != file.sha256:
            raise TrustError(
                "backup.damaged",
                f"{where} holds {size:,} bytes whose digest is `sha256:{digest}` instead of "
                f"{file.size:,} with `sha256:{file.sha256}`",
            )
        target.chmod(file.mode)

    def _read_all(self) -> tuple[list[Snapshot], DukouError | None]:
        """Those that can be read, and why the first of the others cannot: damaged, or of another key."""
        found: list[Snapshot] = []
        problem: DukouError | None = None
        for name in self.ids():
            try:
                found.append(self.read(name))
            except DukouError as error:
                problem = problem or error
        return found, problem

    def _known_blobs(self, snapshots: Iterable[Snapshot]) -> dict[tuple[str, int], KeptFile]:
        """What earlier snapshots kept and this one need not: (sha256, size) → it."""
        known: dict[tuple[str, int], KeptFile] = {}
        present = {path.name for path in self._blobs.iterdir()}
        for snapshot in snapshots:
            if bool(snapshot.sealed) == (self._sealer is not None):
                known |= {(f.sha256, f.size): f for f in snapshot.files if f.blob in present}
        return {what: file for what, file in known.items() if self._is_current(file.blob)}

    def _is_current(self, blob: str) -> bool:
        """Whether bytes that are there are kept as new ones would be: what another key sealed is not."""
        if self._sealer is None:
            return True
        with (self._blobs / blob).open("rb") as file:
            return self._sealer.is_current(file.read(16))

    def _sweep(self, snapshots: Iterable[Snapshot], problem: DukouError | None) -> None:
        """Takes away what no snapshot names. Where one cannot be read nobody knows, and all stays."""
        for path in self._incoming.iterdir():
            remove_quietly(path)
        if problem is not None:
            return
        needed = {file.blob for snapshot in snapshots for file in snapshot.files}
        for path in self._blobs.iterdir():
            if path.name not in needed:
                remove_quietly(path)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with translate_errors(self.folder):
            for folder in (self.folder, self._snapshots, self._blobs, self._incoming):
                make_private_folder(folder)
            held = hold_lock(self.folder / ".lock", shared=False, wait=False)
            alone = held.__enter__()
        try:
            if not alone:
                raise StateError("backup.busy", f"another process is at work in `{self.folder}`")
            yield
        finally:
            held.__exit__(None, None, None)

    def _keep_apart(self, home: Path) -> None:
        ours, theirs = self.folder.resolve(), home.resolve()
        if ours == theirs or ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
            raise InputError(
                "usage.invalid",
                f"the backups' folder `{ours}` and the home folder `{theirs}` lie in each other",
                hint="name a folder elsewhere, best on another disk",
            )

    def _seal(self, sink: Any) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext(sink) if self._sealer is None else self._sealer.seal(sink)

    def _open(self, source: IO[bytes], where: str) -> io.RawIOBase:
        if self._sealer is None:
            raise TrustError("backup.sealed", f"{where} is sealed, and no encryption key is here")
        return self._sealer.open(source, where)

    def _write(self, path: Path, content: bytes) -> None:
        kept = io.BytesIO()
        with self._seal(kept) as writer:
            writer.write(content)
        write_whole(path, [kept.getvalue()], self._incoming, mode=0o400)

    def _read_proof(self, path: Path) -> Verified | None:
        try:
            said = json.loads(path.read_bytes())
            return Verified(parse_snapshot_id(said["id"]), str(said["time"]), dict(said["found"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


class _Hashing:
    """Passes bytes on, and knows their digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, content: Any) -> int:
        """Takes all of it."""
        self.digest.update(content)
        self.size += len(content)
        return self._file.write(content)


def _copy(source: IO[bytes] | io.RawIOBase, sink: Any) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while piece := source.read(_PIECE):
        digest.update(piece)
        size += len(piece)
        sink.write(piece)
    return digest.hexdigest(), size


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
