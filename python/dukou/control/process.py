"""The control process: its folder in, events out, until its supervisor is gone or tells it to end."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from dukou.base.errors import DukouError
from dukou.control.desired import DesiredState
from dukou.control.gauges import GaugeTeller
from dukou.control.loop import ControlLoop
from dukou.control.peers import peers_of
from dukou.control.rollouts import RolloutKeeper
from dukou.control.watching import Watching
from dukou.registry.registry import Registry
from dukou.serve.folder import ServerFolder
from dukou.serve.local_api import LocalApi

# How long a change in the registry waits at most before it is seen.
_POLL_S = 0.25
_POLL_UNTIL_FIRST_S = 0.02


def main(words: Sequence[str]) -> int:
    """Runs until SIGTERM, or until the supervisor's end of the lifeline closes."""
    folder = ServerFolder(Path(words[0]))
    ending, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def end(_number: int, _frame: FrameType | None) -> None:
        os.write(writing, b"x")

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    waited = [ending]
    lifeline = os.environ.get("DUKOU_LIFELINE_FD", "")
    if lifeline.isdigit():
        waited.append(int(lifeline))
    try:
        with Registry.open(Path(_read(folder)["home"])) as registry:
            voice = _Voice(folder, DesiredState(_read(folder), registry))
            keeper = RolloutKeeper(
                registry,
                LocalApi(folder.socket),
                voice.desired.rollout_names,
                holder=folder.id,
                say=voice.say_rollout,
                peers=lambda: peers_of(folder),
            )

            def tell_trouble(error: DukouError) -> None:
                voice.say_trouble(error)
                keeper.note_trouble(error)

            loop = ControlLoop(
                voice.desired,
                LocalApi(folder.socket),
                on_applied=voice.say_applied,
                on_trouble=tell_trouble,
            )
            watching = Watching(folder.path)
            gauges = GaugeTeller(Path(_read(folder)["home"]), LocalApi(folder.socket))
            # What was imported stays for good: the collector need not walk it again.
            gc.freeze()
            while True:
                loop.step()
                if voice.applied:
                    keeper.step()
                    watching.keep(loop.served)
                    gauges.step()
                    voice.show_rollouts(keeper.describe())
                    voice.show_placement()
                pause = _POLL_S if voice.applied else _POLL_UNTIL_FIRST_S
                if select.select(waited, [], [], pause)[0]:
                    return 0
    except DukouError as error:
        _emit(_trouble(error))
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status


def _read(folder: ServerFolder) -> dict[str, Any]:
    document = folder.read(folder.desired)
    if document is None:
        from dukou.base.errors import BugError

        raise BugError("bug.internal", f"`{folder.desired}` is not there or cannot be read")
    return document


class _Voice:
    """Tells the supervisor by events on stdout, and `dukou status` by `control.json`."""

    def __init__(self, folder: ServerFolder, desired: DesiredState) -> None:
        self.desired = desired
        self.applied = False
        self._folder = folder
        self._document: dict[str, Any] = {
            "format": 1,
            "pid": os.getpid(),
            "sequence": None,
            "revision": None,
            "models": [],
            "trouble": None,
            "rollouts": [],
            "unplaced": [],
            "memory_bytes": None,
        }

    def say_applied(self, table: dict[str, Any]) -> None:
        models = [
            {"name": model["name"], "version": arm["version"], "arm": arm["arm"]}
            for model in table["models"]
            for arm in model["split"]
        ]
        self._document |= {
            "sequence": table["sequence"],
            "revision": table["revision"],
            "models": models,
            "trouble": None,
        }
        self._write()
        event = {
            "event": "applied",
            "sequence": table["sequence"],
            "revision": table["revision"],
            "summary": ", ".join(f"{model['name']}:{model['version']}" for model in models),
        }
        if not self.applied:
            event["golden"] = self._golden(table)
        self.applied = True
        _emit(event)

    def show_rollouts(self, rollouts: list[dict[str, Any]]) -> None:
        """What `dukou status` says of them."""
        if rollouts != self._document["rollouts"]:
            self._document["rollouts"] = rollouts
            self._write()

    def show_placement(self) -> None:
        """What the deployments ask for and this server does not do: said once each, kept for `status`."""
        events = [{**_trouble(error), "event": "unplaced"} for error in self.desired.unplaced]
        memory = self.desired.memory_bytes
        if [events, memory] == [self._document["unplaced"], self._document["memory_bytes"]]:
            return
        for event in events:
            if event not in self._document["unplaced"]:
                _emit(event)
        self._document |= {"unplaced": events, "memory_bytes": memory}
        self._write()

    def say_rollout(self, text: str) -> None:
        """A decision, for whoever watches the server."""
        print(f"rollout: {text}", file=sys.stderr, flush=True)
        _emit({"event": "rollout", "message": text})

    def say_trouble(self, error: DukouError) -> None:
        event = _trouble(error)
        self._document["trouble"] = {**event, "since": time.time()}
        self._write()
        print(f"trouble: {error}", file=sys.stderr, flush=True)
        _emit(event)

    def _golden(self, table: dict[str, Any]) -> dict[str, Any]:
        golden = {}
        for model in table["models"]:
            heaviest = max(model["split"], key=lambda arm: arm["weight"])["version"]
            source = next(v["source"] for v in model["versions"] if v["version"] == heaviest)
            if "artifact" in source:
                golden[model["name"]] = self.desired.golden_inputs(source["artifact"])
        return {name: inputs for name, inputs in golden.items() if inputs is not None}

    def _write(self) -> None:
        try:
            self._folder.write(self._folder.control, self._document)
        except OSError as error:
            print(f"trouble: `{self._folder.control}`: {error}", file=sys.stderr, flush=True)


def _trouble(error: DukouError) -> dict[str, Any]:
    return {
        "event": "trouble",
        "code": error.code,
        "message": error.message,
        "remedy": error.hint,
    }


def _emit(event: dict[str, Any]) -> None:
    try:
        print(json.dumps(event), flush=True)
    except BrokenPipeError:
        # The supervisor is gone; the lifeline says so too.
        sys.stdout = None
