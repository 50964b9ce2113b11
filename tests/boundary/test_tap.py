"""The tap by the local API of a real engine: what callers sent and got, as Arrow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from tests.registry_house import move_alias, publish
from tests.serving import exchange, house, wait_until

from dukou.registry.registry import Registry
from dukou.serve.local_api import LocalApi

KEPT = {"name": "chain", "capture": {}, "privacy": {"fields": {"x": "keep"}}}
DEPLOYMENT = {"version": 1, "name": "chain", "models": [KEPT]}


def test_what_callers_sent_and_got_is_in_the_tap_and_nowhere_else_when_nobody_asks(
    tmp_path: Path,
) -> None:
    with house() as place:
        publish(place, tmp_path, seed=1)
        move_alias(place, 1)
        with Registry.open(place.home) as registry:
            registry.put_deployment("chain", DEPLOYMENT, expected=0)
        with place.serving("chain") as server:
            api = LocalApi(Path(server.facts["socket"]))
            api.tap()
            rows = np.arange(8, dtype=np.float32).reshape(2, 4)
            tensor = {
                "name": "x",
                "datatype": "FP32",
                "shape": [2, 4],
                "data": rows.ravel().tolist(),
            }
            body = json.dumps({"id": "mine", "inputs": [tensor]})
            status, answer, headers = exchange(
                server.address, "POST", "/v2/models/chain/infer", body
            )
            assert status == 200
            stream = bytearray()
            wait_until(lambda: bool(stream.extend(api.tap()) or stream), "the tap")
            table = pa.ipc.open_stream(bytes(stream)).read_all()
            assert api.tap() == b""
            assert str(table.schema.field("time").type) == "timestamp[ms, tz=UTC]"
            sent, got = table.to_pylist()
            assert (sent["direction"], got["direction"]) == ("input", "output")
            for row in (sent, got):
                assert row["request_id"] == headers["dukou-request-id"]
                assert row["client_id"] == "mine"
                assert (row["model"], row["version"], row["arm"]) == ("chain", "1", "main")
            assert sent["shape"] == [2, 4]
            assert np.array_equal(np.frombuffer(sent["bytes"], "<f4").reshape(2, 4), rows)
            said = np.array(answer["outputs"][0]["data"], np.float32)
            assert np.allclose(np.frombuffer(got["bytes"], "<f4"), said)
            assert api.state()["tap"] == {"buffered_bytes": 0, "captured": 1, "dropped": 0}
        with Registry.open(place.home) as registry:
            registry.put_deployment(
                "chain", {**DEPLOYMENT, "models": [{"name": "chain"}]}, expected=1
            )
        with place.serving("chain") as server:
            exchange(server.address, "POST", "/v2/models/chain/infer", body)
            assert LocalApi(Path(server.facts["socket"])).state()["tap"]["captured"] == 0
