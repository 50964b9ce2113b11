"""The backup drill: a copy of registry and store is only a backup once it has been opened and proved."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import DukouError, ResourceError, StateError
from dukou.base.settings import resolve_setting
from dukou.lifecycle.project import Project

if TYPE_CHECKING:
    from dukou.model.model import Model


def drill_backup(_project: Project, home: Path, say: Callable[[str], None]) -> Mapping[str, Any]:
    """Copies registry, store and trusted keys into a scratch folder, opens them there, verifies the audit
    chain, every blob, and every champion with its signature, and replays its golden samples.

    Returns:
        `bytes`, `seconds`, `events` of the audit chain, and `champions` (reference → golden samples).

    Raises:
        StateError: `maintain.failed`, with what did not hold.
        ResourceError: `store.disk-full`, `store.not-writable`.
    """
    from dukou.package.store import Store
    from dukou.package.unpack import open_version
    from dukou.registry.registry import Registry
    from dukou.trust.keys import load_trust_store

    if resolve_setting("registry").value is not None:
        raise StateError(
            "maintain.failed", "the registry is a database of its own: the drill copies files alone"
        )
    began = time.monotonic()
    champions: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="dukou-drill-") as folder:
        scratch = Path(folder) / "home"
        size = copy_state(home, scratch)
        store, trusted = Store(scratch / "store"), load_trust_store(scratch)
        try:
            with Registry.open(scratch) as registry:
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
            for entry in entries:
                reference = f"{entry.model}:{entry.number}"
                place = Path(folder) / reference.replace(":", "-")
                model = open_version(store, entry.digest, trusted, folder=place, copy=True)
                champions[reference] = replay_golden(model, reference)
        except DukouError as error:
            raise StateError("maintain.failed", f"the copy does not hold: {error}") from error
    seconds = time.monotonic() - began
    say(
        f"{size:,} bytes copied and proved in {seconds:.1f} s: {events} audit events, "
        f"{len(champions)} versions"
    )
    return {"bytes": size, "seconds": round(seconds, 2), "events": events, "champions": champions}


def copy_state(home: Path, into: Path) -> int:
    """Copies what an installation cannot do without: registry, store, trusted keys. Gives the bytes.

    The registry is copied as of one moment, while others may write to it.

    Raises:
        ResourceError: `store.disk-full`, `store.not-writable`.
    """
    into.mkdir(parents=True, mode=0o700)
    try:
        # The registry first: what it names is in the store by then, and blobs are never changed.
        with (
            closing(sqlite3.connect(home / "registry.db")) as source,
            closing(sqlite3.connect(into / "registry.db")) as copy,
        ):
            source.backup(copy)
        for name in ("store", "trust"):
            if (home / name).is_dir():
                shutil.copytree(
                    home / name, into / name, ignore=shutil.ignore_patterns("versions", ".*")
                )
    except (OSError, shutil.Error, sqlite3.Error) as error:
        raise ResourceError("store.not-writable", f"the copy cannot be made: {error}") from error
    return sum(file.stat().st_size for file in into.rglob("*") if file.is_file())


def replay_golden(model: Model, reference: str) -> int:
    """Runs a version's golden samples and compares; gives how many were reproduced.

    Raises:
        StateError: `maintain.failed`, naming the sample that differs.
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
                    "maintain.failed", f"`{reference}`: golden sample {number} differs in `{name}`"
                )
    return len(model.golden.samples)
