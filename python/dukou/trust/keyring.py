"""The key-encryption keys: where they come from, what they wrap. They touch no data themselves.

A source gives one key a line, 32 bytes in base64, `#` for remarks: the first one wraps, every one
unwraps. So a rotation puts a new line above the old, wraps everything anew, and takes the old line
away. A source is a file (0600), `env:VARIABLE` or `command:WORDS`, and is read again when it is
asked for: processes that live long follow a rotation.

A key's id is the first 16 hex digits of sha256 over a fixed text and the key: it may be shown.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dukou.base.errors import InputError, RemoteError, ResourceError, StateError, TrustError
from dukou.base.settings import encryption_key_source, make_private_folder, resolve_setting

KEY_BYTES = 32
WRAP_NONCE_BYTES = 12
WRAPPED_BYTES = WRAP_NONCE_BYTES + KEY_BYTES + 16
# For how long a command's answer is believed, and how long it may take.
_COMMAND_KEPT_S = 60.0
_COMMAND_TIMEOUT_S = 30.0
_NEW_KEY_HINT = "`dukou encryption new` makes one"


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """A key that wraps other keys. It cannot be printed.

    Attributes:
        id: 16 hex digits.
    """

    id: str
    _key: bytes = field(repr=False)

    @classmethod
    def of(cls, key: bytes) -> EncryptionKey:
        """The key of these 32 bytes."""
        return cls(hashlib.sha256(b"dukou encryption key\0" + key).hexdigest()[:16], key)

    @classmethod
    def generate(cls) -> EncryptionKey:
        """A new one, from the system's generator."""
        return cls.of(secrets.token_bytes(KEY_BYTES))

    def text(self) -> str:
        """As it stands in a key file. Secret."""
        return base64.b64encode(self._key).decode()

    def wrap(self, key: bytes, about: bytes) -> bytes:
        """Wraps a 32-byte key: a random nonce and AES-256-GCM, 60 bytes.

        Args:
            key: what is wrapped.
            about: what must be the same when it is unwrapped.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(WRAP_NONCE_BYTES)
        return nonce + AESGCM(self._key).encrypt(nonce, key, about)

    def unwrap(self, wrapped: bytes, about: bytes, what: str) -> bytes:
        """The key that was wrapped.

        Raises:
            TrustError: `trust.bad-ciphertext`: it was changed, or wrapped about something else.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, rest = wrapped[:WRAP_NONCE_BYTES], wrapped[WRAP_NONCE_BYTES:]
        try:
            if len(wrapped) != WRAPPED_BYTES:
                raise InvalidTag
            return AESGCM(self._key).decrypt(nonce, rest, about)
        except InvalidTag:
            raise TrustError(
                "trust.bad-ciphertext",
                f"the wrapped key of {what} is not one that encryption key `{self.id}` made for it",
            ) from None


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of one source, the wrapping one first.

    Attributes:
        source: where they come from, for messages.
        keys: one at least.
    """

    source: str
    keys: tuple[EncryptionKey, ...]

    @classmethod
    def of(cls, *keys: EncryptionKey, source: str = "given keys") -> Keyring:
        """A keyring of these keys, the first of which wraps."""
        return cls(source, keys)

    @property
    def current(self) -> EncryptionKey:
        """The key that wraps."""
        return self.keys[0]

    def find(self, key_id: str, what: str) -> EncryptionKey:
        """The key of this id.

        Raises:
            TrustError: `trust.wrong-encryption-key`, with both ids.
        """
        for key in self.keys:
            if key.id == key_id:
                return key
        here = ", ".join(f"`{key.id}`" for key in self.keys)
        raise TrustError(
            "trust.wrong-encryption-key",
            f"{what} is encrypted under key `{key_id}`, and {self.source} holds {here}",
        )


def find_key(keyring: Keyring | None, key_id: str, what: str) -> EncryptionKey:
    """The key of this id, where there may be no key at all.

    Raises:
        TrustError: `trust.no-encryption-key`, `trust.wrong-encryption-key`.
    """
    if keyring is None:
        raise TrustError(
            "trust.no-encryption-key",
            f"{what} is encrypted under key `{key_id}`, and no encryption key is configured here",
        )
    return keyring.find(key_id, what)


def key_path(home: Path) -> Path:
    """Where the installation's own key lies, or would lie."""
    return home / "keys" / "encryption.key"


def _note_path(home: Path) -> Path:
    # Public, like `signing.pub`: it says that there was a key, so that one that is gone is missed.
    return home / "keys" / "encryption.id"


# source → (when it was read or the file's stamp, what it held)
_READ: dict[str, tuple[object, Keyring]] = {}


def load_keyring(home: Path) -> Keyring | None:
    """The configured keys; None where none is configured and none ever was.

    Raises:
        TrustError: `trust.no-encryption-key` (named or used before, and not there),
            `trust.key-readable` (a file that others may read).
        InputError: `trust.invalid-encryption-key`.
        RemoteError: `trust.key-command-failed`.
    """
    source = encryption_key_source(home)
    if source is None:
        note = _note_path(home)
        if note.exists():
            raise TrustError(
                "trust.no-encryption-key",
                f"`{note}` says that what is kept here is encrypted under key "
                f"`{note.read_text(encoding='ascii').strip()}`, and neither `{key_path(home)}` nor "
                "`DUKOU_ENCRYPTION_KEY` is there",
            )
        return None
    return read_source(source)


def retired_path(home: Path, key_id: str) -> Path:
    """Where a rotation leaves a key that backups from before it still need."""
    return key_path(home).with_name(f"encryption-{key_id}.key")


def load_every_key(home: Path) -> Keyring | None:
    """The configured keys and behind them the retired ones that lie here. Raises as `load_keyring`."""
    keyring = load_keyring(home)
    if keyring is None:
        return None
    retired = [
        read_source(str(path)) for path in sorted(key_path(home).parent.glob("encryption-*.key"))
    ]
    return Keyring(keyring.source, (*keyring.keys, *(key for ring in retired for key in ring.keys)))


def require_keyring(home: Path) -> Keyring:
    """The configured keys. Raises as `load_keyring`, and where none is configured."""
    keyring = load_keyring(home)
    if keyring is None:
        raise TrustError(
            "trust.no-encryption-key", "no encryption key is configured here", hint=_NEW_KEY_HINT
        )
    return keyring


def read_source(source: str) -> Keyring:
    """The keys of a source: a path, `env:VARIABLE` or `command:WORDS`. Raises as `load_keyring`."""
    kind, colon, rest = source.partition(":")
    if colon and kind == "env":
        text = os.environ.get(rest, "")
        if not text:
            raise TrustError(
                "trust.no-encryption-key", f"the variable `{rest}` is empty or not set"
            )
        return parse_keys(text, f"the variable `{rest}`")
    if colon and kind == "command":
        return _ask_command(rest)
    return _read_file(Path(source))


def parse_keys(text: str, where: str) -> Keyring:
    """Reads keys, one a line.

    Raises:
        InputError: `trust.invalid-encryption-key`, with the line, never with what it holds.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        try:
            key = base64.b64decode(said, validate=True)
        except (binascii.Error, ValueError):
            raise InputError(
                "trust.invalid-encryption-key", f"line {number} of {where} is not base64"
            ) from None
        if len(key) != KEY_BYTES:
            raise InputError(
                "trust.invalid-encryption-key",
                f"line {number} of {where} is a key of {len(key)} bytes, must be {KEY_BYTES}",
            )
        keys.append(EncryptionKey.of(key))
    if not keys:
        raise InputError("trust.invalid-encryption-key", f"{where} holds no key")
    return Keyring(where, tuple(keys))


def _read_file(path: Path) -> Keyring:
    path = path.expanduser()
    try:
        status = path.stat()
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
        kept = _READ.get(str(path))
        if kept is not None and kept[0] == stamp:
            return kept[1]
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise TrustError(
                "trust.key-readable",
                f"the encryption key `{path}` has mode {stat.S_IMODE(status.st_mode):04o}: others "
                "than its owner may use it",
                hint=f"`chmod 600 {path}`",
            )
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise TrustError(
            "trust.no-encryption-key",
            f"the encryption key `{path}` cannot be read: {error.strerror}",
        ) from error
    keyring = parse_keys(text, f"`{path}`")
    _READ[str(path)] = (stamp, keyring)
    return keyring


def _ask_command(words: str) -> Keyring:
    kept = _READ.get("command:" + words)
    if kept is not None:
        read_at, keyring = kept
        if isinstance(read_at, float) and time.monotonic() - read_at < _COMMAND_KEPT_S:
            return keyring
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RemoteError(
            "trust.key-command-failed",
            f"the command for the encryption key did not end within {_COMMAND_TIMEOUT_S:g} s",
        ) from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise RemoteError(
            "trust.key-command-failed",
            f"the command for the encryption key ended with status {done.returncode}"
            + (f": {said[-1][:200]}" if said else ""),
        )
    text = done.stdout.decode("utf-8", "replace")
    keyring = parse_keys(text, "the answer of the command for the encryption key")
    _READ["command:" + words] = (time.monotonic(), keyring)
    return keyring


def create_key(home: Path, path: Path | None = None) -> tuple[EncryptionKey, Path]:
    """Makes the first key, in a file that its owner alone may read.

    Args:
        home: DUKOU_HOME.
        path: where to; what `DUKOU_ENCRYPTION_KEY` names, or the home's own place, where None.

    Raises:
        StateError: `trust.key-exists`: there is one; it is never overwritten.
        ResourceError: `store.not-writable`.
    """
    if path is None:
        path = own_file(home)
    key = EncryptionKey.generate()
    make_private_folder(home)
    make_private_folder(path.parent)
    write_key_file(path, Keyring.of(key), replace=False)
    note_key(home, key)
    return key, path


def own_file(home: Path) -> Path:
    """The key's file.

    Raises:
        StateError: `trust.key-elsewhere`: the source is a variable or a command.
    """
    named = resolve_setting("encryption_key").value
    if named is None:
        return key_path(home)
    if named.startswith(("env:", "command:")):
        raise StateError(
            "trust.key-elsewhere",
            f"the encryption key comes from `{named.partition(':')[0]}:…`, which dukou cannot write",
        )
    return Path(named).expanduser()


def note_key(home: Path, key: EncryptionKey) -> None:
    """Notes which key seals here, so that a key that is gone is missed and nothing is written in clear."""
    note = _note_path(home)
    make_private_folder(note.parent)
    fresh = note.with_suffix(".id.new")
    fresh.write_text(key.id + "\n", encoding="ascii")
    fresh.replace(note)


def write_key_file(path: Path, keyring: Keyring, *, replace: bool) -> None:
    """Makes the file appear whole with mode 0600, the wrapping key first.

    Raises:
        StateError: `trust.key-exists`, without `replace`.
        ResourceError: `store.not-writable`.
    """
    lines = [f"{key.text()}  # {key.id}" for key in keyring.keys]
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        with _removed(fresh):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(fresh, flags, 0o600), "w", encoding="ascii") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                os.fsync(file.fileno())
            if replace:
                fresh.replace(path)
            else:
                os.link(fresh, path)
    except FileExistsError:
        raise StateError("trust.key-exists", f"`{path}` is there already") from None
    except OSError as error:
        raise ResourceError(
            "store.not-writable", f"the key file `{path}` cannot be written: {error.strerror}"
        ) from error


@contextlib.contextmanager
def _removed(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
