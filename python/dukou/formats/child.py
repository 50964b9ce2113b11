"""A conversion in a process of its own: what loading a stranger's file does, it does there.

Both sides of the folder between the two: the reader asks and reads (`convert_in_child`), the child
answers (`serve_request`). Knows no framework.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import DukouError, InputError

if TYPE_CHECKING:
    import numpy as np

    from dukou.formats.reader import Samples

    Array = np.ndarray[Any, Any]

SAMPLES, USED, ANSWERS = "samples.npz", "used.npz", "answers.npz"
_REQUEST, _RESULT = "request.json", "result.json"


class ConversionError(Exception):
    """A failure with one of dukou's codes, carried to the parent by `result.json`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def convert_in_child(
    module: str,
    path: Path,
    work: Path,
    samples: Samples | None,
    *,
    request: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Runs `python -m MODULE WORK` on the file; what the child told.

    Args:
        module: whose `__main__` serves the request by `serve_request`.
        path: the model, as the user wrote it.
        work: an empty folder that both sides write into.
        samples: the user's rows; the child finds them in `samples.npz`.
        request: what else the child is told, JSON-able.
        environment: variables beside this process's own.

    Raises:
        InputError: what the child refused, or `formats.corrupt` where it ended without a word.
    """
    import dukou

    if samples is not None:
        save_samples(work / SAMPLES, samples)
    asked = {**(request or {}), "path": str(path.resolve()), "samples": samples is not None}
    (work / _REQUEST).write_text(json.dumps(asked), "utf-8")
    home = str(Path(dukou.__file__).resolve().parents[1])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", module, str(work)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONWARNINGS": "default",
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    result = work / _RESULT
    if done.returncode != 0 or not result.is_file():
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise InputError(
            "formats.corrupt",
            f"`{path}` does not load: the process that loaded it ended with status "
            f"{done.returncode} ({' '.join(last)[:200] or 'no words'})",
        )
    told: dict[str, Any] = json.loads(result.read_text("utf-8"))
    if "error" in told:
        refused = told["error"]
        raise InputError(refused["code"], refused["message"], hint=refused["hint"])
    return told


def serve_request(folder: Path, serve: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's side: reads the request, answers it; a failure that is the model's is told too."""
    request = json.loads((folder / _REQUEST).read_text("utf-8"))
    try:
        told = serve(request)
    except (ConversionError, DukouError) as error:
        hint = getattr(error, "hint", None)
        told = {"error": {"code": error.code, "message": error.message, "hint": hint}}
    (folder / _RESULT).write_text(json.dumps(told), "utf-8")


def save_samples(file: Path, samples: Samples) -> None:
    """The user's rows: columns by name, or one array as `x`."""
    import numpy as np

    save_arrays(file, {"x": samples} if isinstance(samples, np.ndarray) else samples)


def save_arrays(file: Path, arrays: Mapping[str, Array]) -> None:
    """Arrays by name.

    Text travels as fixed-width unicode: an object array would be a pickle. Names may hold
    anything, so that the arrays go by number.
    """
    import numpy as np

    columns = {}
    for number, column in enumerate(arrays.values()):
        array = np.asarray(column)
        columns[f"column{number}"] = array.astype(str) if array.dtype == object else array
    np.savez(file, names=np.array([str(name) for name in arrays]), **columns)  # type: ignore[arg-type]


def load_arrays(file: Path) -> dict[str, Array]:
    """The inverse of `save_arrays`."""
    import numpy as np

    with np.load(file, allow_pickle=False) as archive:
        names = [str(name) for name in archive["names"]]
        return {name: archive[f"column{i}"] for i, name in enumerate(names)}
