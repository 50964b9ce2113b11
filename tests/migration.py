"""A `dukou migrate` in the background, between two servers of the same models."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import serving
from tests.serving import House, RunningServer, write_model

Servers = tuple[House, RunningServer, RunningServer]


class Migration:
    """A `dukou migrate` in the background."""

    def __init__(self, house: House, process: subprocess.Popen[str], facts: dict[str, Any]) -> None:
        self.house = house
        self.process = process
        self.facts = facts
        self.port = int(str(facts["url"]).rpartition(":")[2])
        self.address = ("127.0.0.1", self.port)

    def say(self, word: str, *more: str) -> subprocess.CompletedProcess[str]:
        """`--report`, `--flip`, `--back`."""
        words = (word, "--port", str(self.port), "--json", *more)
        return self.house.dukou("migrate", *words)

    def report(self) -> dict[str, Any]:
        """Where it stands."""
        done = self.say("--report")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def end(self) -> dict[str, Any]:
        """Ends it; its last report."""
        self.process.send_signal(signal.SIGTERM)
        stdout, stderr = self.process.communicate(timeout=40)
        assert (self.process.returncode, stderr) == (0, "")
        found: dict[str, Any] = json.loads(stdout)
        return found


@contextlib.contextmanager
def migrating(house: House, old: str, new: str, *words: str) -> Iterator[Migration]:
    command = [sys.executable, "-m", "dukou", "migrate", "--from", old, "--to", new]
    process = subprocess.Popen(
        [*command, "--port", "0", "--json", *words],
        env=house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield Migration(house, process, json.loads(line))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)


@contextlib.contextmanager
def two_servers(folder: Path) -> Iterator[Servers]:
    """Two servers of the same models; `other` is another model at each of them."""
    for side, scale in (("old", 1.0), ("new", 2.0)):
        for name, by in (("m", 1.0), ("other", scale)):
            (folder / side / name).mkdir(parents=True)
            write_model(folder / side / name / "model.onnx", scale=by)
    with (
        serving.house() as house,
        house.serving(folder / "old") as old,
        house.serving(folder / "new") as new,
    ):
        yield house, old, new
