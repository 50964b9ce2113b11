"""`dukou tensorflow-model-server`: the flags and files of TensorFlow Serving's own program start the same here."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests import serving
from tests.boundary.tensorflow_stubs import (
    make_ndarray,
    make_tensor_proto,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tests.serving import House, exchange, wait_until, write_model

from dukou.serve.local_api import LocalApi

ROWS = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
ASKED = json.dumps({"instances": ROWS.tolist()})
Ports = dict[str, int]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version, scale in (("1", 0.2), ("2", 1.0)):
        (tmp_path / "iris" / version).mkdir(parents=True)
        write_model(tmp_path / "iris" / version / "model.onnx", scale=scale)
    return tmp_path


class Started:
    """A server that runs."""

    def __init__(self, facts: dict[str, Any], notes: str) -> None:
        self.ports: Ports = facts["ports"]
        self.socket = Path(facts["socket"])
        self.models = facts["models"]
        self.notes = notes

    def ask(self, path: str, body: str = ASKED) -> tuple[int, Any]:
        """What REST answers."""
        status, said, _ = exchange(("127.0.0.1", self.ports["http"]), "POST", path, body)
        return status, said


@contextlib.contextmanager
def started(house: House, *flags: str) -> Iterator[Started]:
    ready = house.home.parent / "ready.json"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "dukou", "tensorflow-model-server", "--free-ports"]
    process = subprocess.Popen(
        [*command, "--ready-file", str(ready), *flags],
        env=house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, "it is ready")
        assert ready.exists(), process.communicate()[1]
        found = Started(json.loads(ready.read_text()), "")
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        _, found_notes = process.communicate(timeout=40)
    found.notes = found_notes


def test_one_model_by_its_folder(models: Path) -> None:
    with serving.house() as house:
        flags = (
            "--port=8500",
            "--rest_api_port=8501",
            "--model_name=flowers",
            f"--model_base_path={models / 'iris'}",
            "--rest_api_num_threads=16",
            "--enable_model_warmup=false",
            "--grpc_socket_path=/tmp/nobody",
            "--tensorflow_intra_op_parallelism=2",
        )
        with started(house, *flags) as server:
            assert (server.models, sorted(server.ports)) == (["flowers"], ["grpc", "http"])
            status, said = server.ask("/v1/models/flowers:predict")
            assert status == 200
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "flowers"
            request.inputs["x"].CopyFrom(make_tensor_proto(ROWS, content=True))
            with grpc.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                answer = stub.Predict(request, timeout=20)
            np.testing.assert_allclose(
                make_ndarray(answer.outputs["probabilities"])[0],
                said["predictions"][0]["probabilities"],
                rtol=1e-5,
            )
            # The last of its versions, as there.
            assert answer.model_spec.version.value == 2
            table = LocalApi(server.socket).table()
            assert table is not None
            backend = table["models"][0]["versions"][0]["backend"]
            assert backend["threads"] == 2
        assert (
            "`--grpc_socket_path` is not honoured: no socket of Unix is listened on" in server.notes
        )
        assert "rest_api_num_threads" not in server.notes


def test_a_list_of_models_with_labels_and_batching(models: Path) -> None:
    (models / "models.config").write_text(
        f"""model_config_list {{
          config {{ name: "iris" base_path: "{models / "iris"}" model_platform: "tensorflow"
            model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
            version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }} }}
          config {{ name: "newest" base_path: "{models / "iris"}" model_platform: "tensorflow" }}
        }}"""
    )
    (models / "batching.config").write_text(
        "max_batch_size { value: 17 } batch_timeout_micros { value: 250 } pad_variable_length_inputs: true"
    )
    with serving.house() as house:
        flags = (
            "--rest_api_port=8501",
            f"--model_config_file={models / 'models.config'}",
            "--enable_batching",
            f"--batching_parameters_file={models / 'batching.config'}",
        )
        with started(house, *flags) as server:
            first = server.ask("/v1/models/iris/versions/1:predict")
            second = server.ask("/v1/models/iris/versions/2:predict")
            assert (first[0], second[0]) == (200, 200) and first != second
            assert server.ask("/v1/models/iris/labels/stable:predict") == first
            assert server.ask("/v1/models/iris/labels/canary:predict") == second
            assert server.ask("/v1/models/newest:predict") == second
            assert server.ask("/v1/models/newest/versions/1:predict")[0] == 404
            table = LocalApi(server.socket).table()
            assert table is not None
            batching = table["models"][0]["batching"]
            assert (batching["max_rows"], batching["delay_us"]) == (17, 250)
            # What is put into a folder is served; the labels stay, and the newest is newest.
            coming = models / "iris" / "3"
            coming.mkdir()
            write_model(coming / "model.onnx", scale=3.0)
            wait_until(
                lambda: server.ask("/v1/models/newest:predict") not in (first, second),
                "the third version is served",
                20,
            )
            assert server.ask("/v1/models/iris/labels/stable:predict") == first
            assert server.ask("/v1/models/iris/versions/3:predict")[0] == 404
        assert "not honoured here: pad_variable_length_inputs" in server.notes


def test_grpc_alone_and_folders_read_once(models: Path) -> None:
    with serving.house() as house:
        flags = (f"--model_base_path={models / 'iris'}", "--file_system_poll_wait_seconds=0")
        with started(house, *flags) as server:
            assert (server.models, list(server.ports)) == (["default"], ["http"])
            assert server.ask("/v1/models/default:predict")[0] == 200
            (models / "iris" / "3").mkdir()
            write_model(models / "iris" / "3" / "model.onnx", scale=3.0)
            time.sleep(3)
            assert server.ask("/v1/models/default/versions/3:predict")[0] == 404


def test_a_list_is_a_model_of_dukou_serve_too(models: Path) -> None:
    path = models / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "iris" base_path: "{models / "iris"}" }} }}'
    )
    with serving.house() as house, house.serving(path) as server:
        assert server.facts["models"] == ["iris"]
        assert exchange(server.address, "POST", "/v1/models/iris:predict", ASKED)[0] == 200
        done = house.dukou("serve", path, "--name", "other", "--port", "0")
        assert "[usage.invalid]" in done.stderr


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ((), "usage.invalid", "neither `--model_base_path` nor `--model_config_file`"),
        (("--model_base_path=models/m",), "usage.invalid", "is not an absolute path"),
        (("--model_base_path=/nowhere/m",), "formats.not-found", "no folder at `/nowhere/m`"),
        (("--model_config_file=/nowhere",), "formats.not-found", "nothing at `/nowhere`"),
        (("--port=0", "--model_base_path=/tmp"), "usage.invalid", "nothing to listen on"),
        (
            ("--port=8501", "--rest_api_port=8501", "--model_base_path=/tmp"),
            "usage.invalid",
            "are both 8501",
        ),
        (
            ("--batching_parameters_file=/b", "--model_base_path=/tmp"),
            "usage.invalid",
            "without `--enable_batching`",
        ),
        (("--ssl_config_file=/s", "--model_base_path=/tmp"), "usage.invalid", "which is not read"),
        (("--enable_batching=perhaps",), "usage.invalid", "neither `true` nor `false`"),
        (("--no_such_flag=1",), "usage.invalid", "no_such_flag"),
    ],
)
def test_what_is_refused(house: House, flags: tuple[str, ...], code: str, words: str) -> None:
    done = house.dukou("tensorflow-model-server", *flags)
    assert done.returncode != 0
    assert f"[{code}]" in done.stderr, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_labels_of_versions_that_are_not_there(models: Path) -> None:
    path = models / "models.config"
    config = f'name: "iris" base_path: "{models / "iris"}" version_labels {{ key: "old" value: 1 }}'
    path.write_text(f"model_config_list {{ config {{ {config} }} }}")
    with serving.house() as house:
        done = house.dukou("tensorflow-model-server", f"--model_config_file={path}", "--free-ports")
        assert done.returncode == 2
        assert "request to assign label to version 1 of model iris" in done.stderr
        flags = (
            f"--model_config_file={path}",
            "--rest_api_port=8501",
            "--allow_version_labels_for_unavailable_models=true",
        )
        with started(house, *flags) as server:
            assert server.ask("/v1/models/iris:predict")[0] == 200
            assert server.ask("/v1/models/iris/labels/old:predict")[0] in (400, 404)
        assert "request to assign label to version 1" in server.notes


def test_what_it_is(house: House) -> None:
    done = house.dukou("tensorflow-model-server", "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("dukou ")
