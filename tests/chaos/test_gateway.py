"""A gateway before three engines: one is killed under load; a change rolls through all of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.serving import BODY, House, RunningServer, exchange, wait_until, write_model

from dukou.serve.find import find_load
from dukou.serve.local_api import LocalApi

REPLICAS = 3


@contextlib.contextmanager
def gateway_over(
    house: House, folder: Path, replicas: list[RunningServer]
) -> Iterator[RunningServer]:
    document = folder / "gateway.toml"
    urls = json.dumps([replica.url for replica in replicas])
    document.write_text(
        f'name = "gateway"\n[[models]]\nname = "m"\n[models.remote]\nreplicas = {urls}\n'
    )
    with house.serving(document) as gateway:
        yield gateway


@contextlib.contextmanager
def three(house: House, model: Path) -> Iterator[list[RunningServer]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(house.serving(model, "--name", "m", "--threads", "1"))
            for _ in range(REPLICAS)
        ]


def rows_of(api: LocalApi) -> list[dict[str, Any]]:
    rows = api.state()["replicas"]
    assert len(rows) == REPLICAS
    return rows


def test_a_replica_killed_under_load_is_hardly_noticed(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    body = tmp_path / "body.json"
    body.write_text(BODY)
    with three(house, model) as replicas, gateway_over(house, tmp_path, replicas) as gateway:
        api = LocalApi(Path(gateway.facts["socket"]))
        load = subprocess.Popen(
            [
                *(find_load(), f"{gateway.url}/v2/models/m/infer", "--body", body),
                *("--connections", "8", "--duration", "13"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            shares = _shares_of_a_while(api)
            before = [row["requests"] for row in rows_of(api)]
            # Both die: the supervisor, which would start it again, and the engine that answers.
            engine = replicas[0].status()["engine"]["pid"]
            os.kill(replicas[0].process.pid, signal.SIGKILL)
            os.kill(engine, signal.SIGKILL)
            killed = time.monotonic()
            out = [row["replica"] for row in _until_one_is_out(api)]
            took = time.monotonic() - killed
            report = json.loads(load.communicate(timeout=40)[0])
        finally:
            load.kill()
            load.communicate()
        rows = rows_of(api)
    measured = report["measured"]
    assert measured["failed"] + measured["unsent"] <= 0.005 * measured["sent"], measured
    assert out == [replicas[0].url]
    assert took < 2.0
    assert max(shares) / min(shares) <= 1.3, shares
    assert all(row["requests"] > asked for row, asked in zip(rows[1:], before[1:], strict=True))


def _shares_of_a_while(api: LocalApi) -> list[int]:
    """What each was asked in three seconds of load, at the most even of up to three such whiles. Within
    moments the shares swing: who has just been slow is left alone, and a replica's first answer is slow, as is
    one whose processor somebody else has."""

    def asked() -> list[int]:
        return [row["requests"] for row in rows_of(api)]

    def a_while() -> list[int]:
        first, since = asked(), time.monotonic()
        wait_until(lambda: time.monotonic() > since + 3.0 and sum(asked()) > 1500, "some load")
        return [now - then for now, then in zip(asked(), first, strict=True)]

    def unevenness(shares: list[int]) -> float:
        return max(shares) / max(min(shares), 1)

    wait_until(lambda: sum(asked()) > 500, "the first answers")
    best = a_while()
    for _ in range(2):
        if unevenness(best) > 1.3:
            best = min(best, a_while(), key=unevenness)
    return best


def _until_one_is_out(api: LocalApi) -> list[dict[str, Any]]:
    def ill() -> list[dict[str, Any]]:
        return [row for row in rows_of(api) if not row["healthy"]]

    wait_until(lambda: bool(ill()), "the killed one is out", timeout_s=10)
    return ill()


def test_a_change_that_rolls_through_is_seen_once_by_every_caller(
    house: House, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m.onnx")
    last = 6
    with three(house, model) as replicas:
        apis = [LocalApi(Path(replica.facts["socket"])) for replica in replicas]
        for api in apis:
            _put(api, 1)
        with gateway_over(house, tmp_path, replicas) as gateway:
            callers = [_Caller(gateway) for _ in range(4)]
            for caller in callers:
                caller.start()
            try:
                for revision in range(2, last + 1):
                    for api in apis:
                        _put(api, revision)
                        for caller in callers:
                            caller.more(3)
                watch = LocalApi(Path(gateway.facts["socket"]))
                wait_until(
                    lambda: all(r["revision"] == f"r{last}" for r in rows_of(watch)),
                    "all have followed",
                )
                for caller in callers:
                    caller.more(3)
            finally:
                for caller in callers:
                    caller.stop()
    for caller in callers:
        assert caller.wrong == []
        assert caller.seen == sorted(caller.seen)
        assert caller.seen[-1] == last


def _put(api: LocalApi, revision: int) -> None:
    table = api.table()
    assert table is not None
    sequence = int(table["sequence"]) + 1
    api.put_table({**table, "revision": f"r{revision}", "sequence": sequence})


class _Caller(threading.Thread):
    """Asks again and again, on connections of its own, and notes which revision answered."""

    def __init__(self, gateway: RunningServer) -> None:
        super().__init__()
        self._address = gateway.address
        self._ending = threading.Event()
        self.seen: list[int] = []
        self.wrong: list[object] = []

    def run(self) -> None:
        while not self._ending.is_set():
            status, document, headers = exchange(self._address, "POST", "/v2/models/m/infer", BODY)
            if status != 200:
                self.wrong.append(document)
                return
            self.seen.append(int(headers["dukou-revision"].removeprefix("r")))

    def more(self, count: int) -> None:
        wanted = len(self.seen) + count
        wait_until(lambda: len(self.seen) >= wanted or bool(self.wrong), "more answers")

    def stop(self) -> None:
        self._ending.set()
        self.join(30)
        assert not self.is_alive()
