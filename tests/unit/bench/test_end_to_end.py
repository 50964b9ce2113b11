"""The harness on a real server: the echo, with the real load generator. No figure is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench.workplace import ROOT


# The first run builds two programs.
@pytest.mark.timeout(600)
def test_a_short_run_against_the_echo(tmp_path: Path) -> None:
    packages = ("-p", "dukou-load", "-p", "bench-reference")
    subprocess.run(["cargo", "build", "--release", *packages], cwd=ROOT, check=True)
    line = ["--rounds", "2", "--seconds", "0.2", "--warmup", "0.1", "--connections", "2"]
    line += ["--only", "echo", "--no-build", "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "small-json", *line],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((tmp_path / "small-json.json").read_text("utf-8"))["peers"]
    assert entry["unavailable"] is None
    assert len(entry["rounds"]) == 2
    for figures in entry["rounds"]:
        assert figures["requests"] > 0
        assert figures["failed"] == 0
    assert "What a request costs" in done.stdout


def test_a_mistake_is_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "no-such-case"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("bench: `no-such-case` is not one of small-json")
    assert len(done.stderr.splitlines()) == 1
