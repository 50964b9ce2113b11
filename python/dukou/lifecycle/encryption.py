"""What is kept here, what of it is sealed, and under which key; sealing the rest; another key.

Knows every place under `DUKOU_HOME` that holds weights or rows. A place is a function from the home
to what lies there; `PLACES` lists them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import StateError
from dukou.base.settings import resolve_setting
from dukou.registry.backup.folder import Backups
from dukou.serve.backup_age import read_backup_facts
from dukou.trust.keyring import (
    EncryptionKey,
    Keyring,
    load_keyring,
    note_key,
    own_file,
    require_keyring,
    write_key_file,
)
from dukou.trust.sealed import rewrap_file, sealed_under

if TYPE_CHECKING:
    from dukou.monitor.store import CaptureStore

# Rounds of a rotation: what somebody wrote under the old key meanwhile is turned in the next.
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Holding:
    """What one place holds.

    Attributes:
        place: its name.
        under: encryption key's id → how many things it seals.
        clear: how many things lie there in clear.
        clear_bytes: and of how many bytes.
        note: what to do about those in clear; empty where there are none.
    """

    place: str
    under: Mapping[str, int] = field(default_factory=dict)
    clear: int = 0
    clear_bytes: int = 0
    note: str = ""

    @property
    def sealed(self) -> int:
        """How many things are sealed."""
        return sum(self.under.values())

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "place": self.place,
            "sealed": self.sealed,
            "under": dict(self.under),
            "clear": self.clear,
            "clear_bytes": self.clear_bytes,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Rotation:
    """A finished rotation.

    Attributes:
        key: the key that seals now.
        retired: ids of those that are needed no more.
        turned: how many things were wrapped anew.
        source: of the keys.
        taken_away: whether the old keys are gone from their source; where it is a variable or a
            command its owner takes them away.
    """

    key: EncryptionKey
    retired: tuple[str, ...]
    turned: int
    source: str
    taken_away: bool


def survey(home: Path) -> list[Holding]:
    """What lies under the home, place by place. Reads headers alone; needs no key."""
    return [look(home) for look in PLACES]


def protect(home: Path) -> int:
    """Seals what can be sealed where it lies, and wraps anew what opens by an older key.

    Returns:
        How many things changed.

    Raises:
        DukouError: `trust.*`, `store.not-writable`.
    """
    keyring = require_keyring(home)
    note_key(home, keyring.current)
    return _protect(home, keyring)


def rotate(home: Path) -> Rotation:
    """Has everything open by another key, and by no older one.

    The key of a file is replaced by a new one. A variable or a command must give two keys already, the
    new one first. An interrupted rotation leaves both keys in the file: the next one finishes it.

    Raises:
        StateError: `trust.key-elsewhere`, where a variable or a command gives one key alone;
            `trust.rotation-unfinished`, where the backups cannot be reached.
        DukouError: `trust.*`, `store.not-writable`.
    """
    keyring = require_keyring(home)
    _require_backups(home)
    named = resolve_setting("encryption_key").value or ""
    writable = not named.startswith(("env:", "command:"))
    if len(keyring.keys) == 1:
        path = own_file(home)
        write_key_file(path, Keyring.of(EncryptionKey.generate(), *keyring.keys), replace=True)
        keyring = require_keyring(home)
    turned = 0
    note_key(home, keyring.current)
    for _ in range(_ROUNDS):
        turned += _protect(home, keyring)
        old = {key for holding in survey(home) for key in holding.under} - {keyring.current.id}
        if not old:
            break
    else:
        raise StateError(
            "trust.rotation-unfinished",
            f"something is still written under the key {', '.join(sorted(old))}",
        )
    if writable:
        write_key_file(own_file(home), Keyring.of(keyring.current), replace=True)
    retired = tuple(key.id for key in keyring.keys[1:])
    return Rotation(keyring.current, retired, turned, keyring.source, taken_away=writable)


def configured(home: Path) -> Keyring | None:
    """The keys, None where encryption is off. Raises as `dukou.trust.keyring.load_keyring`."""
    return load_keyring(home)


def _protect(home: Path, keyring: Keyring) -> int:
    captures = sum(store.protect(keyring) for store in _capture_stores(home))
    return captures + sum(rewrap_file(file, keyring) for file in _backup_files(home))


def _captures(home: Path) -> Holding:
    parts = [part for store in _capture_stores(home) for part in store.parts()]
    return _files("captures and labels", parts, "`dukou encryption apply` seals them")


def _capture_stores(home: Path) -> list[CaptureStore]:
    from dukou.monitor.store import CaptureStore

    folder = home / "monitor"
    names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    return [CaptureStore(home, name) for name in names]


def _files(place: str, files: Iterable[Path], note: str) -> Holding:
    under: Counter[str] = Counter()
    clear = clear_bytes = 0
    for file in files:
        try:
            key = sealed_under(file)
            size = file.stat().st_size
        except OSError:
            continue  # taken away meanwhile
        if key is None:
            clear, clear_bytes = clear + 1, clear_bytes + size
        else:
            under[key] += 1
    return Holding(place, dict(under), clear, clear_bytes, note if clear else "")


def _backups(home: Path) -> Holding:
    note = "taken before there was a key: `dukou backup --keep N` lets them go"
    return _files("backups", _backup_files(home), note)


def _backup_files(home: Path) -> list[Path]:
    """Every file of the backups' folder that was used last; none where it cannot be reached."""
    folder = _backup_folder(home)
    return [] if folder is None else Backups(folder).all_files()


def _backup_folder(home: Path) -> Path | None:
    said = (read_backup_facts(home) or {}).get("folder")
    return Path(str(said)) if said else None


def _require_backups(home: Path) -> None:
    folder = _backup_folder(home)
    if folder is not None and not folder.is_dir():
        raise StateError(
            "trust.rotation-unfinished",
            f"the backups in `{folder}` cannot be reached, and what they hold opens by the old key",
            hint="connect the disk, or `dukou backup --to ANOTHER` to have others in their place",
        )


PLACES: tuple[Callable[[Path], Holding], ...] = (_captures, _backups)
