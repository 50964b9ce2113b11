"""The supervisor: owns the listening sockets, keeps an engine and control running, ends them in order.

Standard library only, and small: it lives as long as the server. The sockets outlive every engine, so
that connections queue while one is started again. Where this process is killed, the children see
their lifelines close: the engine drains, control ends.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from dukou.base.errors import DukouError, RemoteError
from dukou.base.settings import encryption_key_source
from dukou.deploy import defaults
from dukou.serve.bare import bare_table
from dukou.serve.engine import EngineProcess, refusal
from dukou.serve.folder import new_folder, remove_tree
from dukou.serve.follow import Follower, Offer
from dukou.serve.keep import Kept
from dukou.serve.listen import address_of, open_listeners
from dukou.serve.order import LISTENER, Layout, Order, allowed_connections, replica_of
from dukou.serve.process import ChildProcess, last_lines

# Beyond the engine's own limit for a drain.
_DRAIN_SPARE_S = 5.0
_HOUSEKEEPING_S = 5.0
# How long a changed key waits at most before it is seen; how often a folder of models is looked at.
_KEYS_S = 0.25
_FOLLOW_S = 1.0
_LARGEST_ACCESS_LOG = 64 * 1024 * 1024
_CONTROL_LIFELINE = 3


class Supervisor:
    """One server from its start to its end.

    Args:
        order: what to serve.
        layout: where its files lie; of this process's folder, not made yet.
        on_ready: told once when requests are answered, with the models and their golden samples.
        say: shows a line to the person who watches.
    """

    def __init__(
        self,
        order: Order,
        layout: Layout,
        on_ready: Callable[[Supervisor, list[dict[str, Any]], dict[str, Any]], None],
        say: Callable[[str], None],
    ) -> None:
        self.order = order
        self.layout = layout
        self._on_ready = on_ready
        self._say = say
        guarded = order.door.is_guarded
        self._listeners = open_listeners(order.host, order.all_ports, guarded=guarded)
        self.url = address_of(self._listeners[LISTENER], order.door.scheme)
        self.ports = {name: at.getsockname()[1] for name, at in self._listeners.items()}
        self._engine: EngineProcess | None = None
        self._engine_kept = Kept("engine", self._start_engine)
        self._control_kept = Kept("control", self._start_control) if order.needs_control else None
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._ready = False
        self._started = time.time()
        self._revision: str | None = None
        self._models: list[str] = []
        self._housekeeping_due = 0.0
        self._keys_due = 0.0
        self._keys: object = None
        # With control, control holds the table: what lies in folders is then what lay there at the start.
        follows = order.folders and not order.needs_control
        self._follower = Follower(order.folders, order.files) if follows else None
        self._follow_due = 0.0
        self._offer: Offer | None = None
        self._sequence = 1

    def run(self) -> int:
        """Serves until told to end. Returns the exit status.

        Raises:
            DukouError: why the server could not start.
        """
        # A crash would write what callers sent to a disk; the limit holds for every process of ours.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        folder = self.layout.folder
        lock = folder.hold()
        try:
            self.layout.make()
            self._prepare_table()
            with self._woken_by_signals():
                for kept in self._all_kept():
                    self._adopt(kept.start(time.monotonic()))
                self._publish()
                self._watch_own_lifeline()
                return self._serve()
        finally:
            self._end_by_force()
            self._selector.close()
            self._close_listeners()
            folder.remove()
            self._remove_state()
            os.close(lock)

    # --- the loop ---

    def _serve(self) -> int:
        while True:
            for key, _ in self._selector.select(self._seconds_to_next_duty()):
                if key.data is not None:
                    key.data()
            for number in self._take_signals():
                if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    return self._drain()
            now = time.monotonic()
            for kept in self._all_kept():
                self._keep_running(kept, now)
            self._keep_keys(now)
            self._follow_folders(now)
            self._keep_house(now)

    def _seconds_to_next_duty(self) -> float:
        now = time.monotonic()
        dues = [kept.due for kept in self._all_kept() if kept.due is not None]
        if self._keeps_keys:
            dues.append(self._keys_due)
        if self._follower is not None:
            dues.append(self._follow_due)
        return max(0.0, min([self._housekeeping_due, *dues]) - now)

    def _keep_running(self, kept: Kept, now: float) -> None:
        child = kept.child
        if child is not None:
            self._read_events(kept, child)
            ended = kept.reap(now)
            if ended is None:
                return
            if not self._ready:
                raise self._no_start(kept, ended)
            self._say(f"warning: the {kept.name} {ended}; it is started again")
        if kept.due is not None and kept.due <= now:
            self._adopt(kept.start(now))
            self._publish()

    def _no_start(self, kept: Kept, ended: str) -> DukouError:
        if kept is self._engine_kept and self._engine is not None:
            return self._engine.no_start(ended)
        said = last_lines(self.layout.control_log)
        return RemoteError(
            "engine.no-start",
            f"control {ended} before anything was served{f': {said}' if said else ''}",
        )

    def _adopt(self, child: ChildProcess) -> None:
        # Readable with events, and at its end: that is what wakes the loop for both.
        def read() -> None:
            for kept in self._all_kept():
                if kept.child is child:
                    self._read_events(kept, child)

        self._selector.register(child.stdout, selectors.EVENT_READ, read)

    def _read_events(self, kept: Kept, child: ChildProcess) -> None:
        descriptor = child.stdout
        events = child.read_events()
        if descriptor >= 0 and child.stdout < 0:
            self._forget(descriptor)
        for event in events:
            if kept is self._engine_kept:
                self._hear_engine(event)
            else:
                self._hear_control(event)

    def _forget(self, descriptor: int) -> None:
        # Closed already: a selector of epoll's kind is told by number all the same.
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)

    # --- what the children say ---

    def _hear_engine(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "serving":
                self._revision = str(event.get("revision"))
                self._models = [str(name) for name in event.get("models", [])]
                self._publish()
                if self._control_kept is None:
                    self._become_ready(dict(self.order.golden))
            case "refused":
                if not self._ready and self._control_kept is None:
                    raise refusal(event)
                if self._control_kept is None:
                    self._say(f"warning: the engine refused its table: {event.get('message')}")
            case "golden-alarm":
                self._say(
                    f"warning: `{event.get('model')}:{event.get('version')}` does not reproduce "
                    f"its golden samples: {event.get('message')}"
                )

    def _hear_control(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "applied":
                if self._ready:
                    self._say(f"serving {event.get('summary')}")
                self._become_ready({**self.order.golden, **(event.get("golden") or {})})
            case "rollout":
                self._say(f"rollout: {event.get('message')}")
            case "unplaced":
                self._say(f"warning: {refusal(event)}")
            case "trouble":
                error = refusal(event)
                if not self._ready:
                    raise error
                self._say(f"warning: the table is kept as it is: {error}")

    def _become_ready(self, golden: dict[str, Any]) -> None:
        if self._ready or self._engine is None:
            return
        models = self._engine.api.models()
        self._ready = True
        self._models = [model["name"] for model in models]
        self._publish()
        self._on_ready(self, models, golden)

    # --- starting ---

    def _prepare_table(self) -> None:
        connections = allowed_connections()
        folder = self.layout.folder
        if self._control_kept is not None:
            folder.write(folder.desired, self.layout.desired(self.order, connections))
            return
        self._keys = self.order.door.token(self.layout.home)
        folder.write(folder.desired, self._bare_table(connections))

    def _bare_table(self, connections: int) -> dict[str, Any]:
        return bare_table(
            self.order.files,
            listeners=list(self._listeners),
            connections=connections,
            access_log=self.layout.access_log,
            security_log=self.layout.security_log,
            door=self.order.door,
            principals=self.order.door.principals(self.layout.home),
            sequence=self._sequence,
            override=self.order.override,
            stores=self.order.stores,
        )

    def _start_engine(self) -> ChildProcess:
        # A first table by argument; from then on the last good one, which the engine keeps itself.
        first = self._control_kept is None and not (self.layout.state_dir / "table.json").exists()
        self._engine = EngineProcess.start(
            self.order.engine,
            listeners=self._listeners,
            socket_path=self.layout.folder.socket,
            state_dir=self.layout.state_dir,
            runtime=self.order.runtime,
            table=self.layout.folder.desired if first else None,
            threads=self.order.threads,
            log=self.layout.log,
            encryption_key=self._encryption_key(),
        )
        return self._engine.child

    def _encryption_key(self) -> str:
        # The home's own place also where there is no key yet: one that is made later is found.
        home = self.layout.home
        return encryption_key_source(home) or str(home / "keys" / "encryption.key")

    def _start_control(self) -> ChildProcess:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")}
        environment["DUKOU_LIFELINE_FD"] = str(_CONTROL_LIFELINE)
        # -P: the folder that the user stands in is no place to import from.
        return ChildProcess.spawn(
            [sys.executable, "-P", "-m", "dukou.control", self.layout.folder.path],
            places={},
            lifeline_place=_CONTROL_LIFELINE,
            environment=environment,
            log=self.layout.control_log,
        )

    # --- ending ---

    def _drain(self) -> int:
        """Has the engine answer what it has taken, then ends. A second Ctrl-C does not wait."""
        control = self._control_kept
        if control is not None and control.child is not None:
            control.child.signal(signal.SIGTERM)
        # Ours are copies: while any is open, the kernel goes on taking connections for nobody.
        self._close_listeners()
        engine = self._engine_kept.child
        if engine is not None:
            engine.signal(signal.SIGTERM)
        deadline = time.monotonic() + defaults.DRAIN_MS / 1000 + _DRAIN_SPARE_S
        while engine is not None and engine.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                self._say("warning: the engine did not drain in time, and was killed")
                return 0
            for key, _ in self._selector.select(min(left, 1.0)):
                if key.data is not None:
                    key.data()
            if signal.SIGINT in self._take_signals():
                return 128 + signal.SIGINT
        return 0

    def _close_listeners(self) -> None:
        for listener in self._listeners.values():
            listener.close()

    def _end_by_force(self) -> None:
        for kept in self._all_kept():
            child = kept.child
            if child is None:
                continue
            child.signal(signal.SIGKILL)
            while child.poll() is None:
                time.sleep(0.001)
            child.close()
            kept.child = None

    def _remove_state(self) -> None:
        remove_tree(self.layout.state_dir)

    # --- what others read, and small duties ---

    def _publish(self) -> None:
        """Writes `server.json`. A full disk there is no reason to stop serving."""
        control = self._control_kept
        document = {
            "format": 1,
            "id": self.layout.folder.id,
            "pid": os.getpid(),
            "started": self._started,
            "url": self.url,
            "ports": self.ports,
            "replica_of": replica_of(),
            "ready": self._ready,
            "models": self._models,
            "revision": self._revision,
            "socket": str(self.layout.folder.socket),
            "state_dir": str(self.layout.state_dir),
            "log": str(self.layout.log),
            "access_log": str(self.layout.access_log),
            "security_log": str(self.layout.security_log),
            "engine": _described(self._engine_kept),
            "control": None if control is None else _described(control),
        }
        with contextlib.suppress(OSError):
            self.layout.folder.write(self.layout.folder.document, document)

    @property
    def _keeps_keys(self) -> bool:
        # With control, control does it.
        return self._control_kept is None and self.order.door.access == "keys"

    def _keep_keys(self, now: float) -> None:
        """Has the engine know of keys that were made, rotated or revoked meanwhile."""
        if not self._keeps_keys or now < self._keys_due or not self._ready:
            return
        if self._offer is not None:
            return  # a table is under way, with the keys of a moment ago
        self._keys_due = now + _KEYS_S
        token = self.order.door.token(self.layout.home)
        if token == self._keys or self._engine is None:
            return
        try:
            self._engine.api.put_table(self._next_table(self._engine), timeout_s=30.0)
            self._keys = token
        except DukouError as error:
            self._keys_due = now + _HOUSEKEEPING_S
            self._say(f"warning: changed keys are not in force yet: {error}")

    def _next_table(self, engine: EngineProcess) -> dict[str, Any]:
        """The table of now, under the number after the served one's."""
        served = engine.api.table()
        self._sequence = 1 + (0 if served is None else int(served["sequence"]))
        return self._bare_table(allowed_connections())

    def _follow_folders(self, now: float) -> None:
        """Has the engine serve what was put into a followed folder meanwhile, beside what it serves."""
        if self._follower is None or now < self._follow_due or not self._ready:
            return
        self._follow_due = now + _FOLLOW_S
        if self._offer is not None:
            if self._offer.is_alive():
                return
            self._offer_ended(self._offer, self._follower)
            self._offer = None
        try:
            files = self._follower.look()
        except DukouError as error:
            self._say(f"warning: the table is kept as it is: {error}")
            return
        if files is None or self._engine is None:
            return
        before, self.order = self.order, self.order._replace(files=files)
        try:
            self._offer = Offer(self._engine.api, self._next_table(self._engine), files)
        except DukouError:
            # The engine is being started again: it is offered once that is done.
            self.order = before
            self._follower.look_again()

    def _offer_ended(self, offer: Offer, follower: Follower) -> None:
        if offer.error is None:
            self._say(f"serving {follower.taken(offer.files)}")
            return
        # Why it was refused the engine says itself.
        self.order = self.order._replace(files=follower.served)
        if offer.error.code == "engine.unreachable":
            follower.look_again()

    def _keep_house(self, now: float) -> None:
        if now < self._housekeeping_due:
            return
        if not self._ready and self._housekeeping_due > 0:
            self._say(f"still loading; the log is `{self.layout.log}`")
        self._housekeeping_due = now + _HOUSEKEEPING_S
        for log in (self.layout.access_log, self.layout.security_log):
            with contextlib.suppress(OSError):
                if log.stat().st_size > _LARGEST_ACCESS_LOG:
                    self._turn_log(log)

    def _turn_log(self, log: Path) -> None:
        # The engine appends to the open file: it is copied and emptied, not renamed.
        with log.open("rb+") as source, log.with_suffix(".1.jsonl").open("wb") as old:
            while os.copy_file_range(source.fileno(), old.fileno(), 1 << 24):
                pass
            source.truncate(0)

    def _all_kept(self) -> list[Kept]:
        return [k for k in (self._engine_kept, self._control_kept) if k is not None]

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Any:
        def note(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)

        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        before = {number: signal.signal(number, note) for number in numbers}
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

        def empty() -> None:
            with contextlib.suppress(BlockingIOError):
                while os.read(reading, 512):
                    pass

        self._selector.register(reading, selectors.EVENT_READ, empty)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.unregister(reading)
            os.close(reading)
            os.close(writing)

    def _take_signals(self) -> list[int]:
        taken, self._signals = self._signals, []
        return taken

    def _watch_own_lifeline(self) -> None:
        """A notebook that started this server holds the other end of a pipe: its end is ours."""
        said = os.environ.get("DUKOU_LIFELINE_FD", "")
        if not said.isdigit():
            return
        descriptor = int(said)
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            return  # left in the environment by something else: no descriptor of ours

        def closed() -> None:
            self._selector.unregister(descriptor)
            self._signals.append(signal.SIGTERM)

        self._selector.register(descriptor, selectors.EVENT_READ, closed)


def _described(kept: Kept) -> dict[str, Any]:
    return {
        "pid": None if kept.child is None else kept.child.pid,
        "restarts": max(0, kept.restarts),
    }


def supervise(
    order: Order,
    home: Path,
    on_ready: Callable[[Supervisor, list[dict[str, Any]], dict[str, Any]], None],
    say: Callable[[str], None],
) -> int:
    """Serves `order` in this process until told to end; the exit status."""
    layout = Layout(home, new_folder(order.first_name))
    return Supervisor(order, layout, on_ready, say).run()
