"""The demo: everything from training data to a version that was replaced under load."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
def test_the_demo_computes_what_it_prints_and_leaves_nothing_running(tmp_path: Path) -> None:
    environment = {**os.environ, "DUKOU_DEMO": str(tmp_path / "demo")}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "digits" / "demo.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo: everything as it should be" in done.stdout
    accuracies = re.findall(r"accuracy through the endpoint +(0\.\d+)", done.stdout)
    assert accuracies and float(accuracies[0]) > 0.9
    assert re.search(r"failed requests during the swap +0 of [\d,]{4,}", done.stdout)
    for name in ("report", "registry"):
        [path] = re.findall(rf"^  {name} +(/\S+)$", done.stdout, flags=re.MULTILINE)
        assert Path(path).is_file()
    # Whatever the demo started carried its folder in the environment.
    left = [
        p.name
        for p in Path("/proc").iterdir()
        if p.name.isdigit() and _environment(p).find(str(tmp_path / "demo").encode()) >= 0
    ]
    assert not left


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
