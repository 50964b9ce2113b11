"""The project's own training command, run by the contract of docs/train-contract.md.

dukou never imports a user's code: it gives the command data and a seed, and takes the one model file
that the command leaves behind. Cross-validation and retraining use the same door.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dukou.base.errors import InputError
from dukou.lifecycle.project import Project, fill_command

TAIL_LINES = 15
_GRACE_S = 2.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_training(
    project: Project,
    *,
    data: Path,
    output: Path,
    seed: int,
    fold: int | None = None,
    champion: Path | None = None,
    threads: int | None = None,
) -> Path:
    """Runs `[train] command` and gives the path of the model that it left.

    Args:
        project: whose command, folder and time limit.
        data: CSV of the rows to learn from, target column included.
        output: an empty folder for the model.
        seed: what every source of chance must be set to.
        fold: the number of the fold in cross-validation; None for the real training.
        champion: the model that serves now, for a warm start; None where there is none.
        threads: of each mathematics library, where several trainings share the CPUs; their own
            choice where None.

    Raises:
        InputError: `project.train-failed` with the command's last lines.
    """
    values = {
        "data": str(data),
        "target": project.data.target,
        "output": str(output),
        "seed": str(seed),
        "champion": str(champion or ""),
    }
    command = shlex.split(fill_command(project.train.command, values))
    if command[0] in ("python", "python3"):
        # The project's `python` is the one that runs dukou, whatever PATH says.
        command[0] = sys.executable
    environment = {
        **os.environ,
        "DUKOU_DATA": values["data"],
        "DUKOU_TARGET": values["target"],
        "DUKOU_TASK": project.model.task,
        "DUKOU_OUTPUT": values["output"],
        "DUKOU_SEED": values["seed"],
        "DUKOU_CHAMPION": values["champion"],
        "DUKOU_FOLD": "" if fold is None else str(fold),
        "PYTHONHASHSEED": values["seed"],
    }
    if threads is not None:
        environment |= dict.fromkeys(_THREADS, str(threads))
    said = _run(command, environment, project, output / "train.log")
    models = sorted(p for p in output.iterdir() if p.name.startswith("model."))
    if len(models) != 1:
        found = ", ".join(f"`{p.name}`" for p in models) or "none"
        raise InputError(
            "project.train-failed",
            f"the training command must leave one file `model.*` in $DUKOU_OUTPUT; it left {found}"
            + said,
        )
    return models[0]


def _run(command: list[str], environment: Mapping[str, str], project: Project, log: Path) -> str:
    try:
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command,
                cwd=project.folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # A group of its own, so that what it started ends with it.
                process_group=0,
            )
        try:
            status = process.wait(project.train.timeout_s)
        except BaseException:
            _end(process)
            raise
    except OSError as error:
        raise InputError(
            "project.train-failed",
            f"the training command `{shlex.join(command)}` cannot be started: {error.strerror}",
        ) from None
    except subprocess.TimeoutExpired:
        raise InputError(
            "project.train-failed",
            f"the training command took longer than `train.timeout_s` = {project.train.timeout_s:g}"
            + _tail(log),
        ) from None
    if status != 0:
        how = f"ended with exit status {status}" if status > 0 else f"was ended by signal {-status}"
        raise InputError("project.train-failed", f"`{shlex.join(command)}` {how}" + _tail(log))
    return _tail(log)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the command and whatever it started, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    return "; its last lines:\n" + "\n".join(f"    {line}" for line in lines) if lines else ""
