"""The prediction cache by real servers: who is told what, and what is shown of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.registry_house import move_alias, publish
from tests.secure import SecureClient, make_key
from tests.serving import BODY, exchange, house, write_model

from dukou.registry.registry import Registry

DEPLOYMENT = {"version": 1, "name": "chain", "models": [{"name": "chain", "cache": {}}]}


def test_two_principals_never_share_an_answer(tmp_path: Path) -> None:
    file = write_model(tmp_path / "c.onnx")
    with house() as place:
        keys = [make_key(place, name) for name in ("billing", "shop")]
        with (
            place.serving(file, "--secure", "--cache", "1m") as server,
            SecureClient(server) as client,
        ):
            found = [
                client.ask("POST", "/v2/models/c/infer", key=key, body=BODY).headers["dukou-cache"]
                for key in [*keys, *keys]
            ]
            assert found == ["miss", "miss", "hit", "hit"]
            refused = client.ask("POST", "/v2/models/c/infer", body=BODY)
            assert (refused.status, "dukou-cache" in refused.headers) == (401, False)


def test_what_the_cache_did_is_in_the_log_and_in_status(tmp_path: Path) -> None:
    file = write_model(tmp_path / "c.onnx")
    with house() as place:
        with place.serving(file, "--cache", "64m", "--cache-ttl", "1h") as server:
            answers = [server.ask("c")[1]["outputs"] for _ in range(3)]
            assert answers[0] == answers[1] == answers[2]
            (cache,) = server.status()["state"]["caches"]
            assert (cache["model"], cache["max_bytes"]) == ("c", 64 << 20)
            shown = place.dukou("status").stdout
            assert "cache of c: 67% of 3 answers not run (hit 2, wait 0, miss 1)" in shown
            assert "1 kept" in shown
        (log,) = (place.home / "logs").glob("access-*.jsonl")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        asked = [line for line in lines if line["operation"] == "infer"]
        assert [line["cache"] for line in asked] == ["miss", "hit", "hit"]
        assert ["compute_us" in line for line in asked] == [True, False, False]


def test_a_moved_alias_answers_anew_and_a_deployment_is_overridden(tmp_path: Path) -> None:
    with house() as place:
        for seed in (1, 2):
            publish(place, tmp_path, seed=seed)
        move_alias(place, 1)
        with Registry.open(place.home) as registry:
            registry.put_deployment("chain", DEPLOYMENT, expected=0)
        with place.serving("chain") as server:
            path = "/v2/models/chain/infer"

            def ask() -> tuple[str, str, str]:
                _, answer, headers = exchange(server.address, "POST", path, BODY)
                said = json.dumps(answer["outputs"])
                return headers["dukou-version"], headers["dukou-cache"], said

            (one, first, old), (_, second, _) = ask(), ask()
            assert (one, first, second) == ("1", "miss", "hit")
            move_alias(place, 2)
            while (answered := ask())[0] == "1":
                assert answered[1:] == ("hit", old)
            assert answered[0] == "2"
            assert answered[2] != old
            assert ask() == ("2", "hit", answered[2])
            (cache,) = server.status()["state"]["caches"]
            assert (cache["entries"], cache["max_bytes"]) == (1, 64 << 20)
        with place.serving("chain", "--cache", "1m") as server:
            assert server.status()["state"]["caches"][0]["max_bytes"] == 1 << 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cache", "lots"], "`--cache` is `lots`, must be a size of memory"),
        (["--cache", "1k"], "`--cache` is `1k`, and a cache has at least 64k"),
        (["--cache", "1m", "--cache-ttl", "soon"], "`--cache-ttl` is `soon`, must be a duration"),
        (["--cache", "1m", "--cache-ttl", "53w"], "`--cache-ttl` is `53w`, must be at most a year"),
        (["--cache-ttl", "1h"], "`--cache-ttl 1h` without `--cache`"),
    ],
)
def test_what_a_cache_cannot_be(tmp_path: Path, words: list[str], said: str) -> None:
    file = write_model(tmp_path / "c.onnx")
    with house() as place:
        done = place.dukou("serve", file, *words)
    assert done.returncode == 2
    first, hint = done.stderr.splitlines()
    assert said in first
    assert first.endswith("[usage.invalid]")
    assert hint.startswith("hint: ")
