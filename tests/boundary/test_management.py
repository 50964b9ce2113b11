"""What is served changes while it is served: every dialect's way to say it, and what nobody may notice."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests import serving
from tests.boundary.torchserve import Client
from tests.secure import SecureClient, make_key
from tests.serving import House, RunningServer, write_model

ROW = [1.0, 2.0, 3.0, 4.0]
REPOSITORY = "/v2/repository"


class Place(NamedTuple):
    """A server of `a`, and a model store."""

    house: House
    server: RunningServer
    client: Client
    store: Path
    model: Path


@pytest.fixture
def place(house: House, tmp_path: Path) -> Iterator[Place]:
    store = tmp_path / "store"
    for version in ("1", "2"):
        (store / "many" / version).mkdir(parents=True)
        write_model(store / "many" / version / "model.onnx", scale=float(version))
    write_model(store / "new.onnx")
    (store / "broken.onnx").write_bytes(b"no graph")
    (store / "old.mar").write_bytes(b"PK\x03\x04")
    model = write_model(tmp_path / "a.onnx")
    with house.serving(model, "--model-store", store) as server:
        yield Place(house, server, Client(server.address), store, model)


def _change(client: Client, verb: str, model: str, body: str = "") -> tuple[int, Any]:
    answer = client.ask("POST", f"{REPOSITORY}/models/{model}/{verb}", body)
    return answer.status, answer.said


def _index(client: Client, body: str = "") -> list[dict[str, str]]:
    answer = client.ask("POST", f"{REPOSITORY}/index", body)
    assert answer.status == 200
    return list(answer.said)


def _status(client: Client, model: str) -> int:
    return client.json(f"/predictions/{model}", ROW).status


def test_tritons_clients_load_and_unload(place: Place) -> None:
    client = place.client
    assert _index(client) == [
        {"name": "a", "version": "1", "state": "READY"},
        {"name": "broken"},
        {"name": "many"},
        {"name": "new"},
    ]
    assert _change(client, "unload", "a", '{"parameters":{"unload_dependents":false}}') == (
        200,
        {"name": "a", "unload": True},
    )
    assert _index(client)[0] == {
        "name": "a",
        "version": "1",
        "state": "UNAVAILABLE",
        "reason": "unloaded",
    }
    assert _index(client, '{"ready":true}') == []
    refused = client.ask("POST", "/v2/models/a/infer", serving.BODY)
    assert (refused.status, refused.said["code"]) == (404, "request.unknown-model")
    assert refused.said["error"] == "no model `a` is served: it was unloaded"
    assert client.ask("GET", "/v2/models/a/ready").status == 404
    said = client.json("/v1/models/a:predict", {"instances": [ROW]}).said
    assert said["error"] == "Servable not found for request: Latest(a)"
    assert _change(client, "unload", "a")[0] == 200, "once more is as good as once"
    assert _change(client, "load", "a", "{}") == (200, {"name": "a", "load": True})
    assert client.ask("GET", "/v2/models/a/ready").status == 200
    assert _change(client, "load", "many")[0] == 200
    assert client.ask("GET", "/v2/models/many").said["versions"] == ["1", "2"]
    for verb, model, words in (
        ("load", "nothing", "failed to load 'nothing', failed to poll from model repository"),
        ("unload", "nothing", "failed to unload 'nothing', no model of this name is known"),
    ):
        status, said = _change(client, verb, model)
        assert (status, said["error"][: len(words)]) == (404, words)
    own = '{"parameters":{"config":"{}","file:1/model.onnx":"AAAA"}}'
    assert _change(client, "load", "a", own)[1]["code"] == "wire.unsupported"
    status, said = _change(client, "load", "broken")
    assert (status, said["code"]) == (500, "formats.not-a-model")
    assert said["error"].startswith("failed to load 'broken', no version is available: version 1: ")
    assert _status(client, "broken") == 404


def test_a_file_that_changed_is_loaded_and_a_broken_one_is_not(place: Place) -> None:
    client = place.client
    before = client.json("/predictions/a", ROW).said
    good = place.model.read_bytes()
    place.model.write_bytes(b"no graph")
    status, said = _change(client, "load", "a")
    assert (status, said["code"]) == (500, "formats.not-a-model")
    assert client.json("/predictions/a", ROW).said == before, "the old one serves on"
    # What is broken of one model is no matter of another's.
    assert _change(client, "load", "new")[0] == 200
    write_model(place.model, scale=3.0)
    assert _change(client, "load", "a")[0] == 200
    after = client.json("/predictions/a", ROW).said
    assert after["probabilities"] != before["probabilities"]
    place.model.write_bytes(good)


def test_torchserves_clients_register_scale_and_unregister(place: Place) -> None:
    client = place.client

    def said(method: str, path: str) -> tuple[int, str]:
        answer = client.ask(method, path)
        return answer.status, answer.said.get("status") or answer.said["message"]

    assert said("POST", "/models?url=many&model_name=m&initial_workers=2") == (
        200,
        'Model "m" Version: 2 registered with 2 initial workers',
    )
    assert client.json("/models", {"url": "new.onnx", "initial_workers": 1}).status == 200
    assert [model["modelName"] for model in client.ask("GET", "/models").said["models"]] == [
        "a", "m", "new",
    ]  # fmt: skip
    (described,) = client.ask("GET", "/models/m").said
    assert (described["modelVersion"], len(described["workers"])) == ("2", 2)
    assert len(client.ask("GET", "/models/m/all").said) == 2
    assert said("POST", "/models?url=many&model_name=m") == (
        409,
        "Model version 2 is already registered for model m",
    )
    assert said("PUT", "/models/m/1/set-default") == (
        200,
        'Default version successfully updated for model "m" to "1"',
    )
    assert client.json("/predictions/m", ROW).headers["dukou-version"] == "1"
    assert said("DELETE", "/models/m") == (403, "Cannot remove default version for model m")
    assert said("DELETE", "/models/m/2") == (200, 'Model "m" unregistered')
    assert client.json("/predictions/m/2", ROW).status == 404
    assert said("PUT", "/models/m?min_worker=3&synchronous=true") == (
        200,
        "Workers scaled to 3 for model: m",
    )
    assert said("PUT", "/models/m/1?min_worker=0&synchronous=true") == (
        200,
        "Workers scaled to 0 for model: m, version: 1",
    )
    answer = client.json("/predictions/m", ROW)
    assert (answer.status, answer.said["type"]) == (503, "ServiceUnavailableException")
    assert answer.said["message"].startswith('Model "m" has no worker to serve inference request. ')
    (asleep,) = client.ask("GET", "/models/m/1").said
    assert (asleep["minWorkers"], asleep["workers"]) == (0, [])
    assert client.ask("GET", "/ping").status == 200
    assert said("PUT", "/models/m") == (202, "Processing worker updates...")

    def is_ready() -> bool:
        (described,) = client.ask("GET", "/models/m/1").said
        return [worker["status"] for worker in described["workers"]] == ["READY"]

    serving.wait_until(is_ready, "the worker that nobody waited for")
    assert _status(client, "m") == 200
    assert said("DELETE", "/models/m") == (200, 'Model "m" unregistered')
    assert _status(client, "m") == 404
    assert said("POST", "/models?url=new.onnx&model_name=z&initial_workers=0") == (
        200,
        'Model "z" Version: 1 registered with 0 initial workers. Use scale workers API to add workers '
        "for the model.",
    )
    assert _status(client, "z") == 503


REFUSED = {
    "no file": ("POST", "/models", 400, "BadRequestException", "Parameter url is required."),
    "not there": ("POST", "/models?url=x.mar2", 404, "ModelNotFoundException", "Model not found at: x.mar2"),
    "a path": ("POST", "/models?url=many/1", 404, "ModelNotFoundException", "Model not found at: many/1"),
    "out of it": ("POST", "/models?url=../a.onnx", 404, "ModelNotFoundException",
                  "Relative path is not allowed in url: ../a.onnx"),
    "an address": ("POST", "/models?url=http://127.0.0.1:9/m.onnx", 404, "ModelNotFoundException",
                   "Given URL http://127.0.0.1:9/m.onnx does not match any allowed URL(s)"),
    "an archive": ("POST", "/models?url=old.mar", 400, "InvalidModelException",
                   "`old.mar` is an archive with a handler"),
    "broken": ("POST", "/models?url=broken.onnx&model_name=b", 500, "InternalServerException",
               "Failed to start workers for model b version: 1: "),
    "too many": ("PUT", "/models/a?min_worker=1000", 400, "BadRequestException", "1000 workers are wanted"),
    "max below min": ("PUT", "/models/a?min_worker=3&max_worker=1", 400, "BadRequestException",
                      "max_worker cannot be less than min_worker. They are 1 and 3"),
    "nobody": ("PUT", "/models/nobody", 404, "ModelNotFoundException", "Model not found: nobody"),
    "no version": ("PUT", "/models/a/9/set-default", 404, "ModelVersionNotFoundException",
                   "Model version 9 does not exist for model a"),
    "gone": ("DELETE", "/models/nobody", 404, "ModelNotFoundException", "Model not found: nobody"),
}  # fmt: skip


def test_what_cannot_be_is_said_and_changes_nothing(place: Place) -> None:
    client = place.client
    before = _index(client)
    for name, (method, path, status, kind, words) in REFUSED.items():
        answer = client.ask(method, path)
        came = (answer.status, answer.said["type"], answer.said["message"][: len(words)])
        assert came == (status, kind, words), name
    assert _index(client) == before
    assert _status(client, "a") == 200


def test_unloading_under_load_fails_no_request_that_was_admitted(place: Place) -> None:
    client = place.client
    outcomes: Counter[tuple[int, str]] = Counter()
    stop = threading.Event()

    def ask() -> None:
        own: Counter[tuple[int, str]] = Counter()
        while not stop.is_set():
            answer = client.ask("POST", "/v2/models/a/infer", serving.BODY)
            own[answer.status, answer.said.get("code", "")] += 1
        outcomes.update(own)

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            for _ in range(10):
                assert _change(client, "unload", "a")[0] == 200
                assert _status(client, "a") == 404
                assert _change(client, "load", "a")[0] == 200
                assert _status(client, "a") == 200
        finally:
            stop.set()
        for one in asking:
            one.result()
    assert set(outcomes) <= {(200, ""), (404, "request.unknown-model")}, outcomes
    assert outcomes[200, ""] > 0


def test_changes_beside_each_other_come_one_after_the_other(place: Place) -> None:
    client = place.client
    verbs = [("load", "many"), ("unload", "many"), ("load", "a"), ("unload", "a")] * 4
    assert _change(client, "load", "many")[0] == 200
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda pair: _change(client, *pair)[0], verbs))
    assert set(done) == {200}
    for model in ("a", "many"):
        assert _change(client, "load", model)[0] == 200
        assert _status(client, model) == 200


def test_a_restart_of_the_engine_forgets_nothing(place: Place) -> None:
    client = place.client
    assert client.ask("POST", "/models?url=many&model_name=m").status == 200
    assert client.ask("PUT", "/models/m/1/set-default").status == 200
    assert _change(client, "unload", "a")[0] == 200
    engine = int(place.server.status()["engine"]["pid"])
    os.kill(engine, signal.SIGKILL)
    # Connections wait in the kernel until the next engine serves.
    answer = client.json("/predictions/m", ROW)
    assert (answer.status, answer.headers["dukou-version"]) == (200, "1")
    assert _status(client, "a") == 404
    assert int(place.server.status()["engine"]["pid"]) != engine
    assert _change(client, "load", "a")[0] == 200


def test_who_may_change_what(house: House, tmp_path: Path) -> None:
    files = [write_model(tmp_path / f"{name}.onnx") for name in ("a", "b")]
    store = tmp_path / "store"
    store.mkdir()
    write_model(store / "new.onnx")
    ask_only = make_key(house, "asks", "--role", "predict")
    of_b = make_key(house, "of-b", "--role", "manage", "--model", "b")
    of_all = make_key(house, "of-all", "--role", "manage")
    with (
        house.serving("--secure", *files, "--model-store", store) as server,
        SecureClient(server) as client,
    ):

        def ask(method: str, path: str, key: str | None, body: Any = None) -> int:
            text = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} if body is not None else {}
            return client.ask(method, path, key=key, body=text, headers=headers).status

        unload_a, load_b = f"{REPOSITORY}/models/a/unload", f"{REPOSITORY}/models/b/load"
        assert ask("POST", unload_a, None) == 401
        assert [ask("POST", unload_a, key) for key in (ask_only, of_b)] == [403, 403]
        assert ask("POST", load_b, of_b) == 200
        # A name in a body is asked for like one in a path.
        named = {"url": "new.onnx", "model_name": "b2"}
        assert ask("POST", "/models", of_b, named) == 403
        assert ask("POST", "/models?url=new.onnx&model_name=b", of_b, named) == 403
        assert ask("POST", "/models?url=new.onnx&model_name=c", of_b) == 403
        assert ask("POST", "/models", of_all, named) == 200
        assert ask("DELETE", "/models/b2", of_b) == 403
        assert ask("DELETE", "/models/b2", of_all) == 200
        index = client.ask("POST", f"{REPOSITORY}/index", key=of_b)
        assert json.loads(index.body) == [{"name": "b", "version": "1", "state": "READY"}]
    lines = [
        json.loads(line)
        for log in (house.home / "logs").glob("access-*.jsonl")
        for line in log.read_text().splitlines()
    ]
    registered = [
        line for line in lines if line["operation"] == "register" and line["status"] == 200
    ]
    assert [(line["principal"], line["dialect"]) for line in registered] == [
        ("of-all", "torchserve")
    ]
    assert any(
        line["operation"] == "unload" and line["model"] == "a" and line["status"] == 403
        for line in lines
    )


def test_nobody_manages_a_port_for_anybody(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "a.onnx")
    with house.serving("--insecure", "--host", "0.0.0.0", model) as server:
        client = Client(server.address)
        assert _change(client, "unload", "a")[0] == 403
        assert client.ask("DELETE", "/models/a").status == 403
        assert client.ask("POST", "/models?url=x.onnx").status == 403
        assert _status(client, "a") == 200
