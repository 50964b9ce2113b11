"""The process of a fleet: holds its place at so many replicas, and its gateway at those that answer.

In the foreground, like `dukou serve`, and small: what replicas serve and how a rollout goes on is the
registry's, which each of them follows by itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from dukou.base.errors import DukouError
from dukou.base.settings import make_private_folder
from dukou.deploy import defaults
from dukou.fleet.folder import FleetFolder
from dukou.fleet.gateway import Gateway
from dukou.fleet.replica import FleetOrder, Place, Replica

_TICK_S = 0.25
# How long the first replica that answers waits for the others before the gateway is started.
_PATIENCE_S = 30.0
# How long a gateway may take to let go of a replica that is leaving.
_LET_GO_S = 10.0
_DRAIN_SPARE_S = 10.0
# How long replicas may take to end where one of them cannot start.
_GIVE_UP_S = 10.0


class FleetSupervisor:
    """One fleet from its start to its end.

    Args:
        order: what to run.
        folder: of this process's; not made yet.
        place: where the replicas run.
        on_ready: told once when the gateway answers.
        say: shows a line to the person who watches.
    """

    def __init__(
        self,
        order: FleetOrder,
        folder: FleetFolder,
        place: Place,
        on_ready: Callable[[FleetSupervisor], None],
        say: Callable[[str], None],
    ) -> None:
        self.order = order
        self.folder = folder
        self.place = place
        self.gateway = Gateway(order)
        self._on_ready = on_ready
        self._say = say
        self._signals: list[int] = []
        self._started = time.time()
        self._wanted = order.replicas
        self._ready = False
        self._first_answer: float | None = None
        self._leaving_since: dict[str, float] = {}
        self._published: dict[str, Any] = {}

    @property
    def url(self) -> str | None:
        """Where callers ask; None before the gateway answers."""
        url = self.gateway.facts.get("url")
        return None if url is None else str(url)

    def run(self) -> int:
        """Runs the fleet until told to end; the exit status.

        Raises:
            DukouError: why it could not start.
        """
        lock = self.folder.hold()
        try:
            for folder in (self.order.folder.parent, self.order.folder):
                make_private_folder(folder)
            self.place.scale(self._wanted)
            with self._woken_by_signals() as wakeup:
                while True:
                    self._step(time.monotonic())
                    ready = [*self.place.descriptors(), *self.gateway.descriptors(), wakeup]
                    if wakeup in select.select(ready, [], [], _TICK_S)[0]:
                        _empty(wakeup)
                    if self._take_signals():
                        return self._drain(wakeup)
        except DukouError:
            self._end_what_started()
            raise
        finally:
            self.gateway.kill()
            self.place.kill()
            self.folder.remove()
            os.close(lock)

    def _step(self, now: float) -> None:
        self._follow_wanted()
        for sentence in self.place.step(now):
            self._say(sentence)
        replicas = self.place.replicas()
        asked = [r for r in replicas if r.url is not None and not r.leaving]
        staying = [r for r in replicas if not r.leaving]
        if asked:
            # None at all is no list: the gateway keeps the last one, and says what it finds.
            names = dict.fromkeys(name for replica in asked for name in replica.models)
            self.gateway.point_at(list(names), [str(replica.url) for replica in asked])
        if not self.gateway.is_started and asked:
            self._first_answer = self._first_answer or now
            if len(asked) == len(staying) or now - self._first_answer > _PATIENCE_S:
                self.gateway.start(now)
        for sentence in self.gateway.step(now, again=True):
            self._say(sentence)
        self._let_go(replicas, now)
        self._publish(replicas)
        if not self._ready and self.gateway.facts:
            self._ready = True
            self._publish(replicas)
            self._on_ready(self)

    def _follow_wanted(self) -> None:
        document = self.folder.read(self.folder.wanted)
        wanted = document.get("replicas") if document is not None else None
        if isinstance(wanted, int) and wanted >= 1 and wanted != self._wanted:
            self._say(f"{wanted} replicas are wanted, {self._wanted} were")
            self._wanted = wanted
            self.place.scale(wanted)

    def _let_go(self, replicas: list[Replica], now: float) -> None:
        leaving = {replica.name: replica for replica in replicas if replica.leaving}
        self._leaving_since = {n: self._leaving_since.get(n, now) for n in leaving}
        for name, since in self._leaving_since.items():
            url = leaving[name].url
            if url is None or not self.gateway.names(url) or now - since > _LET_GO_S:
                self.place.let_go(name)

    def _drain(self, wakeup: int) -> int:
        """The gateway first: what it has taken the replicas answer. A second Ctrl-C does not wait."""
        deadline = time.monotonic() + 2 * (defaults.DRAIN_MS / 1000 + _DRAIN_SPARE_S)
        self.gateway.drain()
        told = False
        while self.gateway.runs or not self.place.is_empty():
            now = time.monotonic()
            if now > deadline:
                self._say("warning: the fleet did not drain in time, and was killed")
                return 0
            self.gateway.step(now, again=False)
            self.place.step(now)
            if not self.gateway.runs and not told:
                told = True
                self.place.drain()
            watched = [*self.place.descriptors(), *self.gateway.descriptors(), wakeup]
            if wakeup in select.select(watched, [], [], _TICK_S)[0]:
                _empty(wakeup)
            if signal.SIGINT in self._take_signals():
                return 128 + signal.SIGINT
        return 0

    def _end_what_started(self) -> None:
        """One replica cannot start: the others end, and take what they began with them."""
        self.place.drain()
        deadline = time.monotonic() + _GIVE_UP_S
        while not self.place.is_empty() and time.monotonic() < deadline:
            self.place.step(time.monotonic())
            select.select(self.place.descriptors(), [], [], _TICK_S)

    def _publish(self, replicas: list[Replica]) -> None:
        """Writes `fleet.json`, where it says something else. A full disk there is no reason to stop."""
        document = {
            "format": 1,
            "name": self.order.name,
            "id": self.folder.id,
            "pid": os.getpid(),
            "started": self._started,
            "model": self.order.model,
            "place": self.place.kind,
            "ready": self._ready,
            "url": self.url,
            "wanted": self._wanted,
            "memory_bytes": self.order.memory_bytes,
            "gateway": {
                "pid": self.gateway.pid,
                "restarts": self.gateway.restarts,
                "socket": self.gateway.facts.get("socket"),
                "document": os.fspath(self.order.folder / "gateway.toml"),
            },
            "replicas": [replica._asdict() for replica in replicas],
        }
        if document == self._published:
            return
        with contextlib.suppress(OSError):
            self.folder.write(self.folder.fleet, document)
            self._published = document

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[int]:
        def note(number: int, _frame: FrameType | None) -> None:
            if number != signal.SIGCHLD:
                self._signals.append(number)

        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        before = {number: signal.signal(number, note) for number in numbers}
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reading)
            os.close(writing)

    def _take_signals(self) -> list[int]:
        taken, self._signals = self._signals, []
        return taken


def _empty(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 512):
            pass
