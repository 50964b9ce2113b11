"""`python -m dukou.control.watch FOLDER`: the tap to disk, drift and quality to the registry, alarms out.

Started by control while anything is captured (`dukou.control.watching`); ends when its stdin does.
"""

from __future__ import annotations

import io
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.documents import parse_document
from dukou.base.durations import parse_duration
from dukou.base.errors import DukouError, ResourceError
from dukou.control.privacy import policy_for
from dukou.deploy.document import DeployedModel, Deployment
from dukou.deploy.files import read_deployment
from dukou.monitor.alerts import AlertBox
from dukou.monitor.drift.window import Promise, find_drift
from dukou.monitor.privacy import make_private
from dukou.monitor.quality import judge_served
from dukou.monitor.requests import Requests, read_requests
from dukou.monitor.store import CaptureStore
from dukou.package.contents import Contents
from dukou.package.layout import PROFILE_FILE
from dukou.package.store import Store
from dukou.registry.registry import Registry
from dukou.serve.folder import ServerFolder
from dukou.serve.local_api import LocalApi
from dukou.trust.privacy.policy import PrivacyPolicy
from dukou.trust.privacy.secret import load_or_create_privacy_key
from dukou.trust.privacy.traceback import describe_privately

if TYPE_CHECKING:
    import pyarrow as pa

_POLL_S = 0.5
_LABELS_S = 2.0
_TRIM_S = 30.0
# Fewer labelled rows than this judge nothing.
_FEWEST_LABELS = 20


def main(words: list[str]) -> int:
    """Runs until stdin ends."""
    folder = ServerFolder(Path(words[0]))
    desired = folder.read(folder.desired)
    if desired is None:
        print("trouble: the server's folder is gone", file=sys.stderr)
        return 1
    home = Path(desired["home"])
    with Registry.open(home) as registry:
        watcher = Watcher(
            home,
            desired,
            registry,
            LocalApi(folder.socket).tap,
            show=lambda found: folder.write(folder.monitor, found),
            say=_say,
        )
        while not select.select([0], [], [], _POLL_S)[0] or os.read(0, 64):
            watcher.step()
        watcher.step()
        watcher.close()
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(slots=True)
class _Watched:
    """One model that is watched."""

    model: DeployedModel
    policy: PrivacyPolicy
    store: CaptureStore
    pending: dict[str, list[pa.Table]] = field(default_factory=dict)
    pending_rows: dict[str, int] = field(default_factory=dict)
    alarmed: set[str] = field(default_factory=set)
    labels_seen: object = None
    unwritten: list[pa.Table] = field(default_factory=list)
    lost: int = 0
    damaged: int = 0


class Watcher:
    """Reads the tap and looks at what it holds.

    Args:
        home: DUKOU_HOME.
        desired: the server's `desired.json`.
        registry: where windows are kept.
        tap: takes out what the engine holds.
        show: told what is known now, for `dukou status`: model → its last drift and quality window.
        say: tells of alarms and troubles.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        home: Path,
        desired: Mapping[str, Any],
        registry: Registry,
        tap: Callable[[], bytes],
        *,
        show: Callable[[dict[str, Any]], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show = show
        self._found: dict[str, dict[str, Any]] = {}
        self._home = home
        self._registry = registry
        self._tap = tap
        self._say = say
        self._clock = clock
        self._versions = Store(home / "store")
        self._profiles: dict[tuple[str, str], tuple[dict[str, Any] | None, tuple[str, ...]]] = {}
        self._classes: dict[tuple[str, str], tuple[str, ...]] = {}
        self._desired = desired
        self._token: object = None
        self._watched: dict[str, _Watched] = {}
        self._labels_due = self._trim_due = 0.0
        self._said: dict[str, str] = {}
        self._alerts = AlertBox(home, say=say)

    def step(self) -> None:
        """Does what is due; trouble is said once and tried again, and keeps nothing else from being done."""
        self._try("deployments", self._follow)
        self._try("tap", self._read_tap)
        now = self._clock()
        if now >= self._trim_due:
            # Before more is written: on a full disk this makes the room.
            self._trim_due = now + _TRIM_S
            for name, watched in self._watched.items():
                self._try(f"bounds of {name}", partial(_trim, watched))
        for name, watched in self._watched.items():
            self._try(f"captures of {name}", partial(self._write, watched))
        if now >= self._labels_due:
            self._labels_due = now + _LABELS_S
            for name, watched in self._watched.items():
                self._try(f"labels of {name}", partial(self._look_at_labels, watched))
                self._look_for_damage(watched)

    def close(self) -> None:
        """Ends; alerts that are on their way stay on disk for whoever watches next."""
        self._alerts.close()

    def _try(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
            self._said.pop(what, None)
        except DukouError as error:
            self._tell(what, error)
        except OSError as error:
            where = error.filename or self._home
            self._tell(
                what,
                ResourceError("store.not-writable", f"`{where}` cannot be used: {error.strerror}"),
            )

    def _tell(self, what: str, error: DukouError) -> None:
        if error.code != "engine.unreachable" and str(error) != self._said.get(what):
            self._said[what] = str(error)
            self._say(f"monitor: {what}: {error}")

    def _follow(self) -> None:
        """What is watched, and how, is what the deployments say now."""
        token = self._registry.change_token()
        if token == self._token:
            return
        found = self._find_watched()
        for name in set(found) & set(self._watched):
            self._watched[name].model = found[name].model
            self._watched[name].policy = found[name].policy
        self._watched = {name: self._watched.get(name, entry) for name, entry in found.items()}
        self._token = token

    def _deployments(self) -> Iterator[Deployment]:
        for entry in self._desired["references"]:
            kept = self._registry.deployment(entry["reference"])
            if kept is not None:
                source = f"deployment `{kept.name}`"
                yield parse_document(
                    Deployment, kept.document, code="deploy.invalid", source=source
                )
        for path in self._desired.get("documents", ()):
            try:
                yield read_deployment(Path(path))
            except DukouError:
                continue  # control says what is wrong with it, and serves on what was before

    def _find_watched(self) -> dict[str, _Watched]:
        found = {}
        for deployment in self._deployments():
            for model in deployment.models:
                if model.capture is None:
                    continue
                policy = policy_for(model, self._registry, self._versions)
                if policy is not None:
                    store = CaptureStore(self._home, model.line)
                    found[model.name] = _Watched(model, policy, store)
        return found

    # Captures and drift

    def _read_tap(self) -> None:
        import pyarrow as pa

        while stream := self._tap():
            table = pa.ipc.open_stream(io.BytesIO(stream)).read_all()
            for name in table.column("model").unique().to_pylist():
                watched = self._watched.get(name)
                if watched is None:
                    continue
                part = table.filter(pa.compute.equal(table.column("model"), name))
                self._try(f"privacy of {name}", partial(self._take, watched, part))

    def _take(self, watched: _Watched, table: pa.Table) -> None:
        """Before anything is written or gathered: what may be kept. Where that cannot be said, nothing is."""
        line = watched.model.line
        labels = {v: self._labels(line, v) for v in _versions_that_say_text(table)}
        key = load_or_create_privacy_key(self._home)
        private = make_private(table, watched.policy, key, labels=labels)
        watched.unwritten.append(private)
        self._try(f"drift of {watched.model.name}", partial(self._gather, watched, private))

    def _write(self, watched: _Watched) -> None:
        """Writes what waits. What a full disk refuses waits on, bounded as the engine's own buffer is."""
        while watched.unwritten:
            try:
                watched.store.append(watched.unwritten[0])
            except DukouError:
                capture = watched.model.capture
                most = 0 if capture is None else capture.buffer_bytes
                while sum(table.nbytes for table in watched.unwritten) > most:
                    ids = watched.unwritten.pop(0).column("request_id")
                    watched.lost += len(ids.unique())
                    self._note(watched.model.line, "lost", {"requests": watched.lost})
                raise
            watched.unwritten.pop(0)

    def _look_for_damage(self, watched: _Watched) -> None:
        found = watched.store.damaged()
        if len(found) > watched.damaged:
            self._say(
                f"monitor: `{found[-1]}` could not be read and is set aside; "
                f"{len(found)} such parts of `{watched.model.line}`"
            )
        if len(found) != watched.damaged:
            watched.damaged = len(found)
            self._note(
                watched.model.line,
                "damaged",
                {"parts": len(found), "last": str(found[-1]) if found else ""},
            )

    def _gather(self, watched: _Watched, table: pa.Table) -> None:
        import pyarrow as pa

        if not watched.model.monitor.drift:
            return
        for version in table.column("version").unique().to_pylist():
            part = table.filter(pa.compute.equal(table.column("version"), version))
            rows = read_requests(part).rows
            watched.pending.setdefault(version, []).append(part)
            watched.pending_rows[version] = watched.pending_rows.get(version, 0) + rows
            if watched.pending_rows[version] >= watched.model.monitor.window_rows:
                requests = read_requests(pa.concat_tables(watched.pending.pop(version)))
                watched.pending_rows[version] = 0
                self._look_for_drift(watched, version, requests)

    def _look_for_drift(self, watched: _Watched, version: str, requests: Requests) -> None:
        line, monitor = watched.model.line, watched.model.monitor
        profile, labels = self._profile(line, version)
        if profile is None or not requests.rows:
            return
        began, ended = requests.times[0], requests.times[-1]
        length = datetime.fromisoformat(ended) - datetime.fromisoformat(began)
        promise = Promise(monitor.alarms, parse_duration(monitor.within, key="monitor.within"))
        said = requests.said(labels)
        document = find_drift(
            profile,
            requests.inputs,
            requests.numbers() if said is None else said,
            level=promise.level(length),
        )
        document = {"version": version, **document}
        onset = document["alarm"] and version not in watched.alarmed
        watched.alarmed.discard(version)
        if document["alarm"]:
            watched.alarmed.add(version)
        self._registry.windows.add(
            line, "drift", began=began, ended=ended, document={**document, "onset": onset}
        )
        self._note(line, "drift", {"ended": ended, **document})
        if onset:
            moved = [f["name"] for f in document["features"] if f["moved"]]
            message = (
                f"{line}:{version}: {document['moved']} of {document['tested']} features moved in "
                f"{document['rows']} rows, {', '.join(moved[:3])} first"
            )
            self._raise_alarm(watched, "drift", message, began, ended, document)

    def _profile(self, line: str, version: str) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        """The version's profile and classes."""
        key = (line, version)
        if key not in self._profiles:
            digest = self._digest(line, version)
            contents = Contents.of(self._versions, digest)
            profile = contents.document(PROFILE_FILE)
            if profile is None:
                self._say(f"monitor: {line}:{version} carries no profile: no drift is looked for")
            self._profiles[key] = (profile, contents.config.labels)
        return self._profiles[key]

    def _labels(self, line: str, version: str) -> tuple[str, ...]:
        """The version's classes."""
        if (line, version) not in self._classes:
            contents = Contents.of(self._versions, self._digest(line, version))
            self._classes[line, version] = contents.config.labels
        return self._classes[line, version]

    def _digest(self, line: str, version: str) -> str:
        return self._registry.resolve(f"{line}:{version}").digest

    # Labels and quality

    def _look_at_labels(self, watched: _Watched) -> None:
        token = watched.store.labels_token()
        if token == watched.labels_seen:
            return
        watched.labels_seen = token
        count = watched.store.count_labels()
        if not count:
            return
        line, monitor = watched.model.line, watched.model.monitor
        labelled = watched.store.read_labelled(newest_rows=monitor.window_rows)
        if labelled.requests.rows < _FEWEST_LABELS:
            return
        newest = labelled.requests.versions[-1]
        _, labels = self._profile(line, newest)
        document = judge_served(labelled, labels)
        document |= {"labels": count, "alarm": False}
        times = labelled.requests.times
        self._registry.windows.add(
            line, "quality", began=times[0], ended=times[-1], document=document
        )
        self._note(line, "quality", {"ended": times[-1], **document})

    def _note(self, line: str, kind: str, document: dict[str, Any]) -> None:
        self._found.setdefault(line, {})[kind] = document
        self._show({"format": 1, "models": self._found})

    def _raise_alarm(
        self,
        watched: _Watched,
        kind: str,
        message: str,
        began: str,
        ended: str,
        found: Mapping[str, Any],
    ) -> None:
        self._say(f"alarm: {message}")
        url = watched.model.monitor.webhook
        if url is None:
            return
        self._alerts.put(
            url,
            {
                "kind": kind,
                "model": watched.model.line,
                "message": message,
                "began": began,
                "ended": ended,
                "sent": datetime.now(UTC).isoformat(timespec="seconds"),
                "found": dict(found),
            },
        )


def _versions_that_say_text(table: pa.Table) -> list[str]:
    """Those whose answers may hold the names of classes."""
    import pyarrow.compute as pc

    texts = pc.and_(
        pc.equal(table.column("direction"), "output"), pc.equal(table.column("dtype"), "BYTES")
    )
    found: list[str] = table.filter(texts).column("version").unique().to_pylist()
    return found


def _trim(watched: _Watched) -> None:
    monitor = watched.model.monitor
    keep = parse_duration(monitor.keep, key="monitor.keep") if monitor.keep else None
    watched.store.trim(max_bytes=monitor.max_bytes, keep=keep)


def _run() -> int:
    """As `main`; a fault of ours ends the process with words that hold nothing of a request."""
    try:
        return main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 (the door: its words go to a log)
        print(describe_privately(error), file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(_run())
