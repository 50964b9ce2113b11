"""A place on this machine: real servers, started, started again, let go, ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from tests.serving import exchange, is_gone, write_model

from dukou.base.errors import DukouError
from dukou.fleet.local import LocalPlace
from dukou.fleet.replica import FleetOrder, Replica


@pytest.fixture
def order(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FleetOrder:
    folder = tmp_path_factory.mktemp("f")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    made = FleetOrder("m", str(write_model(folder / "m.onnx")), 2, folder / "home")
    made.folder.mkdir(parents=True)
    return made


@pytest.fixture
def place(order: FleetOrder) -> Iterator[LocalPlace]:
    made = LocalPlace(order)
    yield made
    made.kill()


def until(place: LocalPlace, count: int) -> tuple[list[Replica], list[str]]:
    """Steps it until so many answer."""
    said: list[str] = []
    deadline = time.monotonic() + 40
    while True:
        said += place.step(time.monotonic())
        answering = [replica for replica in place.replicas() if replica.url is not None]
        if len(answering) == count:
            return place.replicas(), said
        assert time.monotonic() < deadline, place.replicas()
        time.sleep(0.01)


def test_replicas_come_are_started_again_and_go(place: LocalPlace) -> None:
    place.scale(2)
    replicas, said = until(place, 2)
    assert said == []
    assert [r.name for r in replicas] == ["replica-1", "replica-2"]
    assert all(r.models == ("m",) and not r.leaving and r.restarts == 0 for r in replicas)
    for replica in replicas:
        port = int(str(replica.url).rpartition(":")[2])
        assert exchange(("127.0.0.1", port), "GET", "/v2/health/ready")[0] == 200
    first = replicas[0]
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    until(place, 1)
    replicas, said = until(place, 2)
    assert replicas[0].restarts == 1 and replicas[0].pid != first.pid
    place.scale(1)
    leaving = place.replicas()[1]
    assert leaving.leaving and leaving.url is not None
    place.let_go("replica-2")
    assert [r.name for r in place.replicas()] == ["replica-1"]
    place.drain()
    deadline = time.monotonic() + 40
    while not place.is_empty():
        assert time.monotonic() < deadline
        assert place.step(time.monotonic()) == []
        time.sleep(0.01)
    assert leaving.pid is not None and is_gone(leaving.pid)


def test_what_cannot_be_served_is_the_replicas_own_error(order: FleetOrder) -> None:
    place = LocalPlace(order._replace(model=f"{order.home}/nothing.onnx"))
    place.scale(1)
    try:
        with pytest.raises(DukouError) as caught:
            until(place, 1)
    finally:
        place.kill()
    assert caught.value.code == "formats.not-found"
