"""Runs `dukou-load` and reads its report."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.workplace import BenchError, program


@dataclass(frozen=True)
class Load:
    """What is sent, and how.

    Attributes:
        url: where to.
        bodies: files, sent in turn.
        expected: files with what each answer must contain; empty: statuses alone are checked.
        or_expected: what they may contain instead, where two versions answer.
        connections: that carry a request at a time each.
        rate: Poisson arrivals a second; None for a closed loop.
        tolerance: for the numbers of `expected`.
    """

    url: str
    bodies: Sequence[Path]
    expected: Sequence[Path] = ()
    or_expected: Sequence[Path] = ()
    connections: int = 32
    rate: float | None = None
    tolerance: float = 1e-4
    more: Sequence[str] = field(default_factory=tuple)

    def command(self, seconds: float) -> list[str]:
        """The line that is run."""
        line = [str(program("dukou-load")), self.url]
        for body in self.bodies:
            line += ["--body", str(body)]
        for answer in self.expected:
            line += ["--expect", str(answer)]
        for answer in self.or_expected:
            line += ["--or-expect", str(answer)]
        line += ["--connections", str(self.connections), "--duration", f"{seconds:g}"]
        if self.expected:
            line += ["--tolerance", str(self.tolerance)]
        if self.rate is not None:
            line += ["--rate", f"{self.rate:.6g}"]
        return [*line, *self.more]

    def run(self, seconds: float) -> dict[str, Any]:
        """Sends for so long and gives the report.

        Raises:
            BenchError: nothing was measured.
        """
        done = subprocess.run(
            self.command(seconds), capture_output=True, text=True, check=False, timeout=600
        )
        return read_report(done.returncode, done.stdout, done.stderr)

    def start(self, seconds: float) -> subprocess.Popen[str]:
        """Begins to send; names of phases are written to its stdin."""
        return subprocess.Popen(
            [*self.command(seconds), "--phases"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def read_report(status: int, stdout: str, stderr: str) -> dict[str, Any]:
    """The report of a run that has ended.

    Raises:
        BenchError: nothing was measured.
    """
    if status != 0:
        raise BenchError(f"dukou-load ended with status {status}: {stderr.strip()[-500:]}")
    report: dict[str, Any] = json.loads(stdout)
    return report
