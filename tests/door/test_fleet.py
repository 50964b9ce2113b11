"""`dukou fleet`: what it says, what it refuses, and that it carries a deployment's profile out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.registry_house import publish
from tests.serving import House, wait_until, write_model

from dukou.registry.registry import Registry


@pytest.mark.parametrize(
    ("words", "status", "code", "names"),
    [
        (["up", "nobody"], 3, "registry.unknown-model", "`nobody`"),
        (["up", "./nothing.onnx"], 2, "formats.not-found", "nothing.onnx"),
        (["up", "a/b:c"], 2, "formats.not-found", "a/b:c"),
        (["up", "m", "--replicas", "0"], 2, "usage.invalid", "`--replicas` is 0"),
        (["up", "m", "--address", "x:1"], 2, "usage.invalid", "`--ray`"),
        (["up", "m", "--secure", "--insecure"], 2, "usage.invalid", "contradict"),
        (["up", "m", "--ray", "--address", "127.0.0.1:1"], 6, "fleet.no-cluster", "127.0.0.1:1"),
        (["status", "nobody"], 3, "fleet.not-running", "`nobody`"),
        (["scale", "nobody", "2"], 3, "fleet.not-running", "`nobody`"),
        (["scale", "nobody", "0"], 2, "usage.invalid", "between 1 and 256"),
        (["down", "nobody"], 3, "fleet.not-running", "`nobody`"),
    ],
)
def test_what_is_refused(
    house: House, words: list[str], status: int, code: str, names: str
) -> None:
    done = house.dukou("fleet", *words)
    assert done.returncode == status, done.stderr
    assert f"[{code}]" in done.stderr and names in done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert done.stdout == ""


def test_nothing_runs(house: House) -> None:
    done = house.dukou("fleet", "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "`dukou fleet up MODEL` starts one" in done.stdout
    assert json.loads(house.dukou("fleet", "status", "--json").stdout) == {"fleets": []}


def test_refused_as_json(house: House) -> None:
    done = house.dukou("fleet", "up", "nobody", "--json")
    assert done.returncode == 3
    said = json.loads(done.stdout)
    assert (said["event"], said["code"]) == ("error", "registry.unknown-model")


def test_a_deployment_says_how_many(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=1)
    document = {
        "name": "chain",
        "profile": "distributed",
        "replicas": 2,
        "memory_bytes": 1 << 30,
        "models": [{"name": "chain", "run": {"instances": 1, "threads": 2}}],
    }
    with Registry.open(house.home) as registry:
        registry.put_deployment("chain", document, expected=0)
    ready = tmp_path / "ready.json"
    with house.fleet("chain", "--ready-file", ready) as fleet:
        assert json.loads(ready.read_text())["url"] == fleet.url
        assert [r["name"] for r in fleet.facts["replicas"]] == ["replica-1", "replica-2"]
        wait_until(lambda: fleet.healthy() == 2, "two healthy replicas")
        assert fleet.ask("chain")[0] == 200
        status = fleet.status()
        revisions = {replica["revision"] for replica in status["replicas"]}
        assert len(revisions) == 1 and fleet.ask("chain")[2]["dukou-revision"] in revisions
        assert status["memory_bytes"] == 1 << 30
        assert all(replica["rss_bytes"] > 0 for replica in status["replicas"])
        shown = house.dukou("fleet", "status").stdout
        assert shown.startswith(f"chain at {fleet.url}: 2 of 2 replicas healthy\n")
        assert shown.count("healthy") == 3 and "replica-2" in shown
        # A replica is a part of what carries the profile out; the gateway is what is asked by name.
        servers = json.loads(house.dukou("status", "--json").stdout)["servers"]
        parts = {s["replica_of"] for s in servers if s["replica_of"]}
        assert parts == {"chain/replica-1", "chain/replica-2"}
        assert all(s["unplaced"] == [] for s in servers)
        answered = house.dukou("predict", "chain", "[[1, 2, 3, 4]]")
        assert answered.returncode == 0, answered.stderr
        # A second one of the same name is refused.
        again = house.dukou("fleet", "up", "chain", "--port", "0")
        assert again.returncode == 3 and "[fleet.running]" in again.stderr
        done = house.dukou("fleet", "down", "chain")
        assert (done.returncode, done.stdout) == (0, "`chain` has ended\n"), done.stderr
        assert fleet.process.wait(10) == 0
    assert json.loads(house.dukou("status", "--json").stdout)["servers"] == []


def test_a_file_by_a_name_of_its_own_behind_keys(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    with house.fleet(model, "--name", "shop", "--replicas", "1", "--secure") as fleet:
        assert fleet.url.startswith("https://")
        assert fleet.facts["key"].startswith("dk_") and Path(fleet.facts["certificate"]).is_file()
        words = ("predict", "m", "[[1, 2, 3, 4]]", "--url", fleet.url)
        house.environment["DUKOU_CACERT"] = fleet.facts["certificate"]
        refused = house.dukou(*words)
        assert refused.returncode == 4, refused.stderr
        house.environment["DUKOU_KEY"] = fleet.facts["key"]
        assert house.dukou(*words).returncode == 0
        assert house.dukou("fleet", "down", "shop").returncode == 0
