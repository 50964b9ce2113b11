"""Runs a project's line, stage by stage, taking kept results where nothing changed.

A kept result (`results.py`) has a key: the digest of all that the stage depends on, the keys of the
stages that it needs among them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from dukou import __version__
from dukou.base.errors import DukouError, InputError
from dukou.base.ids import parse_model_name
from dukou.base.lazy import resolve
from dukou.lifecycle import STAGES
from dukou.lifecycle.cache import CAPTURED, use_cache
from dukou.lifecycle.champion import Champion
from dukou.lifecycle.project import Project
from dukou.lifecycle.results import FACTS, KeptResults
from dukou.lifecycle.stage import Line, Stage, StageResult
from dukou.trust.keyring import require_keyring


@dataclass(frozen=True, slots=True)
class Shipment:
    """A finished run.

    Attributes:
        record: folder of the run record (`run.json`, `report.html`).
        results: of every stage, by name.
        version: the number of the version in the registry; None where the run stopped before.
        digest: of the version's manifest; None where the run stopped before.
    """

    record: Path
    results: dict[str, StageResult]
    version: int | None
    digest: str | None

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.record / "report.html"


def ship(
    project: Project,
    home: Path,
    *,
    until: str | None = None,
    fresh: bool = False,
    champion: Champion | None = None,
    notes: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Shipment:
    """Runs the line of `project`.

    Args:
        project: what to run.
        home: DUKOU_HOME: the cache, the store, the registry and the run records lie there.
        until: the last stage to run; all where None.
        fresh: take nothing from the cache.
        champion: the version that serves now: the training may start from it, and the evaluation
            compares with it.
        notes: why a retraining runs and what led to it; the record and the report carry them.
        say: shows a line of progress.

    Raises:
        DukouError: what stopped the line. The run record and the report of what was done until then
            are written all the same.
    """
    if until is not None and until not in STAGES:
        raise InputError(
            "usage.invalid",
            f"`{until}` is not a stage",
            hint=f"the stages are {', '.join(STAGES)}",
        )
    if project.package.encrypt:
        require_keyring(home)  # said now, not after an hour of training
    line = Line(project, home, champion=champion, say=say)
    record = _open_record(home, project.model.name)
    keys: dict[str, str] = {}
    failure: DukouError | None = None
    try:
        with use_cache(home):
            kept = KeptResults(home)
            with kept.private_temporaries():
                for name, reference in STAGES.items():
                    stage = cast("Stage", resolve(reference)())
                    line.results[name] = _run_stage(stage, line, keys, kept, fresh=fresh)
                    if name == until:
                        break
    except DukouError as error:
        failure = error
        raise
    finally:
        for result in line.results.values():
            if result.facts.get(CAPTURED):
                shutil.rmtree(result.folder, ignore_errors=True)
        _write_record(record, line, keys, failure, notes)
    published = line.results.get("publish")
    return Shipment(
        record,
        line.results,
        published.facts["version"] if published else None,
        published.facts["digest"] if published else None,
    )


def find_shipped_rollout(home: Path, model: str) -> int | None:
    """The rollout that the newest run of the whole line started or went on with; None where none."""
    records = (home / "runs" / parse_model_name(model)).glob("*/run.json")
    # By the time of writing: names tell seconds alone.
    for record in sorted(records, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            deployed = json.loads(record.read_text(encoding="utf-8"))["stages"]["deploy"]["facts"]
            return None if deployed["rollout"] is None else int(deployed["rollout"])
        except (ValueError, LookupError, TypeError):
            continue  # it stopped before, or was killed while it was written
    return None


def _run_stage(
    stage: Stage, line: Line, keys: dict[str, str], kept: KeptResults, *, fresh: bool
) -> StageResult:
    depends = {
        "dukou": __version__,
        "stage": [stage.name, stage.revision],
        "needs": {need: keys[need] for need in stage.needs},
        "on": stage.depends(line),
    }
    key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:32]
    keys[stage.name] = key
    found = kept.find(stage.name, key) if stage.cached and not fresh else None
    if found is not None:
        facts = json.loads((found / FACTS).read_text(encoding="utf-8"))
        line.say(f"{stage.name:<9} {stage.summary(facts)} (kept)")
        return StageResult(stage.name, found, facts, 0.0, cached=True)
    begun = time.monotonic()
    work = kept.begin(stage.name, key)
    try:
        facts = dict(stage.run(line, work))
        (work / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        # Callers' rows are there for this run alone, and no result keeps them.
        folder = work if facts.get(CAPTURED) else kept.keep(stage.name, key, work)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    if folder != work:
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - begun
    line.say(f"{stage.name:<9} {stage.summary(facts)} ({seconds:.1f} s)")
    return StageResult(stage.name, folder, facts, seconds, cached=False)


def _open_record(home: Path, model: str) -> Path:
    runs = home / "runs" / model
    runs.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path(tempfile.mkdtemp(prefix=f"{stamp}-", dir=runs))


def _write_record(
    record: Path,
    line: Line,
    keys: dict[str, str],
    failure: DukouError | None,
    notes: Mapping[str, Any] | None,
) -> None:
    from dukou.lifecycle.report import write_report

    document: dict[str, Any] = {
        "format": 1,
        "model": line.project.model.name,
        "project": line.project.model_dump(mode="json"),
        "dukou": __version__,
        "stages": {
            name: {
                "key": keys[name],
                "seconds": round(result.seconds, 3),
                "cached": result.cached,
                "facts": result.facts,
            }
            for name, result in line.results.items()
        },
        "retraining": None if notes is None else dict(notes),
        "noted": {name: facts for name, facts in line.noted.items() if name not in line.results},
        "failure": failure and {"code": failure.code, "message": failure.message},
    }
    (record / "run.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    write_report(document, record / "report.html")


def digest_of(paths: Iterable[Path]) -> str:
    """One sha256 over files, or over the files of folders, with their names."""
    total = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            name = os.fsencode(file.relative_to(path) if path.is_dir() else file.name)
            with file.open("rb") as source:
                content = hashlib.file_digest(source, "sha256").digest()
            total.update(len(name).to_bytes(8, "big") + name + content)
    return f"sha256:{total.hexdigest()}"
