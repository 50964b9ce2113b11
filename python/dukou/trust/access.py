"""API keys: who may ask a server that other machines reach, and for what. `HOME/access/keys.json`.

A key is `dk_<id>_<secret>`. The document has the id and the SHA-256 of the secret, never the secret:
it is shown once, when the key is made. Changes are made under a lock and appear by rename. Standard
library only: `dukou serve` reads it and lives as long as the server.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dukou.base.errors import InputError, ResourceError, StateError
from dukou.base.ids import parse_model_name
from dukou.base.settings import make_private_folder

ROLES = ("predict", "manage", "read-metrics")
EVERY_MODEL = "*"


class Grant(NamedTuple):
    """A role with the models that it is for; `*` is every model."""

    role: str
    models: tuple[str, ...]


class Rate(NamedTuple):
    """So many requests in so many seconds; `burst` of them may come at once after a silence."""

    requests: int
    seconds: int
    burst: int


class AccessKey(NamedTuple):
    """One key, without its secret.

    Attributes:
        id: 12 hex digits.
        name: whose it is; several keys may have one name while a new one takes over.
        secret_sha256: of the secret's text, hex.
        grants: what it may do.
        rate: how often it may ask; None: as often as there is room.
        created: seconds since 1970.
        expires: the second from which it is good no more; None: never.
    """

    id: str
    name: str
    secret_sha256: str
    grants: tuple[Grant, ...]
    rate: Rate | None
    created: int
    expires: int | None

    def to_json(self) -> dict[str, Any]:
        """As it stands in `keys.json`."""
        return {
            **self._asdict(),
            "grants": [{"role": g.role, "models": list(g.models)} for g in self.grants],
            "rate": None if self.rate is None else self.rate._asdict(),
        }


class NewKey(NamedTuple):
    """A key that was just made; `text` is the whole of it and is nowhere else."""

    key: AccessKey
    text: str


class KeyStore:
    """The keys of one installation.

    Args:
        home: DUKOU_HOME.
        clock: seconds since 1970.
    """

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = home / "access"
        self.path = self.folder / "keys.json"
        self._clock = clock

    def exists(self) -> bool:
        """Whether a key was ever made here; an installation that revoked its last one has none left."""
        return self.path.exists()

    def stamp(self) -> object:
        """Compares equal for as long as the document is the same. Cheap."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def read(self) -> tuple[AccessKey, ...]:
        """Every key, the oldest first; expired ones too.

        Raises:
            StateError: `access.unreadable-keys`: somebody else wrote into the document.
        """
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unreadable(str(error.strerror)) from error
        try:
            document = json.loads(text)
            if document["format"] != 1:
                raise self._unreadable(f"its format is {document['format']!r}, not 1")
            return tuple(_read_key(key) for key in document["keys"])
        except (ValueError, LookupError, TypeError) as error:
            raise self._unreadable(f"{type(error).__name__}: {error}") from error

    def add(
        self,
        name: str,
        grants: Sequence[Grant],
        *,
        rate: Rate | None = None,
        expires: int | None = None,
    ) -> NewKey:
        """Makes a key.

        Raises:
            InputError: `usage.invalid`: no such role, no model's name, or there is a key of this name.
        """
        _check_grants(grants)
        parse_model_name(name)
        with self._changing() as keys:
            if any(key.name == name for key in keys):
                raise InputError(
                    "usage.invalid",
                    f"there is a key called `{name}` already",
                    hint=f"`dukou keys rotate {name}` makes another one for it",
                )
            return self._make(keys, name, tuple(grants), rate, expires)

    def rotate(self, name: str, *, overlap_s: float = 0.0) -> NewKey:
        """Makes another key with the same name and grants. The old ones end: at once, or later.

        Raises:
            InputError: `access.unknown-key`.
        """
        with self._changing() as keys:
            old = self._find(keys, name)
            newest = old[-1]
            lasting = None
            if newest.expires is not None:
                # As long as the old one was made for, from now on.
                lasting = self._now() + max(1, newest.expires - newest.created)
            end = self._now() + round(overlap_s)
            for key in old:
                keys.remove(key)
                if overlap_s > 0:
                    ends = end if key.expires is None else min(end, key.expires)
                    keys.append(key._replace(expires=ends))
            return self._make(keys, newest.name, newest.grants, newest.rate, lasting)

    def revoke(self, name: str) -> list[AccessKey]:
        """Ends every key of this name, or the one with this id; they are good no more.

        Raises:
            InputError: `access.unknown-key`.
        """
        with self._changing() as keys:
            gone = self._find(keys, name)
            for key in gone:
                keys.remove(key)
            return gone

    def _find(self, keys: Sequence[AccessKey], name: str) -> list[AccessKey]:
        found = [key for key in keys if name in (key.name, key.id)]
        if not found:
            names = ", ".join(f"`{n}`" for n in dict.fromkeys(key.name for key in keys))
            raise InputError(
                "access.unknown-key",
                f"no key is called `{name}`; there {f'are {names}' if names else 'is none'}",
            )
        return found

    def _make(
        self,
        keys: list[AccessKey],
        name: str,
        grants: tuple[Grant, ...],
        rate: Rate | None,
        expires: int | None,
    ) -> NewKey:
        key_id = os.urandom(6).hex()
        secret = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        digest = hashlib.sha256(secret.encode()).hexdigest()
        key = AccessKey(key_id, name, digest, grants, rate, self._now(), expires)
        keys.append(key)
        return NewKey(key, f"dk_{key_id}_{secret}")

    def _now(self) -> int:
        return int(self._clock())

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[AccessKey]]:
        """The keys, to be changed; written when the block ends well."""
        make_private_folder(self.folder)
        try:
            lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._not_writable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = list(self.read())
            yield keys
            self._write(keys)
        finally:
            os.close(lock)

    def _write(self, keys: Sequence[AccessKey]) -> None:
        text = json.dumps({"format": 1, "keys": [key.to_json() for key in keys]}, indent=1) + "\n"
        incoming = self.folder / f".keys.{os.getpid()}.new"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(incoming, flags, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            incoming.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                incoming.unlink()
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> ResourceError:
        return ResourceError(
            "store.not-writable", f"keys cannot be kept in `{self.folder}`: {error.strerror}"
        )

    def _unreadable(self, why: str) -> StateError:
        return StateError("access.unreadable-keys", f"`{self.path}` cannot be read: {why}")


def _read_key(document: dict[str, Any]) -> AccessKey:
    rate = document["rate"]
    return AccessKey(
        id=str(document["id"]),
        name=str(document["name"]),
        secret_sha256=str(document["secret_sha256"]),
        grants=tuple(Grant(str(g["role"]), tuple(g["models"])) for g in document["grants"]),
        rate=None if rate is None else Rate(**rate),
        created=int(document["created"]),
        expires=None if document["expires"] is None else int(document["expires"]),
    )


def _check_grants(grants: Sequence[Grant]) -> None:
    for grant in grants:
        if grant.role not in ROLES:
            raise InputError(
                "usage.invalid", f"`{grant.role}` is not a role; roles are {', '.join(ROLES)}"
            )
        if grant.role == "read-metrics" and EVERY_MODEL not in grant.models:
            raise InputError(
                "usage.invalid",
                "metrics are of the whole server: `read-metrics` cannot be granted for one model",
                hint="leave `--model` away, or make a key of its own for it",
            )
        for model in grant.models:
            if model != EVERY_MODEL:
                parse_model_name(model)
