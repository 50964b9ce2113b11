"""The installation's privacy key: what keyed hashes and pseudonyms stand on.

`HOME/keys/privacy.key` (0600) holds a key a line, the last one in use. A hash cannot be undone without
the key, and not compared with one of another installation. After a rotation new values hash to others
than before, and the old keys stay, so that a person is still found under older pseudonyms.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from dukou.base.errors import ResourceError, TrustError
from dukou.base.settings import make_private_folder
from dukou.trust.keys import _publish
from dukou.trust.privacy.tags import keyed_hash

_BYTES = 32


@dataclass(frozen=True, slots=True)
class PrivacyKey:
    """The keys of an installation. They cannot be printed.

    Attributes:
        current: for what is hashed now.
        all: the current one first, then older ones.
    """

    current: bytes = field(repr=False)
    all: tuple[bytes, ...] = field(repr=False)

    def pseudonym(self, subject: str) -> str:
        """What a person is called on disk."""
        return keyed_hash(self.current, f"subject\0{subject}")

    def pseudonyms(self, subject: str) -> list[str]:
        """Under every key, the current one first."""
        return [keyed_hash(key, f"subject\0{subject}") for key in self.all]

    def client_id(self, said: str) -> str:
        """What a caller's own id of a request is called on disk."""
        return keyed_hash(self.current, f"client\0{said}")

    def client_ids(self, said: str) -> list[str]:
        """Under every key, the current one first."""
        return [keyed_hash(key, f"client\0{said}") for key in self.all]


def load_or_create_privacy_key(home: Path) -> PrivacyKey:
    """The installation's, made on first use.

    Raises:
        TrustError: `trust.missing-key`: the file cannot be read or holds something else.
        ResourceError: `store.not-writable`.
    """
    path = _path(home)
    if not path.exists():
        make_private_folder(home)
        make_private_folder(path.parent)
        _publish(secrets.token_hex(_BYTES) + "\n", path, 0o600)
    return _load(path)


def rotate_privacy_key(home: Path) -> PrivacyKey:
    """Puts a new key in use; the older ones stay.

    Raises:
        TrustError, ResourceError: as `load_or_create_privacy_key`.
    """
    old, path = load_or_create_privacy_key(home), _path(home)
    lines = [key.hex() for key in reversed(old.all)] + [secrets.token_hex(_BYTES)]
    incoming = path.with_name(f".privacy-{os.getpid()}.new")
    try:
        descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        incoming.replace(path)
    except OSError as error:
        incoming.unlink(missing_ok=True)
        raise ResourceError(
            "store.not-writable", f"the key file `{path}` cannot be written: {error.strerror}"
        ) from error
    return _load(path)


def _path(home: Path) -> Path:
    return home / "keys" / "privacy.key"


def _load(path: Path) -> PrivacyKey:
    try:
        keys = [bytes.fromhex(line) for line in path.read_text(encoding="ascii").split()]
    except OSError as error:
        raise TrustError(
            "trust.missing-key", f"the privacy key `{path}` cannot be read: {error.strerror}"
        ) from error
    except ValueError:
        keys = []
    if not keys or any(len(key) != _BYTES for key in keys):
        raise TrustError(
            "trust.missing-key", f"`{path}` must hold lines of {2 * _BYTES} hexadecimal digits"
        )
    keys.reverse()
    return PrivacyKey(keys[0], tuple(keys))
