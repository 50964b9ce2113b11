"""How each of the other servers is given the tests' models, and started with them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from bench.peers.triton import tritonserver
from onnx import numpy_helper
from tests.compatibility.models import write_models, write_more, write_scores
from tests.compatibility.questions import ROWS, Address, Question
from tests.serving import write_model

HERE = Path(__file__).parent / "peers"
# Its versions and files are called otherwise than ours.
TORCHSERVE_WORDS = {"1.0": "1", "2.0": "2", ".mar": ".onnx"}
_TRITON_TYPES = {1: "FP32", 3: "INT8", 7: "INT64", 8: "STRING", 10: "FP16"}
_V2_READY = (Question("ready", "GET", "/v2/models/m/ready"),)


class Started(NamedTuple):
    """A server that is about to run.

    Attributes:
        command: its words.
        environment: what it needs to know beside.
        doors: its ports by what they are for; the first one has no name.
        ready_when: these are answered well.
    """

    command: list[str | Path]
    environment: dict[str, str]
    doors: dict[str, Address]
    ready_when: tuple[Question, ...] = _V2_READY


def lay_one_file(models: Path) -> list[str | Path]:
    """The classifier alone."""
    return [write_model(models / "m.onnx")]


def lay_triton(models: Path) -> list[str | Path]:
    """The classifier in two versions, and what gives back what it is given."""
    folder = models / "models"
    folder.mkdir()
    write_models(folder)
    write_more(folder)
    # Its python backend has no numpy for BF16; the others nobody asks it.
    for name in ("brain", "spare", "whole", "truth"):
        shutil.rmtree(folder / name)
    return [folder, "--versions", "all", "--model-store", folder]


def lay_torchserve(models: Path) -> list[str | Path]:
    """The classifier's probabilities in two versions, and a file that nobody serves yet."""
    folder, store = models / "models", models / "store"
    write_scores(folder / "m" / "1", folder / "m" / "2", store / "other")
    (store / "other" / "model.onnx").rename(store / "other.onnx")
    (store / "other").rmdir()
    return [folder, "--versions", "all", "--model-store", store]


def start_kserve(models: Path, folder: Path, python: Path) -> Started:
    """`kserve_server.py`, with the weights."""
    port = _free_port()
    command = [python, HERE / "kserve_server.py", _weights(models / "m.onnx", folder), str(port)]
    return Started(command, {}, {"": ("127.0.0.1", port)})


def start_mlserver(models: Path, folder: Path, python: Path) -> Started:
    """MLServer's own command, with a model beside its settings."""
    port = _free_port()
    shutil.copy(HERE / "mlserver_model.py", folder)
    settings = {
        "http_port": port,
        "grpc_port": _free_port(),
        "metrics_port": _free_port(),
        "parallel_workers": 0,
        "host": "127.0.0.1",
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "m", "implementation": "mlserver_model.Classifier"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    weights = _weights(models / "m.onnx", folder)
    environment = {"WEIGHTS": str(weights), "PYTHONPATH": str(folder)}
    command: list[str | Path] = [python, "-m", "mlserver.cli.main", "start", folder]
    return Started(command, environment, {"": ("127.0.0.1", port)})


def start_triton(models: Path, folder: Path, _: Path) -> Started:
    """The `tritonserver` of the wheel, with the same ONNX files under its python backend."""
    repository = folder / "repository"
    for model in sorted((models / "models").iterdir()):
        files = {file.parent.name: file for file in model.glob("*/model.onnx")}
        for version, file in (files or {"1": model / "model.onnx"}).items():
            place = repository / model.name / version
            place.mkdir(parents=True)
            shutil.copy(HERE / "triton_model.py", place / "model.py")
            shutil.copy(file, place / "model.onnx")
        config = _triton_config(model.name, place / "model.onnx")
        (repository / model.name / "config.pbtxt").write_text(config)
    ports = [_free_port() for _ in range(3)]
    program, environment = tritonserver()
    command = [*program, "--model-repository", repository]
    command += ["--model-control-mode", "explicit", "--load-model", "*"]
    for door, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        command += [f"--{door}-address", "127.0.0.1", f"--{door}-port", str(port)]
    doors = {"": ("127.0.0.1", ports[0]), "grpc": ("127.0.0.1", ports[1])}
    return Started(command, environment, doors)


def start_torchserve(models: Path, folder: Path, python: Path) -> Started:
    """`torchserve`, with archives of the same weights; its pid file lies in a folder of its own."""
    weights = _weights(models / "store" / "other.onnx", folder)
    archive = [python, HERE / "torchserve_archive.py", weights, folder / "store"]
    subprocess.run(archive, check=True, timeout=100)
    doors = {name: ("127.0.0.1", _free_port()) for name in ("", "management", "metrics")}
    calls = {name: ("127.0.0.1", _free_port()) for name in ("grpc", "grpc management")}
    lines = [
        f"{name or 'inference'}_address=http://{host}:{port}"
        for name, (host, port) in doors.items()
    ]
    lines += ["grpc_inference_address=127.0.0.1", f"grpc_inference_port={calls['grpc'][1]}"]
    management = calls["grpc management"][1]
    lines += ["grpc_management_address=127.0.0.1", f"grpc_management_port={management}"]
    lines += ["default_workers_per_model=1", "disable_system_metrics=true"]
    (folder / "config.properties").write_text("\n".join(lines) + "\n")
    (folder / "tmp").mkdir()
    command: list[str | Path] = [python.parent / "torchserve", "--foreground", "--start", "--ncs"]
    command += ["--model-store", folder / "store", "--ts-config", folder / "config.properties"]
    command += ["--models", "m=m.mar", "m=m2.mar", "--disable-token-auth", "--enable-model-api"]
    environment = {
        "TMPDIR": str(folder / "tmp"),
        "LOG_LOCATION": str(folder / "logs"),
        "METRICS_LOCATION": str(folder / "logs"),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    kind = {"Content-Type": "application/json"}
    ready = tuple(
        Question("ready", "POST", f"/predictions/m/{version}", ROWS[0], kind)
        for version in ("1.0", "2.0")
    )
    return Started(command, environment, {**doors, **calls}, ready)


def _weights(model: Path, folder: Path) -> Path:
    """The weights of an ONNX file, as numpy saves them."""
    (weights,) = onnx.load(model).graph.initializer
    np.save(folder / "weights.npy", numpy_helper.to_array(weights))
    return folder / "weights.npy"


def _triton_config(name: str, file: Path) -> str:
    """Every version is served; only `scores` has its rows apart from the other dimensions."""
    graph = onnx.load(file).graph
    batches = name == "scores"
    lines = [f'name: "{name}"', 'backend: "python"', "version_policy: { all {} }"]
    lines.append(f"max_batch_size: {64 if batches else 0}")
    for key, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            dims = [extent.dim_value or -1 for extent in tensor.shape.dim][int(batches) :]
            kind = _TRITON_TYPES[tensor.elem_type]
            named = f'name: "{value.name}", data_type: TYPE_{kind}, dims: {dims}'
            lines.append(f"{key} [ {{ {named} }} ]")
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    """A port that is free now: these servers cannot be told to take one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
