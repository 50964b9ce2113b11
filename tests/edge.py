"""A device's folder that runs, with nothing of Python in its reach, and versions for it to follow."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dukou.model.golden import GoldenSamples
from dukou.package.package import PackagedVersion, package_model
from dukou.registry.registry import Registry
from tests.artifacts import Place, make_model
from tests.registry_house import move_alias
from tests.serving import House

MODEL = "chain"


def publish(
    house: House,
    folder: Path,
    layers: Sequence[np.ndarray],
    *,
    signed: bool = True,
    off_by: float = 0.0,
) -> tuple[int, PackagedVersion]:
    """Packages a chain of products, registers it, and gives it the traffic.

    Args:
        house: whose.
        folder: for its file.
        layers: its weights.
        signed: whether anybody signs it.
        off_by: what its golden answers are wrong by.
    """
    place = Place.make(house.home.parent)
    model = make_model(folder, *layers)
    if off_by:
        assert model.golden is not None
        ((inputs, outputs),) = model.golden.samples
        wrong = {name: value + np.float32(off_by) for name, value in outputs.items()}
        model = type(model)(
            graph=model.graph,
            signature=model.signature,
            lineage=model.lineage,
            golden=GoldenSamples(((inputs, wrong),)),
            card=model.card,
            variant=model.variant,
        )
    packaged = package_model(model, place.store, name=MODEL, signer=place.key if signed else None)
    with Registry.open(house.home) as registry:
        number = registry.register_version(MODEL, packaged.digest)
    move_alias(house, number, name=MODEL)
    return number, packaged


@dataclass
class Device:
    """A folder whose agent runs.

    Attributes:
        folder: which.
        address: where it answers.
    """

    folder: Path
    address: tuple[str, int]
    process: subprocess.Popen[str] = field(repr=False)

    def ask(self, row: Sequence[float]) -> tuple[str, np.ndarray]:
        """The version that answered and its answer."""
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(row)], "data": list(row)}
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        with contextlib.closing(connection):
            connection.request(
                "POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]})
            )
            response = connection.getresponse()
            document = json.loads(response.read())
            assert response.status == 200, document
            version = response.headers["dukou-version"]
        return version, np.asarray(document["outputs"][0]["data"], np.float32)

    def kill(self) -> None:
        """As when the power fails."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> int:
        """As a person stops it; its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=20)


def start(folder: Path) -> Device:
    """Starts `run` with an empty environment: no PATH, no Python, nothing of ours."""
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        process = subprocess.Popen(
            [folder / "run"], env={}, cwd="/", stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(timeout=20)
        process.stdout.close()
        raise AssertionError((folder.parent / f"{folder.name}.log").read_text())
    host, _, port = json.loads(line)["listening"]["http"].rpartition(":")
    return Device(folder, (host, int(port)), process)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Device]:
    """A device that runs, and is stopped."""
    device = start(folder)
    try:
        yield device
    finally:
        device.kill()


def status(folder: Path) -> dict[str, Any]:
    """What the folder says of itself."""
    done = subprocess.run(
        [folder / "run", "--status"], env={}, capture_output=True, text=True, timeout=20, check=True
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def until(true: Callable[[], Any], what: str, timeout_s: float = 40) -> Any:
    """Waits until it is so, and gives what it gave."""
    deadline = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def answer(layers: Sequence[np.ndarray], row: Sequence[float]) -> np.ndarray:
    """What a chain answers."""
    value = np.asarray([row], np.float32)
    for layer in layers:
        value = value @ layer
    return value[0]
