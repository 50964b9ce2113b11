"""Train: the project's own command on the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dukou.lifecycle.runner import digest_of
from dukou.lifecycle.stage import Line
from dukou.lifecycle.train import run_training


class TrainStage:
    """Runs `[train] command` once, on all rows but the held-out ones."""

    name = "train"
    needs = ("data",)
    revision = 2
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """The command, the files that it names, the seed, the version that it may start from."""
        train = line.project.train
        return {
            "command": train.command,
            "files": digest_of(line.project.path(f) for f in train.files),
            "seed": train.seed,
            "champion": line.champion and line.champion.digest,
        }

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:
        """Leaves the model file and `train.log`."""
        model = run_training(
            line.project,
            data=line.folder("data") / "train.csv",
            output=into,
            seed=line.project.train.seed,
            champion=line.champion.warm_start if line.champion else None,
        )
        return {
            "model": model.name,
            "digest": digest_of([model]),
            "bytes": model.stat().st_size,
            "command": line.project.train.command,
            "seed": line.project.train.seed,
            "champion": line.champion and line.champion.version,
        }

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        return f"`{facts['command']}` left `{facts['model']}`, {facts['bytes']:,} bytes"
