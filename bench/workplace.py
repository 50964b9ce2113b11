"""Where a run of the bench finds its programs and keeps its files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "bench"
VENV = ROOT / "build" / "bench-venv"
RESULTS = ROOT / "bench" / "results"
_REQUIREMENTS = ROOT / "requirements" / "bench.txt"


class BenchError(Exception):
    """Nothing can be measured; one sentence says why."""


class Unavailable(BenchError):  # noqa: N818 - it names a state of a peer
    """A peer does not start here. It is reported with this reason, never as zero."""


def program(name: str) -> Path:
    """A program of the Cargo workspace, in its release build.

    Raises:
        BenchError: it was not built.
    """
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = folder / "release" / name
    if not path.is_file():
        raise BenchError(f"`{path}` is not built; hint: `make bench` builds it")
    return path


def build_programs() -> None:
    """Builds what is measured and what measures it, in release.

    Raises:
        BenchError: Cargo refused; its words are on stderr.
    """
    packages = ("dukou-engine", "bench-reference")
    command = ["cargo", "build", "--release", "--locked"]
    for package in packages:
        command += ["-p", package]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise BenchError(f"`{' '.join(command)}` failed; hint: its message is above")


def peers_python() -> Path:
    """The interpreter of the peers' own environment, made from `requirements/bench.txt` on first use.

    Raises:
        Unavailable: pip could not install it.
    """
    python = VENV / "bin" / "python"
    stamp = VENV / "requirements.txt"
    wanted = _REQUIREMENTS.read_bytes()
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return python
    print(f"making the peers' environment in {VENV.relative_to(ROOT)} …", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", str(VENV)],
        [str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(_REQUIREMENTS)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise Unavailable(f"`{' '.join(command[:4])} …` failed: {''.join(words)}")
    stamp.write_bytes(wanted)
    return python


def runtime_library() -> Path:
    """ONNX Runtime's library, the same file for every server that loads it by itself."""
    from dukou.serve.find import find_runtime

    return find_runtime()
