"""Documents that say models of several kinds: what is served, what is seen of it, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.registry_house import move_alias, publish
from tests.serving import BODY, House, RunningServer, exchange, wait_until, write_model

from dukou.serve.local_api import LocalApi

TRACE = "0af7651916cd43dd8448eb211c80319c"


def write_chain(folder: Path, replica: str) -> Path:
    """`scorer` far away, `near` a file, and three graphs of them."""
    document = folder / "services.toml"
    document.write_text(
        f"""
name = "services"
[[models]]
name = "scorer"
[models.remote]
replicas = ["{replica}"]
model = "m"
[[models]]
name = "near"
file = "near.onnx"
[[models]]
name = "committee"
[models.graph]
nodes = [
  {{ name = "a", model = "scorer" }},
  {{ name = "b", model = "near" }},
  {{ name = "mean", ensemble = ["a.probabilities", "b.probabilities"], combine = "mean" }},
  {{ name = "vote", ensemble = ["a.label", "b.label"], combine = "vote" }},
]
outputs = {{ probabilities = "mean", label = "vote" }}
[[models]]
name = "chosen"
[models.graph]
nodes = [{{ name = "way", switch = "input.kind", cases = {{ far = "scorer", here = "near" }} }}]
outputs = "way"
"""
    )
    return document


def probabilities(answer: tuple[int, dict[str, Any], dict[str, str]]) -> list[float]:
    status, document, _ = answer
    assert status == 200, document
    data = next(o["data"] for o in document["outputs"] if o["name"] == "probabilities")
    return [float(number) for number in data]


def lines_of(server: RunningServer) -> list[dict[str, Any]]:
    log = Path(server.status()["access_log"])
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_services_an_ensemble_and_a_switch(house: House, tmp_path: Path) -> None:
    write_model(tmp_path / "near.onnx", scale=0.1)
    with (
        house.serving(write_model(tmp_path / "m.onnx", scale=0.5)) as far,
        house.serving(write_chain(tmp_path, far.url)) as server,
    ):
        one, two = probabilities(far.ask("m")), probabilities(server.ask("near"))
        assert probabilities(server.ask("scorer")) == pytest.approx(one)
        mean = [(a + b) / 2 for a, b in zip(one, two, strict=True)]
        assert probabilities(server.ask("committee")) == pytest.approx(mean, rel=1e-5)

        def choose(kind: str) -> tuple[int, dict[str, Any], dict[str, str]]:
            body = json.loads(BODY)
            kinds = {"name": "kind", "datatype": "BYTES", "shape": [1], "data": [kind]}
            return server.ask("chosen", json.dumps({"inputs": [*body["inputs"], kinds]}))

        assert probabilities(choose("far")) == pytest.approx(one)
        assert probabilities(choose("here")) == pytest.approx(two)
        status, refused, _ = choose("nowhere")
        assert (status, refused["code"]) == (400, "graph.mismatch")
        assert refused["error"] == "node `way`: `nowhere` is none of its cases `far`, `here`"
        shown = house.dukou("status").stdout
        assert "committee:graph" in shown and f"scorer at {far.url}" in shown
        (row,) = LocalApi(Path(server.facts["socket"])).state()["replicas"]
        assert (row["model"], row["replica"], row["healthy"]) == ("scorer", far.url, True)
        assert row["requests"] == 3


def test_one_trace_stands_in_every_log(house: House, tmp_path: Path) -> None:
    write_model(tmp_path / "near.onnx")
    with (
        house.serving(write_model(tmp_path / "m.onnx")) as far,
        house.serving(write_chain(tmp_path, far.url)) as server,
    ):
        import http.client

        connection = http.client.HTTPConnection(*server.address, timeout=30)
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        connection.request("POST", "/v2/models/committee/infer", BODY, headers)
        response = connection.getresponse()
        assert response.status == 200
        assert response.getheader("traceparent") is None
        connection.close()
        for each, model in ((server, "committee"), (far, "m")):

            def named(each: RunningServer = each, model: str = model) -> bool:
                return any(
                    line.get("trace") == TRACE and line.get("model") == model
                    for line in lines_of(each)
                )

            wait_until(named, f"the trace in the log of `{model}`")


def test_a_document_with_the_registry_is_followed(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=1)
    publish(house, tmp_path, seed=2)
    move_alias(house, 1)
    document = tmp_path / "shop.json"
    chain: dict[str, Any] = {"name": "chain"}
    twice = {"name": "alone", "graph": {"sequence": ["chain"]}}
    document.write_text(json.dumps({"name": "shop", "models": [chain, twice]}))
    with house.serving(document) as server:
        first = server.ask("alone")
        assert first[0] == 200, first
        assert first[1]["outputs"] == server.ask("chain")[1]["outputs"]
        # The alias moves: the graph's part with it.
        move_alias(house, 2)
        wait_until(
            lambda: server.ask("alone")[1]["outputs"] != first[1]["outputs"], "version 2 in it"
        )
        # The file changes: what it says now is served.
        document.write_text(
            json.dumps({"name": "shop", "models": [{**chain, "name": "other", "model": "chain"}]})
        )
        wait_until(lambda: server.ask("other")[0] == 200, "the changed document")
        assert server.ask("alone")[1]["code"] == "request.unknown-model"
        # What cannot be read changes nothing.
        document.write_text("{")
        wait_until(lambda: (_trouble(server) or {}).get("code") == "deploy.invalid", "the trouble")
        assert server.ask("other")[0] == 200


def _trouble(server: RunningServer) -> dict[str, Any] | None:
    trouble: dict[str, Any] | None = server.status()["trouble"]
    return trouble


MODEL = '[[models]]\nname = "near"\nfile = "near.onnx"\n'
BAD = {
    "not TOML": ("name =", r"^error: `.*bad\.toml` is not TOML: ", "deploy.invalid"),
    "a mistyped key": (
        '[[models]]\nname = "m"\nremotes = {}\n',
        r"`models\.0\.remotes` is not a key that dukou knows.*\nhint: did you mean `remote`\?",
        "deploy.invalid",
    ),
    "a replica without a scheme": (
        '[[models]]\nname = "m"\nremote.replicas = ["10.0.0.7:80"]\n',
        r"`models\.0\.remote\.replicas\.0`: `10\.0\.0\.7:80` is not an address such as",
        "deploy.invalid",
    ),
    "a file that is not there": (
        '[[models]]\nname = "m"\nfile = "nowhere.onnx"\n',
        r"`models\.0\.file`: there is no file `.*nowhere\.onnx`",
        "deploy.invalid",
    ),
    "a graph of nothing": (
        MODEL + '[[models]]\nname = "g"\ngraph.sequence = ["near", "nowhere"]\n',
        r"node `nowhere` asks model `nowhere`, and this table serves `g`, `near`",
        "deploy.invalid",
    ),
    "a circle": (
        MODEL + '[[models]]\nname = "g"\ngraph.sequence = ["g"]\n',
        r"the graphs `g` → `g` use each other",
        "deploy.invalid",
    ),
    "what does not fit": (
        MODEL + '[[models]]\nname = "g"\ngraph.sequence = ["near", "near"]\n',
        r"node `near-2`: model `near` takes `x`, and node `near` gives `label`, `probabilities`",
        "graph.mismatch",
    ),
    "nobody there": (
        '[[models]]\nname = "m"\nremote.replicas = ["http://127.0.0.1:1"]\n',
        r"no replica of `/v2/models/m` can be asked \(`http://127\.0\.0\.1:1`: connection refused\)",
        "replica.unavailable",
    ),
    "a model of the registry that is not there": (
        '[[models]]\nname = "nobody"\n',
        r"models\.0\.traffic\.0 names `nobody`",
        "deploy.invalid",
    ),
}


@pytest.mark.parametrize(("text", "words", "code"), BAD.values(), ids=BAD)
def test_a_bad_document_is_one_sentence_with_its_place(
    house: House, tmp_path: Path, text: str, words: str, code: str
) -> None:
    write_model(tmp_path / "near.onnx")
    document = tmp_path / "bad.toml"
    document.write_text(f'name = "bad"\n{text}' if "=" in text[6:] else text)
    done = house.dukou("serve", document, "--port", "0")
    assert done.returncode != 0
    assert done.stdout == ""
    said = done.stderr.strip()
    assert "Traceback" not in said
    assert re.search(words, said), said
    assert code in said


def test_words_that_name_no_document(house: House, tmp_path: Path) -> None:
    missing = house.dukou("serve", tmp_path / "gone.toml")
    assert missing.returncode == 2 and "there is nothing at" in missing.stderr
    document = tmp_path / "services.toml"
    document.write_text('name = "s"\n[[models]]\nname = "m"\nfile = "near.onnx"\n')
    named = house.dukou("serve", document, "--name", "other")
    assert named.returncode == 2
    assert "is a deployment, whose models have names of their own" in named.stderr
    (tmp_path / "dukou.toml").write_text('[model]\nname = "x"\n')
    project = house.dukou("serve", tmp_path / "dukou.toml", "--port", "0")
    assert project.returncode == 2
    assert "`dukou serve FOLDER` serves the project" in project.stderr


def test_a_gateway_says_what_it_cannot_reach(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    document = tmp_path / "g.toml"
    with house.serving(model) as replica:
        document.write_text(
            f'name = "g"\n[[models]]\nname = "m"\nremote.replicas = ["{replica.url}"]\n'
        )
        with house.serving(document) as gateway:
            assert gateway.ask("m")[0] == 200
            replica.end()
            status, refused, headers = gateway.ask("m")
            assert (status, refused["code"]) in {
                (502, "replica.lost"),
                (503, "replica.unavailable"),
            }
            assert replica.url in refused["error"]
            assert "dukou-revision" not in headers
            assert exchange(gateway.address, "GET", "/v2/health/ready")[0] == 200


def test_replicas_behind_tls_and_keys(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    document = tmp_path / "g.toml"
    with house.serving(model, "--secure") as replica:
        made = house.dukou("keys", "add", "gateway", "--json")
        assert made.returncode == 0, made.stderr
        (tmp_path / "replicas.key").write_text(json.loads(made.stdout)["key"] + "\n")
        remote = {
            "replicas": [replica.url],
            "ca_file": replica.facts["certificate"],
            "key_file": "replicas.key",
        }
        # Over HTTP/1.1 and over HTTP/2.
        dialects = ("v2", "tensorflow", "v2-grpc", "tensorflow-grpc")
        models = [
            {"name": dialect, "remote": {**remote, "dialect": dialect, "model": "m"}}
            for dialect in dialects
        ]
        document.with_suffix(".json").write_text(json.dumps({"name": "g", "models": models}))
        with house.serving(document.with_suffix(".json")) as gateway:
            for dialect in dialects:
                status, answer, headers = gateway.ask(dialect)
                assert (status, headers["dukou-version"]) == (200, "1"), answer
