"""What is kept here, what of it is sealed, and under which key; sealing the rest; another key.

Knows every place under `DUKOU_HOME` that holds weights or rows. A place is a function from the home
to what lies there; `PLACES` lists them.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import StateError
from dukou.base.settings import resolve_setting
from dukou.lifecycle.cache import hold_cache_alone
from dukou.lifecycle.results import kept_results, protect_results
from dukou.registry.backup.folder import Backups
from dukou.serve.backup_age import read_backup_facts
from dukou.trust.keyring import (
    KEY_BYTES,
    EncryptionKey,
    Keyring,
    load_keyring,
    note_key,
    own_file,
    require_keyring,
    retired_path,
    write_key_file,
)
from dukou.trust.privacy.subjects import SubjectKeys
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
        sealable: whether a key would seal them; of what holds neither rows nor weights none does.
    """

    place: str
    under: Mapping[str, int] = field(default_factory=dict)
    clear: int = 0
    clear_bytes: int = 0
    note: str = ""
    sealable: bool = True

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
        kept: files of old keys that backups from before the rotation need.
    """

    key: EncryptionKey
    retired: tuple[str, ...]
    turned: int
    source: str
    taken_away: bool
    kept: tuple[Path, ...] = ()


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
    with _alone(home):
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
    with _alone(home):
        return _rotate(home)


def _rotate(home: Path) -> Rotation:
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
    kept: list[Path] = []
    if writable:
        # Inside a backup things stay wrapped as they were when it was taken.
        if _backup_files(home):
            for key in keyring.keys[1:]:
                kept.append(retired_path(home, key.id))
                write_key_file(kept[-1], Keyring.of(key), replace=True)
        write_key_file(own_file(home), Keyring.of(keyring.current), replace=True)
    retired = tuple(key.id for key in keyring.keys[1:])
    return Rotation(
        keyring.current, retired, turned, keyring.source, taken_away=writable, kept=tuple(kept)
    )


def configured(home: Path) -> Keyring | None:
    """The keys, None where encryption is off. Raises as `dukou.trust.keyring.load_keyring`."""
    return load_keyring(home)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """No run of the line meanwhile: it would go on with a key that it has read already.

    Raises:
        StateError: `cache.in-use`.
    """
    with hold_cache_alone(home) as alone:
        if not alone:
            raise StateError("cache.in-use", f"a `dukou ship` or `dukou retrain` runs in `{home}`")
        yield


def _protect(home: Path, keyring: Keyring) -> int:
    from dukou.package.encryption import rewrap_model_keys
    from dukou.package.store import Store

    turned = sum(store.protect(keyring) for store in _capture_stores(home))
    turned += SubjectKeys(home).protect(keyring)
    turned += sum(rewrap_file(file, keyring) for file in _backup_files(home))
    turned += rewrap_model_keys(Store(home / "store"), keyring)
    turned += protect_results(home, keyring)
    # Versions that were copied out for a retraining, before they were encrypted: made again when needed.
    shutil.rmtree(home / "cache" / "champions", ignore_errors=True)
    return turned


def _versions(home: Path) -> Holding:
    """The versions of the store; the key of an encrypted one is where its model's key is wrapped."""
    from dukou.package.encryption import is_encrypted, model_key_id, wrapped_keys
    from dukou.package.store import Store

    store = Store(home / "store")
    wrapped = {document["model_key"]: document["key"] for document in wrapped_keys(store)}
    under: Counter[str] = Counter()
    clear = clear_bytes = 0
    for version in store.versions():
        manifest = store.read_manifest(version)
        if is_encrypted(manifest):
            under[wrapped.get(model_key_id(manifest, f"version `{version.digest}`"), "none")] += 1
        else:
            clear += 1
            clear_bytes += sum(int(layer["size"]) for layer in manifest["layers"])
    note = "a version never changes: `dukou ship` makes an encrypted one" if clear else ""
    return Holding("versions", dict(under), clear, clear_bytes, note)


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


def _results(home: Path) -> Holding:
    """Kept results of stages: rows cut for training and tests, trained and converted models."""
    under: Counter[str] = Counter()
    clear = clear_bytes = 0
    for path in kept_results(home):
        key = None if path.is_dir() else sealed_under(path)
        if key is not None:
            under[key] += 1
        else:
            clear += 1
            clear_bytes += _bytes_of(path)
    return Holding(
        "results of stages",
        dict(under),
        clear,
        clear_bytes,
        "`dukou encryption apply` seals them" if clear else "",
    )


def _copies(home: Path) -> Holding:
    """Copies in clear that are made for speed, and can be made again."""
    folders = [
        *_entries(home / "cache" / "champions"),
        *_entries(home / "cache" / "conversions"),
        *_entries(home / "store" / "versions"),
        *_entries(home / "compiled"),
    ]
    folders = [folder for folder in folders if any(file.is_file() for file in folder.rglob("*"))]
    note = "of models in clear; `dukou clean` takes away what is not used" if folders else ""
    return Holding("copies", {}, len(folders), sum(map(_bytes_of, folders)), note)


def _records(home: Path) -> Holding:
    """Run records: numbers, plots, and the project's file. They are not sealed."""
    files = [path for path in (home / "runs").rglob("*") if path.is_file()]
    note = "numbers and plots of runs, no rows; never sealed" if files else ""
    size = sum(path.stat().st_size for path in files)
    return Holding("run records", {}, len(files), size, note, sealable=False)


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _bytes_of(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def _people(home: Path) -> Holding:
    """The keys of persons: whoever has them reads what they seal."""
    under = SubjectKeys(home).under()
    clear = under.pop("", 0)
    note = "`dukou encryption apply` wraps them" if clear else ""
    return Holding("keys of persons", dict(under), clear, clear * KEY_BYTES, note)


PLACES: tuple[Callable[[Path], Holding], ...] = (
    _captures,
    _people,
    _versions,
    _results,
    _copies,
    _backups,
    _records,
)
