"""The watcher: whatever one thing meets, the others are done, and nothing is lost that need not be."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.artifacts import Place, make_layers, make_model
from tests.serving import wait_until
from tests.unit.monitor.test_alerts import Receiver
from tests.unit.monitor.test_store import tapped

from dukou.control.watch import Watcher
from dukou.model.signature import Signature, TensorSpec
from dukou.monitor.labels import add_labels
from dukou.monitor.profile import make_profile
from dukou.monitor.store import CaptureStore
from dukou.registry.registry import Registry

SIGNATURE = Signature((TensorSpec("x", "FP32", ("n", 2)),), (TensorSpec("label", "INT64", ("n",)),))


class Watched:
    """A watcher of the model `m`, whose tap the test fills and whose clock it moves."""

    def __init__(self, folder: Path, **monitor: Any) -> None:
        place = Place.make(folder)
        self.home = place.home
        packaged = place.publish(make_model(folder / "m-1", *make_layers(4, 3, seed=1)), "m")
        self.registry = Registry.open(self.home, actor="test")
        self.registry.register_version("m", packaged.digest)
        self.registry.set_alias("m", "champion", 1, expected=None)
        self.deploy(monitor)
        self.taps: list[pa.Table] = []
        self.now = 0.0
        self.said: list[str] = []
        self.shown: dict[str, Any] = {}
        self.store = CaptureStore(self.home, "m")
        self.watcher = self.again()

    def deploy(self, monitor: dict[str, Any], **capture: Any) -> None:
        kept = {"fields": {"*": "keep"}}
        model = {"name": "m", "capture": capture, "monitor": monitor, "privacy": kept}
        before = self.registry.deployment("m")
        self.registry.put_deployment(
            "m",
            {"version": 1, "name": "m", "models": [model]},
            expected=0 if before is None else before.revision,
        )

    def again(self) -> Watcher:
        watcher = Watcher(
            self.home,
            {"references": [{"name": "m", "reference": "m"}]},
            self.registry,
            self._tap,
            show=self.shown.update,
            say=self.said.append,
            clock=lambda: self.now,
        )
        # What this version was trained on: two features of one value each.
        columns = {"a": np.arange(300) % 3, "b": np.arange(300) % 3}
        watcher._profiles["m", "1"] = (make_profile(SIGNATURE, columns), ())
        return watcher

    def step(self, *tables: pa.Table) -> None:
        self.taps += tables
        self.now += 60.0
        self.watcher.step()

    def _tap(self) -> bytes:
        if not self.taps:
            return b""
        sink = pa.BufferOutputStream()
        table = self.taps.pop(0)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path, window_rows=60)
    yield made
    made.watcher.close()
    made.registry.close()


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def moved(first: int, count: int) -> pa.Table:
    """Requests with other numbers than the version was trained on."""
    lines = tapped(first, count).to_pylist()
    for line in lines:
        if line["direction"] == "input":
            line["bytes"] = np.full((1, 2), 9, np.float32).tobytes()
    return pa.Table.from_pylist(lines)


def test_a_full_disk_is_waited_for_and_nothing_that_fits_the_buffer_is_lost(
    watched: Watched,
) -> None:
    watched.step(tapped(0, 10))
    with full_disk():
        watched.step(tapped(10, 10))
        watched.step(tapped(20, 10))
    assert [text for text in watched.said if "captures of m" in text] == watched.said
    assert len(watched.said) == 1, "said once"
    assert "[store.disk-full]" in watched.said[0]
    watched.step()
    assert watched.store.read().rows == 30
    # What is more than the engine's own buffer may hold goes, and is counted.
    watched.deploy({"window_rows": 60}, buffer_bytes=1)
    with full_disk():
        watched.step(tapped(30, 10))
    assert watched.shown["models"]["m"]["lost"] == {"requests": 10}
    watched.step(tapped(40, 10))
    assert watched.store.read().rows == 40


def test_a_damaged_part_is_set_aside_and_the_others_are_read(
    watched: Watched, tmp_path: Path
) -> None:
    watched.step(tapped(0, 30))
    (part,) = watched.store.days()[0].glob("*.parquet")
    watched.step(tapped(30, 30))
    part.write_bytes(part.read_bytes()[:100])
    (watched.store.folder / "labels").mkdir(mode=0o700)
    (watched.store.folder / "labels" / "00000001.parquet").write_bytes(b"PAR1 is not enough")
    labels = tmp_path / "labels.csv"
    lines = [f"{number:016x},{number % 3}" for number in range(60)]
    labels.write_text("\n".join(["request_id,label", *lines]), encoding="utf-8")
    done = add_labels(watched.home, "m", labels, capturing=True)
    assert (done.added, done.joined) == (60, 30)
    watched.step(tapped(60, 5))
    assert watched.store.read().rows == 35
    assert len(watched.store.damaged()) == 2
    assert sum("is set aside" in text for text in watched.said) == 1
    assert watched.shown["models"]["m"]["damaged"]["parts"] == 2
    assert watched.shown["models"]["m"]["quality"]["rows"] == 30
    # They count towards the bound, and go with it.
    watched.store.trim(max_bytes=1)
    assert watched.store.damaged() == []


def test_an_alarm_is_told_once_and_again_after_a_quiet_window(tmp_path: Path) -> None:
    with Receiver() as receiver:
        watched = Watched(tmp_path, window_rows=60, webhook=receiver.url)
        for number, table in enumerate(
            [tapped(0, 60), moved(60, 60), moved(120, 60), tapped(180, 60), moved(240, 60)]
        ):
            watched.step(table)
            assert len(watched.registry.windows.list("m", "drift")) == number + 1
        wait_until(lambda: len(receiver.got) == 2, "two alerts")
        watched.watcher.close()
        alarms = [w.alarm for w in watched.registry.windows.list("m", "drift")]
        assert alarms == [False, True, True, False, True]
        assert receiver.got[0]["message"].startswith("m:1: 2 of 2 features moved in 60 rows")
        assert receiver.got[0]["found"]["rows"] == 60
        events = [e.action for e in watched.registry.audit_events(limit=1000)]
        assert events.count("drift.alarm") == 3
        watched.registry.close()


def test_a_webhook_that_hangs_or_is_gone_stops_no_capture(tmp_path: Path) -> None:
    with Receiver() as receiver:
        receiver.asleep.clear()
        watched = Watched(tmp_path, window_rows=60, webhook=receiver.url)
        watched.step(moved(0, 60), tapped(60, 60), moved(120, 60))
        watched.step(tapped(180, 10))
        # The receiver has answered nobody: had the watcher waited for it, this would not be written.
        assert watched.store.read().rows == 190
        assert len(watched.registry.windows.list("m", "drift")) == 3
        receiver.asleep.set()
        wait_until(lambda: len(receiver.got) == 2, "both alerts")
        watched.watcher.close()
        watched.registry.close()


def test_a_watcher_that_was_killed_leaves_its_alerts_to_the_next(tmp_path: Path) -> None:
    with Receiver() as receiver:
        url = receiver.url
    watched = Watched(tmp_path, window_rows=60, webhook=url)
    watched.step(moved(0, 60))
    wait_until(lambda: any("monitor.webhook-failed" in text for text in watched.said), "trouble")
    watched.watcher.close()
    (letter,) = (watched.home / "monitor" / ".alerts").glob("*.json")
    with Receiver() as receiver:
        content = json.loads(letter.read_text(encoding="utf-8"))
        letter.write_text(json.dumps({**content, "url": receiver.url}), encoding="utf-8")
        watched.watcher = watched.again()
        wait_until(lambda: bool(receiver.got), "the alert")
        watched.watcher.close()
    assert receiver.got[0]["kind"] == "drift"
    watched.registry.close()


def test_a_clock_that_jumps_back_loses_no_row_and_raises_no_alarm(watched: Watched) -> None:
    watched.step(tapped(1000, 30))
    watched.step(tapped(0, 30))
    (window,) = watched.registry.windows.list("m", "drift")
    assert not window.alarm
    assert watched.store.read().rows == 60


def test_labels_that_are_added_again_are_no_news(watched: Watched, tmp_path: Path) -> None:
    watched.step(tapped(0, 60))
    labels = tmp_path / "labels.csv"
    lines = [f"{number:016x},{number % 3}" for number in range(40)]
    labels.write_text("\n".join(["request_id,label", *lines]), encoding="utf-8")
    for _ in range(70):
        add_labels(watched.home, "m", labels, capturing=True)
    assert watched.store.count_labels() == 40
    assert len(list((watched.store.folder / "labels").glob("*.parquet"))) < 10
    assert watched.store.trim(max_bytes=200) > 0
    assert watched.store.count_labels() in (0, 40)
