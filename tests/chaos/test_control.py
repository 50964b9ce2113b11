"""Control follows the registry under load, dies unnoticed, and keeps the old table where the new one fails."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.registry_house import move_alias, publish
from tests.serving import House, Load, RunningServer, is_gone, wait_until

from dukou.registry.registry import Registry


def test_a_moved_alias_is_followed_without_losing_a_request(house: House, tmp_path: Path) -> None:
    for seed in (1, 2):
        publish(house, tmp_path, seed=seed)
    move_alias(house, 1)
    with (
        house.serving("chain") as server,
        Load(server.address, "chain", clients=4, keep=True) as load,
    ):
        load.more(100)
        for number in (2, 1, 2):
            move_alias(house, number)
            before = load.versions[str(number)]
            wait_until(
                lambda n=str(number), b=before: load.versions[n] > b + 50,  # type: ignore[misc]
                f"answers of version {number}",
            )
        load.stop()
    outcomes = dict(load.outcomes)
    assert outcomes.pop("ok") > 250
    assert outcomes == {}
    assert set(load.versions) == {"1", "2"}


def test_a_killed_control_is_not_noticed_and_comes_back(house: House, tmp_path: Path) -> None:
    for seed in (1, 2):
        publish(house, tmp_path, seed=seed)
    with (
        house.serving("chain:1", "--name", "one") as server,
        Load(server.address, "one", clients=4, keep=True) as load,
    ):
        load.more(100)
        sequence = server.status()["state"]["sequence"]
        for count in (1, 2):
            control = server.status()["control"]["pid"]
            os.kill(control, signal.SIGKILL)
            wait_until(lambda dead=control: is_gone(dead), "control's end")  # type: ignore[misc]
            load.more(100)
            wait_until(lambda n=count: server.status()["control"]["restarts"] >= n, "a restart")  # type: ignore[misc]
        wait_until(lambda: server.status()["control"]["pid"] is not None, "control")
        load.stop()
        # A right table is left alone.
        assert server.status()["state"]["sequence"] == sequence
    outcomes = dict(load.outcomes)
    assert outcomes.pop("ok") > 200
    assert outcomes == {}


def test_servers_of_one_registry_say_the_same_revision_of_the_same(
    house: House, tmp_path: Path
) -> None:
    for seed in (1, 2):
        publish(house, tmp_path, seed=seed)
    move_alias(house, 1)

    def said(server: RunningServer) -> tuple[int, str]:
        headers = server.ask("chain")[2]
        return int(headers["dukou-revision"].removeprefix("r")), headers["dukou-version"]

    seen: dict[int, str] = {}
    with house.serving("chain") as one:
        first, version = said(one)
        with house.serving("chain") as other:
            assert said(other) == (first, version) == (first, "1")
            for number in (2, 1):
                move_alias(house, number)
                for server in (one, other):
                    wait_until(
                        lambda s=server, n=number: said(s)[1] == str(n),  # type: ignore[misc]
                        f"version {number}",
                    )
                assert said(one) == said(other)
                assert said(one)[0] > max(seen, default=first)
                seen[said(one)[0]] = str(number)
        last = said(one)
        # Nothing that happened elsewhere, and no restart, is another revision.
        with Registry.open(house.home) as registry:
            registry.add_event("something", "else", {})
        with house.serving("chain") as again:
            assert said(again) == last == said(one)


def test_a_version_that_is_damaged_keeps_the_old_one_and_is_told(
    house: House, tmp_path: Path
) -> None:
    publish(house, tmp_path, seed=1)
    move_alias(house, 1)
    with house.serving("chain") as server:
        bad = publish(house, tmp_path, seed=2)
        graph = next(
            layer["digest"]
            for layer in bad.manifest["layers"]
            if layer["mediaType"].endswith("onnx")
        )
        blob = house.home / "store" / "blobs" / "sha256" / graph.removeprefix("sha256:")
        whole = blob.read_bytes()
        blob.chmod(0o600)
        blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        move_alias(house, 2)
        wait_until(lambda: server.status()["trouble"] is not None, "the trouble")
        trouble = server.status()["trouble"]
        assert trouble["code"] == "package.digest-mismatch"
        assert "chain:2" in trouble["message"]
        assert "[package.digest-mismatch]" in house.dukou("status").stdout
        assert server.ask("chain")[2]["dukou-version"] == "1"
        # Mended by hand: another change of the registry has it tried again at once.
        blob.write_bytes(whole)
        move_alias(house, 2, alias="mended")
        wait_until(lambda: server.ask("chain")[2]["dukou-version"] == "2", "version 2")
        wait_until(lambda: server.status()["trouble"] is None, "no trouble")
        status, stderr = server.end()
    assert status == 0
    assert "the table is kept as it is" in stderr


def test_an_untrusted_signature_is_not_served(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=1)
    for key in (house.home / "trust").iterdir():
        key.unlink()
    done = house.dukou("serve", "chain", "--port", "0", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["code"] in ("trust.unknown-key", "trust.unsigned")


def test_what_the_registry_does_not_have(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=1)
    for words, code in [
        (["chian"], "registry.unknown-model"),
        (["chain:7"], "registry.unknown-version"),
        (["chain@nobody"], "registry.unknown-version"),
    ]:
        done = house.dukou("serve", *words, "--port", "0")
        assert done.returncode == 3, done.stderr
        assert f"[{code}]" in done.stderr
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 2, done.stderr


def test_a_deployment_in_the_registry_is_served_and_followed(house: House, tmp_path: Path) -> None:
    for seed in (1, 2):
        publish(house, tmp_path, seed=seed)
    arms = [{"arm": "main", "version": 1}, {"arm": "canary", "version": 2, "weight": 0}]
    document = {"name": "shop", "models": [{"name": "c", "model": "chain", "traffic": arms}]}
    with Registry.open(house.home) as registry:
        registry.put_deployment("shop", document, expected=0)
    with house.serving("shop") as server:
        assert server.ask("c")[2]["dukou-version"] == "1"
        assert server.ask("c", version="2")[2]["dukou-version"] == "2"
        document["models"][0]["traffic"] = [{"arm": "main", "version": 2}]  # type: ignore[index]
        with Registry.open(house.home) as registry:
            registry.put_deployment("shop", document, expected=1)
        wait_until(lambda: server.ask("c")[2]["dukou-version"] == "2", "version 2")
        assert server.ask("c", version="1")[0] == 404
