"""Execution providers by real servers: OpenVINO runs, and what cannot run here is passed over and said."""

from __future__ import annotations

import http.client
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.registry_house import move_alias, publish
from tests.serving import RunningServer, exchange, house, write_model

from dukou.registry.registry import Registry
from dukou.serve.find import find_engine, find_runtime
from dukou.serve.local_api import LocalApi

ROOT = Path(__file__).parents[2]
# Installed by `make test`: the runtime that OpenVINO's makers build, and their plugin for others.
OPENVINO = ROOT / "build" / "openvino"
OV, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"
# What no machine of CI has: each is asked for as on a machine that has it.
ELSEWHERE = {
    "cuda": "cuda:device_id=0,gpu_mem_limit=1073741824",
    "tensorrt": "tensorrt:device_id=0,trt_fp16_enable=1",
    "migraphx": "migraphx:device_id=0",
    "vitisai": "vitisai:config_file=/etc/vaip_config.json",
}


@pytest.fixture(scope="module")
def openvino() -> Path:
    assert OPENVINO.is_dir(), f"`make .stamps/openvino` installs `{OPENVINO}`"
    return OPENVINO


def _runs_on(server: RunningServer) -> dict[str, Any]:
    (version,) = LocalApi(Path(server.facts["socket"])).state()["runs_on"]
    assert isinstance(version, dict)
    return version


def _metrics(server: RunningServer) -> str:
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _numbers(answer: dict[str, Any]) -> list[np.ndarray]:
    return [np.array(output["data"], np.float64) for output in answer["outputs"]]


def test_openvino_runs_a_model_and_answers_as_the_cpu_does(tmp_path: Path, openvino: Path) -> None:
    file = write_model(tmp_path / "c.onnx")
    with house() as place:
        with place.serving(file) as server:
            expected = _numbers(server.ask("c")[1])
            assert _runs_on(server)["providers"] == [CPU]
        words = ("--runtime", openvino, "--provider", "openvino:device_type=CPU,precision=ACCURACY")
        with place.serving(file, *words) as server:
            assert _runs_on(server) == {
                "model": "c",
                "version": "1",
                "providers": [OV, CPU],
                "passed_over": [],
            }
            for came, wanted in zip(_numbers(server.ask("c")[1]), expected, strict=True):
                assert np.allclose(came, wanted, atol=1e-4)
            _, described, _ = exchange(server.address, "GET", "/v2/models/c")
            assert described["parameters"]["provider"] == OV
            assert "c:1 runs on openvino, then cpu" in place.dukou("status").stdout
            line = f'dukou_model_provider{{model="c",version="1",provider="{OV}"}} 1'
            assert line in _metrics(server)


def test_a_packaged_version_reproduces_its_golden_samples_on_openvino(
    tmp_path: Path, openvino: Path
) -> None:
    run = {"providers": [{"name": "openvino", "options": {"precision": "ACCURACY"}}]}
    with house() as place:
        publish(place, tmp_path, seed=1)
        move_alias(place, 1)
        with Registry.open(place.home) as registry:
            model = {"name": "chain", "run": run}
            document = {"version": 1, "name": "chain", "models": [model]}
            registry.put_deployment("chain", document, expected=0)
        with place.serving("chain", "--runtime", openvino) as server:
            assert _runs_on(server)["providers"] == [OV, CPU]
            (model,) = LocalApi(Path(server.facts["socket"])).models()
            assert model["versions"][0]["golden"] == "reproduced"


def test_a_model_that_openvino_does_not_take_runs_on_the_cpu(openvino: Path) -> None:
    # Its labels come from an operator of scikit-learn's whose output has no known rank.
    file = ROOT / "conformance" / "models" / "digits_mlp.onnx"
    words = ("--name", "digits", "--runtime", openvino, "--provider", "openvino")
    with house() as place, place.serving(file, *words) as server:
        running = _runs_on(server)
        assert running["providers"] == [CPU]
        (passed_over,) = running["passed_over"]
        assert passed_over["provider"] == OV
        assert "does not take this model: " in passed_over["reason"]
        assert "dynamic rank" in passed_over["reason"]


@pytest.mark.parametrize("short", ELSEWHERE)
def test_what_cannot_run_here_is_passed_over_said_and_counted(tmp_path: Path, short: str) -> None:
    file = write_model(tmp_path / "c.onnx")
    with house() as place:
        said = json.loads(place.dukou("devices", "--json").stdout)["providers"]
        state = next(offer for offer in said if offer["short"] == short)
        if state["state"] == "ready":
            pytest.fail(f"this machine has {short}: give it a test that runs a model there")
        assert state["says"]
        with place.serving(file, "--provider", ELSEWHERE[short]) as server:
            running = _runs_on(server)
            assert running["providers"] == [CPU]
            (passed_over,) = running["passed_over"]
            assert passed_over["provider"] == state["name"]
            assert server.ask("c")[0] == 200
            count = f'{{model="c",version="1",provider="{state["name"]}"}} 1'
            assert f"dukou_provider_fallbacks_total{count}" in _metrics(server)
            assert f"c:1 runs on cpu; not on {short}: " in place.dukou("status").stdout
            _, warned = server.end()
            assert f"warning: c:1 does not run on {short}: it is not in this" in warned
        (log,) = (place.home / "logs").glob("engine-*.log")
        assert f"warn model `c` version `1` does not run on `{state['name']}`" in log.read_text()
        print(f"{short}: not run: no device ({passed_over['reason']})")


def test_the_plugin_is_registered_with_another_runtime(openvino: Path) -> None:
    (plugin,) = (openvino / "onnxruntime_ep_openvino").glob("lib*_openvino_plugin.so")
    words = [find_engine(), "--hello", "--runtime", find_runtime(), "--plugin", plugin]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    said = json.loads(done.stdout)
    assert said["plugins"] == [{"path": str(plugin), "problem": None}]
    kinds = {device["kind"] for device in said["devices"] if device["provider"] == OV}
    if "GenuineIntel" in Path("/proc/cpuinfo").read_text():
        assert "cpu" in kinds
    else:
        # The plugin offers what Intel made, and nothing else.
        assert not kinds
        print("openvino's plugin: not run: no device of Intel's")


@pytest.mark.parametrize(
    ("words", "code", "said", "hint"),
    [
        (["opnevino"], "deploy.unknown-provider", "`opnevino`", "did you mean `openvino`?"),
        (["cuda:0"], "usage.invalid", "`0` is no option with a value", "--provider openvino:"),
    ],
)
def test_a_provider_that_there_is_not(
    tmp_path: Path, words: list[str], code: str, said: str, hint: str
) -> None:
    file = write_model(tmp_path / "c.onnx")
    with house() as place:
        done = place.dukou("serve", file, "--provider", *words)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert said in first
    assert first.endswith(f"[{code}]")
    assert hint in second


def test_devices_is_a_table_and_names_the_runtime(openvino: Path) -> None:
    with house() as place:
        shown = place.dukou("devices").stdout
        assert shown.startswith("ONNX Runtime 1.")
        rows = {line.split()[0]: line for line in shown.splitlines()[2:] if line.strip()}
        assert "ready" in rows["cpu"]
        assert "cuda" in rows
        other = json.loads(place.dukou("devices", "--runtime", openvino, "--json").stdout)
        assert other["runtime"]["version"] == "1.24.1"
        states = {offer["short"]: offer["state"] for offer in other["providers"]}
        assert (states["cpu"], states["openvino"]) == ("ready", "ready")
        missing = place.dukou("devices", "--runtime", "/nowhere")
    assert missing.returncode != 0
    assert "[engine.runtime-missing]" in missing.stderr
