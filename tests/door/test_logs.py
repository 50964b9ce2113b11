"""`dukou logs`, `dukou drift` and `dukou labels` at their door: what they show, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

from tests.registry_house import move_alias, publish
from tests.serving import house, wait_until


def test_logs_of_a_running_server_say_what_stands_out(tmp_path: Path) -> None:
    with house() as place:
        publish(place, tmp_path, seed=1)
        move_alias(place, 1)
        with place.serving("chain") as server:
            for _ in range(5):
                server.ask("chain", _rows(4))
            for _ in range(3):
                assert server.ask("chain", _rows(3))[0] == 400

            def shown() -> dict:
                done = place.dukou("logs", "chain", "--since", "all", "--json")
                assert done.returncode == 0, done.stderr
                return json.loads(done.stdout)

            wait_until(lambda: shown()["requests"] == 8, "the log's lines")
            found = shown()
            assert [(e["code"], e["count"]) for e in found["errors"]] == [
                ("request.wrong-shape", 3)
            ]
            assert len(found["slowest"]) == 8
            assert found["advice"].startswith("3 of 8 requests met `request.wrong-shape`")
            other = place.dukou("logs", "chian").stdout
            assert other.endswith("advice: no request of `chian` in this time, but of `chain`\n")
            text = place.dukou("logs").stdout
            assert "request.wrong-shape" in text
            assert text.splitlines()[-1].startswith("advice: ")
            folder = Path(server.status()["access_log"]).parent
        assert "request.wrong-shape" in place.dukou("logs", "--folder", folder).stdout


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    with house() as place:
        publish(place, tmp_path, seed=1)
        cases = [
            (("logs",), 3, "server.not-running"),
            (("logs", "--since", "soon"), 2, "usage.invalid"),
            (("logs", "--folder", tmp_path / "absent"), 2, "usage.invalid"),
            (("drift", "chain"), 3, "monitor.no-capture"),
            (("drift", "chian"), 3, "registry.unknown-model"),
            (("labels", "add", tmp_path / "x.csv", "--model", "chain"), 3, "monitor.no-capture"),
            (("labels", "add", tmp_path / "x.csv", "--model", "chian"), 3, "registry.unknown"),
            (("retrain", tmp_path), 2, "project.not-found"),
            (("retrain", "--watch", "--poll", "often", tmp_path), 2, "project.not-found"),
        ]
        for words, status, code in cases:
            done = place.dukou(*words)
            assert done.returncode == status, (words, done.stderr)
            assert code in done.stderr
            assert "Traceback" not in done.stderr


def _rows(features: int) -> str:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, features], "data": [1.0] * features}
    return json.dumps({"inputs": [tensor]})
