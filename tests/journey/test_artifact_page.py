"""The page on the artifact, run: package, open, register; and the stock verifier on what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx

from dukou.package.store import Store
from tests.artifacts import make_layers, make_proto
from tests.journey.docs_runner import ROOT, read_blocks


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    onnx.save(make_proto(*make_layers(16, 32, 10)), str(tmp_path / "digits.onnx"))
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("DUKOU_")},
        "HOME": str(tmp_path / "user"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }

    def run(body: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", body, *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    package, verify = (
        block.body
        for block in read_blocks(ROOT / "docs" / "artifact.md")
        if block.elsewhere == f"tests/journey/{Path(__file__).name}"
    )
    said = run(package)
    digest = Store(tmp_path / "user" / ".dukou" / "store").versions()[0].digest
    assert said.startswith(digest)
    assert "number=1" in said
    assert "verification succeeded" in run(verify, digest).lower()
