"""A key for each person: what is kept of them is sealed with it, and gone when it is.

`HOME/keys/subjects.db` (0600) holds the keys by pseudonym; no name stands there. It belongs into no
backup: whoever restores one has the sealed rows without the keys, and reads the rows of no person;
that is why erasing here erases there too. Erasing overwrites the key where it stood. Where an
encryption key is configured the keys are wrapped with it (`dukou.trust.keyring`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dukou.base.errors import ResourceError, TrustError
from dukou.base.settings import make_private_folder
from dukou.trust.keyring import KEY_BYTES, Keyring, find_key, load_keyring

_NONCE = 12
_MARK = 4
# Characters of an encryption key's id.
_ID = 16
_FORM = b"\x01"
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """A person's key. It cannot be printed.

    Attributes:
        pseudonym: whose.
        erased: when an earlier key was destroyed, ISO 8601 in UTC; empty where none was.
    """

    pseudonym: str
    erased: str
    _head: bytes = field(repr=False, compare=False)
    _cipher: AESGCM = field(repr=False, compare=False)

    @classmethod
    def of(cls, pseudonym: str, key: bytes, erased: str = "") -> SubjectKey:
        """The person's key of these 32 bytes."""
        # Which of a person's keys sealed something: the one before an erasure is no more.
        mark = hashlib.sha256(b"dukou subject key\0" + key).digest()[:_MARK]
        return cls(pseudonym, erased, _FORM + mark, AESGCM(key))

    def seal(self, content: bytes, place: str) -> bytes:
        """The content, unreadable without the key; `place` is what it must be opened for."""
        nonce = os.urandom(_NONCE)
        return self._head + nonce + self._cipher.encrypt(nonce, content, place.encode())

    def has_sealed(self, sealed: bytes) -> bool:
        """Whether it was this key, and not one that was destroyed before."""
        return sealed.startswith(self._head)

    def open(self, sealed: bytes, place: str) -> bytes:
        """The inverse of `seal`.

        Raises:
            TrustError: `privacy.damaged`: it was changed, or sealed for another place.
        """
        start = len(self._head)
        end = start + _NONCE
        try:
            return self._cipher.decrypt(sealed[start:end], sealed[end:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise TrustError(
                "privacy.damaged", f"a sealed row of {place.split(chr(0))[0]} does not open"
            ) from error


class SubjectKeys:
    """The keys of an installation's persons.

    Args:
        home: DUKOU_HOME.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / "keys" / "subjects.db"

    def make(self, pseudonyms: Iterable[str]) -> dict[str, SubjectKey]:
        """The keys of these persons; made for whom there is none yet."""
        wanted = list(dict.fromkeys(pseudonyms))
        if not wanted:
            return {}
        keyring = load_keyring(self._home)
        rows = [
            (name, _wrapped(AESGCM.generate_key(256), name, keyring), _now()) for name in wanted
        ]
        with self._opened() as database:
            # Somebody who was erased and comes again gets a new key.
            database.executemany(
                "INSERT INTO subjects (pseudonym, key, created) VALUES (?, ?, ?) ON CONFLICT "
                "(pseudonym) DO UPDATE SET key = excluded.key, created = excluded.created "
                "WHERE key IS NULL",
                rows,
            )
        return self.get(wanted)

    def get(self, pseudonyms: Iterable[str]) -> dict[str, SubjectKey]:
        """The keys of those of these persons who have one."""
        wanted = list(dict.fromkeys(pseudonyms))
        if not wanted or not self._path.exists():
            return {}
        found = {}
        keyring = load_keyring(self._home)
        with self._opened() as database:
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                marks = ", ".join("?" * len(part))
                rows = database.execute(
                    "SELECT pseudonym, key, erased FROM subjects WHERE key IS NOT NULL AND "
                    f"pseudonym IN ({marks})",
                    part,
                )
                for pseudonym, kept, erased in rows:
                    key = _unwrapped(kept, pseudonym, keyring)
                    found[pseudonym] = SubjectKey.of(pseudonym, key, erased or "")
        return found

    def erased(self, pseudonyms: Iterable[str]) -> str:
        """When the last key of these was destroyed; empty where none was."""
        if not self._path.exists():
            return ""
        times = [""]
        with self._opened() as database:
            for pseudonym in pseudonyms:
                row = database.execute(
                    "SELECT erased FROM subjects WHERE pseudonym = ?", [pseudonym]
                ).fetchone()
                times.append((row and row[0]) or "")
        return max(times)

    def destroy(self, pseudonyms: Iterable[str]) -> int:
        """Destroys keys; gives how many there were. What they sealed is unreadable from now on."""
        if not self._path.exists():
            return 0
        with self._opened() as database:
            return sum(
                database.execute(
                    "UPDATE subjects SET key = NULL, erased = ? WHERE pseudonym = ? "
                    "AND key IS NOT NULL",
                    [_now(), pseudonym],
                ).rowcount
                for pseudonym in pseudonyms
            )

    def under(self) -> Counter[str]:
        """Encryption key's id → how many keys it wraps; those that nothing wraps under the empty one."""
        if not self._path.exists():
            return Counter()
        with self._opened() as database:
            rows = database.execute("SELECT key FROM subjects WHERE key IS NOT NULL")
            return Counter(_wrapper(kept) for (kept,) in rows)

    def protect(self, keyring: Keyring) -> int:
        """Wraps with the current key what it does not wrap; returns how many changed.

        Raises:
            DukouError: `trust.*`, where a key that wraps one cannot be had.
        """
        if not self._path.exists():
            return 0
        with self._opened() as database:
            rows = database.execute("SELECT pseudonym, key FROM subjects WHERE key IS NOT NULL")
            turned = [
                (_wrapped(_unwrapped(kept, name, keyring), name, keyring), name)
                for name, kept in rows.fetchall()
                if _wrapper(kept) != keyring.current.id
            ]
            database.executemany("UPDATE subjects SET key = ? WHERE pseudonym = ?", turned)
        return len(turned)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            make_private_folder(self._path.parent)
            # Before SQLite makes it, and with it its journal: both get the file's mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with contextlib.closing(sqlite3.connect(self._path, timeout=30)) as database:
                # What is removed is overwritten, and no second file keeps it.
                database.execute("PRAGMA secure_delete = ON")
                database.execute("PRAGMA synchronous = FULL")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS subjects (pseudonym TEXT PRIMARY KEY, key BLOB, "
                    "created TEXT NOT NULL, erased TEXT)"
                )
                with database:
                    yield database
        except (OSError, sqlite3.Error) as error:
            raise ResourceError(
                "store.not-writable", f"the keys of persons `{self._path}` cannot be used: {error}"
            ) from error


def _wrapped(key: bytes, pseudonym: str, keyring: Keyring | None) -> bytes:
    if keyring is None:
        return key
    return keyring.current.id.encode() + keyring.current.wrap(key, _about(pseudonym))


def _unwrapped(kept: bytes, pseudonym: str, keyring: Keyring | None) -> bytes:
    wrapper = _wrapper(kept)
    if not wrapper:
        return kept
    what = f"the key of person `{pseudonym}`"
    return find_key(keyring, wrapper, what).unwrap(kept[_ID:], _about(pseudonym), what)


def _wrapper(kept: bytes) -> str:
    """The id of the encryption key that wraps this; empty where none does."""
    return "" if len(kept) == KEY_BYTES else kept[:_ID].decode("ascii", "replace")


def _about(pseudonym: str) -> bytes:
    return f"key of person {pseudonym}".encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
