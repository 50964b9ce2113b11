"""The results of stages that are kept: folders in the cache, or sealed archives where there is a key.

    HOME/cache/stages/STAGE/KEY/           in clear
    HOME/cache/stages/STAGE/KEY.sealed     the same folder, packed and sealed

They hold rows and weights. A sealed one is made in memory, and unpacked there when it is needed again;
its folder goes with this process. Either appears by rename, so that what was interrupted is never
taken for done.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import ResourceError
from dukou.package.disk import remove_quietly, translate_errors
from dukou.package.memory import make_memory_folder
from dukou.trust.keyring import load_keyring

if TYPE_CHECKING:
    from dukou.trust.keyring import Keyring

FACTS = "facts.json"
SEALED = ".sealed"
_CONTEXT = "result of a stage"


class KeptResults:
    """The kept results of one home.

    Args:
        home: DUKOU_HOME.

    Raises:
        DukouError: `trust.*`: there was a key, and it cannot be had.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / "cache" / "stages"
        self._keyring = load_keyring(home)
        self._memory: Path | None = None

    def find(self, stage: str, key: str) -> Path | None:
        """The folder of a finished stage, in clear; None where it is not kept.

        Raises:
            DukouError: `trust.*`, where a sealed one does not open; `store.no-memory-folder`.
        """
        plain = self._folder / stage / key
        if (plain / FACTS).is_file():
            return plain
        archive = plain.with_name(key + SEALED)
        if not archive.is_file():
            return None
        place = self._clear(stage) / key
        if not (place / FACTS).is_file():
            self._unpack(archive, place)
        return place

    def begin(self, stage: str, key: str) -> Path:
        """An empty folder for a stage to work in."""
        kept = self._folder / stage
        kept.mkdir(parents=True, exist_ok=True)
        parent = kept if self._keyring is None else self._clear(stage)
        return Path(tempfile.mkdtemp(prefix=f".{key}-", dir=parent))

    def keep(self, stage: str, key: str, work: Path) -> Path:
        """Keeps what a stage left in its folder; gives the folder that it is read from.

        Raises:
            ResourceError: `store.disk-full`, `store.not-writable`.
        """
        kept = self._folder / stage / key
        place = kept if self._keyring is None else self._clear(stage) / key
        if self._keyring is not None:
            with translate_errors(self._home):
                pack(work, kept.with_name(key + SEALED), self._keyring)
        if place.exists():
            shutil.rmtree(place)
        work.rename(place)
        if self._keyring is not None and kept.is_dir():
            shutil.rmtree(kept)
        return place

    @contextlib.contextmanager
    def private_temporaries(self) -> Iterator[None]:
        """Where results are sealed, temporary files are made in memory too: by this process and by those
        that it starts (converters, the training command, an engine that is measured)."""
        if self._keyring is None:
            yield
            return
        folder = str(self._clear("tmp"))
        before, said = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = before
            if said is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = said

    def _clear(self, stage: str) -> Path:
        if self._memory is None:
            self._memory = make_memory_folder()
        folder = self._memory / stage
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _unpack(self, archive: Path, place: Path) -> None:
        from dukou.trust.envelope import OpeningReader

        fresh = place.with_name(f".{place.name}-{secrets.token_hex(4)}")
        try:
            with archive.open("rb") as source:
                reader = OpeningReader(source, self._keyring, _CONTEXT, f"`{archive}`")
                with tarfile.open(fileobj=io.BufferedReader(reader), mode="r|") as packed:
                    packed.extractall(fresh, filter="data")
            fresh.rename(place)
        except OSError as error:
            raise ResourceError(
                "store.disk-full", f"`{place}` cannot be written: {error.strerror}"
            ) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def pack(folder: Path, archive: Path, keyring: Keyring) -> None:
    """Makes a sealed archive of a folder appear, whole or not at all."""
    from dukou.trust.envelope import SealingWriter

    incoming = archive.with_name(f".{archive.name}-{secrets.token_hex(4)}")
    try:
        with (
            incoming.open("xb") as sink,
            SealingWriter(sink, keyring, _CONTEXT) as writer,
            tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as packed,
        ):
            incoming.chmod(0o600)
            packed.add(folder, ".")
        incoming.replace(archive)
    except BaseException:
        remove_quietly(incoming)
        raise


def kept_results(home: Path) -> Iterator[Path]:
    """Every kept result: a folder in clear, or a sealed archive."""
    stages = home / "cache" / "stages"
    for stage in sorted(stages.iterdir()) if stages.is_dir() else ():
        yield from (path for path in sorted(stage.iterdir()) if not path.name.startswith("."))


def protect_results(home: Path, keyring: Keyring) -> int:
    """Seals what is kept in clear and wraps anew what opens by an older key; no run may use the cache.

    Returns:
        How many results changed.

    Raises:
        DukouError: `trust.*`, `store.*`.
    """
    from dukou.trust.sealed import rewrap_file

    changed = 0
    for path in kept_results(home):
        if path.is_dir():
            with translate_errors(home):
                pack(path, path.with_name(path.name + SEALED), keyring)
                shutil.rmtree(path)
            changed += 1
        else:
            changed += rewrap_file(path, keyring)
    return changed
