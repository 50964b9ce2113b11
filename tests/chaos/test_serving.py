"""Processes are killed while requests come: what is lost is what was in flight, and no more."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.serving import House, Load, exchange, is_gone, wait_until, write_model


@pytest.mark.parametrize("keep", [False, True], ids=["a connection a request", "kept connections"])
def test_killing_the_engine_loses_only_what_is_in_flight(
    house: House, tmp_path: Path, keep: bool
) -> None:
    clients, kills = 6, 3
    model = write_model(tmp_path / "m.onnx")
    with (
        house.serving(model) as server,
        Load(server.address, "m", clients=clients, keep=keep) as load,
    ):
        load.more(200)
        for _ in range(kills):
            engine = server.status()["engine"]["pid"]
            os.kill(engine, signal.SIGKILL)
            wait_until(lambda dead=engine: is_gone(dead), "the engine's end")  # type: ignore[misc]
            load.more(200)
        load.stop()
        status = server.status()
    assert status["engine"]["restarts"] == kills
    outcomes = dict(load.outcomes)
    assert outcomes.pop("ok") > 200 * kills
    # Each client has at most one request in flight at each kill.
    assert outcomes.pop("lost", 0) <= clients * kills
    assert outcomes == {}


def test_sigterm_under_load_answers_what_it_took(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    with house.serving(model) as server, Load(server.address, "m", clients=6, keep=True) as load:
        load.more(300)
        engine = server.status()["engine"]["pid"]
        status, stderr = server.end(signal.SIGTERM)
        wait_until(lambda: load.outcomes["refused"] > 0, "the first refusal")
        load.stop()
    assert status == 0
    assert stderr == ""
    assert is_gone(engine)
    outcomes = dict(load.outcomes)
    del outcomes["refused"]
    assert outcomes.pop("ok") > 300
    assert outcomes == {}, "a request that was taken was not answered"


def test_a_killed_supervisor_takes_its_engine_along(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    with house.serving(model) as server:
        engine = server.status()["engine"]["pid"]
        server.end(signal.SIGKILL)
        wait_until(lambda: is_gone(engine), "the engine's end")
        with pytest.raises(ConnectionRefusedError):
            exchange(server.address, "GET", "/v2/health/live")
    # What it left is swept, and its port is free.
    assert house.dukou("status").stdout.startswith("no dukou server")
    assert list(Path(house.environment["XDG_RUNTIME_DIR"], "dukou").iterdir()) == []
    assert list((house.home / "servers").iterdir()) == []
    with house.serving(model, port=server.address[1]) as again:
        assert again.ask("m")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_a_server_well(house: House, tmp_path: Path, number: int) -> None:
    with house.serving(write_model(tmp_path / "m.onnx")) as server:
        engine = server.status()["engine"]["pid"]
        status, stderr = server.end(number)
    assert (status, stderr) == (0, "")
    assert is_gone(engine)
    assert list(Path(house.environment["XDG_RUNTIME_DIR"], "dukou").iterdir()) == []


def test_an_engine_that_cannot_stay_up_is_tried_ever_more_slowly(
    house: House, tmp_path: Path
) -> None:
    """The model's file is gone and the table's last copy is broken: the server stays, and says so."""
    model = write_model(tmp_path / "m.onnx")
    with house.serving(model) as server:
        model.unlink()
        os.kill(server.status()["engine"]["pid"], signal.SIGKILL)
        wait_until(lambda: server.status()["engine"]["restarts"] >= 1, "a restart")
        wait_until(lambda: server.status()["state"] is not None, "an engine")
        write_model(model)
        os.kill(server.status()["engine"]["pid"], signal.SIGKILL)
        wait_until(lambda: server.ask("m")[0] == 200, "an answer")
