"""From a model to a container that answers: built from scratch, within limits, with nothing else in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import serving
from tests.boundary import test_wire_cases as wire
from tests.journey.containers import Runner, free_port, make_runner
from tests.serving import House, wait_until, write_model

# Images are made of tens of megabytes, and vfs copies them for each container.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A home of its own."""
    with serving.house() as made:
        yield made


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """podman, or what stands for it."""
    made = make_runner(tmp_path_factory.mktemp("containers"))
    yield made
    made.close()


def build(house: House, folder: Path, *words: str | Path) -> tuple[Path, dict[str, Any]]:
    """An image in a file, and what was said of it."""
    archive = folder / "image.tar"
    words = ("image", "build", *words, "--output", archive, "--json")
    done = house.dukou(*words, timeout_s=150)
    assert done.returncode == 0, done.stderr
    return archive, json.loads(done.stdout)


@pytest.fixture(scope="module")
def wires(house: House, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An image of the models that the wire's cases ask."""
    folder = tmp_path_factory.mktemp("models")
    paths = [wire._write_model(folder, number) for number in range(len(wire.SIGNATURES))]
    return build(house, folder, *paths, "--tag", "cases:1")


def test_it_answers_as_every_other_door(wires: tuple[Path, dict[str, Any]], runner: Runner) -> None:
    archive, facts = wires
    assert facts["unpacked_bytes"] <= 120e6
    running = runner.start(archive, "--listen", "http=127.0.0.1:0")
    try:
        port = int(running.wait_for("started")["listening"]["http"].rpartition(":")[2])
        running.wait_for("serving")
        server: Any = SimpleNamespace(address=("127.0.0.1", port))
        for case in wire.ACCEPTED:
            wire.test_what_is_taken_reaches_the_model(server, case)
        for case in wire.REFUSED:
            wire.test_what_is_refused_is_said_and_costs_nothing_else(server, case)
        ready = f"127.0.0.1:{port}/v2/health/ready"
        assert running.run_inside("dukou-engine", "--probe", ready) == 0
        assert running.run_inside("dukou-engine", "--probe", f"127.0.0.1:{port}/nowhere") == 1
        for absent in ("/bin/sh", "python3"):
            assert running.run_inside(absent) not in (0, 1)
        if runner.limits:
            assert "the container gives 0.5 processors, 256 MiB of memory" in running.logs()
    finally:
        status = running.stop()
    assert status == 0
    assert '{"event":"drained"}' in running.logs()


def test_off_loopback_it_answers_whoever_holds_a_key(
    house: House, wires: tuple[Path, dict[str, Any]], runner: Runner, tmp_path: Path
) -> None:
    archive, _ = wires
    port = free_port()
    bare = runner.start(archive, "--listen", f"http=0.0.0.0:{port}")
    assert bare.wait() == 1
    [refused] = [line for line in bare.logs().splitlines() if '"refused"' in line]
    said = json.loads(refused)
    assert said["code"] == "access.off-loopback"
    assert "`/run/dukou` lacks `keys.json`, `tls.crt`, `tls.key`" in said["message"]

    access = tmp_path / "access"
    done = house.dukou("image", "access", access)
    assert done.returncode == 0, done.stderr
    [key] = [word for word in done.stdout.split() if word.startswith("dk_")]
    running = runner.start(archive, "--listen", f"http=0.0.0.0:{port}", mount=access)
    try:
        running.wait_for("serving")
        context = ssl.create_default_context(cafile=access / "tls.crt")
        url = f"https://127.0.0.1:{port}/v2/models/m0"

        def ask(headers: dict[str, str]) -> int:
            request = urllib.request.Request(url, headers=headers)
            try:
                with urllib.request.urlopen(request, context=context, timeout=20) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert ask({}) == 401
        assert ask({"Authorization": f"Bearer {key}"}) == 200
        probe = f"127.0.0.1:{port}/v2/health/ready"
        words = ["dukou-engine", "--probe", probe, "--access", "/run/dukou"]
        assert running.run_inside(*words) == 0
    finally:
        assert running.stop() == 0


def test_a_model_that_cannot_fit_is_refused_in_a_sentence(
    house: House, runner: Runner, tmp_path: Path
) -> None:
    if not runner.limits:
        return  # only a container limits memory; `make_runner` has said that none was run
    weights = np.zeros((4, 4_000_000), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "wide.onnx")
    archive, _ = build(house, tmp_path, tmp_path / "wide.onnx")
    listen = ("--listen", f"http=127.0.0.1:{free_port()}")
    small = runner.start(archive, *listen, memory="48m")
    assert small.wait() == 1
    [refused] = [line for line in small.logs().splitlines() if '"refused"' in line]
    said = json.loads(refused)
    assert said["code"] == "engine.too-little-memory"
    assert "its weights take 62 MiB" in said["message"]
    assert "the container gives 48 MiB" in said["message"]


def test_process_one_hears_signals_and_reaps_orphans(house: House, tmp_path: Path) -> None:
    """In a process space of its own the engine is process 1, whatever runs containers here."""
    tools = [shutil.which(name) for name in ("unshare", "nsenter")]
    if os.geteuid() != 0 or None in tools:
        print("process 1 was not tried: that takes root's rights, unshare and nsenter")
        return
    folder = tmp_path / "folder"
    write_folder_of(house, write_model(tmp_path / "m.onnx"), folder)
    command = ["unshare", "--pid", "--fork", "--kill-child", str(folder / "dukou-engine")]
    command += ["--folder", str(folder), "--listen", f"http=127.0.0.1:{free_port()}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        started = json.loads(outer.stdout.readline())
        assert started["pid"] == 1
        assert json.loads(outer.stdout.readline())["event"] == "serving"
        [engine] = children(outer.pid)
        # Its own parent is gone before it ends: it falls to process 1.
        orphan = ["nsenter", "--target", str(engine), "--pid", "sh", "-c", "sleep 0.2 & exit 0"]
        subprocess.run(orphan, check=True, timeout=30)
        assert len(children(engine)) == 1
        wait_until(lambda: not children(engine), "the orphan is reaped")
        os.kill(engine, signal.SIGTERM)
        assert json.loads(outer.stdout.readline())["event"] == "drained"
        assert outer.wait(timeout=30) == 0


def write_folder_of(house: House, model: Path, folder: Path) -> None:
    """A serving folder without an image around it."""
    from dukou.deploy.standalone import write_folder
    from dukou.lifecycle.contents import choose_contents

    choice = choose_contents([str(model)], home=house.home)
    write_folder(
        choice.contents, folder, engine=choice.engine, runtime=choice.runtime, c_library=False
    )


def children(pid: int) -> list[int]:
    """The processes whose parent this is, those that nobody has taken notice of too."""
    text = Path(f"/proc/{pid}/task/{pid}/children")
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    assert text.exists()
    return found
