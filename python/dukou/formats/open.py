"""The door of this stop: a path of any kind becomes a `Model`, or one sentence why not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError
from dukou.formats.detect import detect_format
from dukou.formats.table import load_reader

if TYPE_CHECKING:
    from dukou.formats.reader import Samples
    from dukou.model.model import Model


def open_model(
    path: str | os.PathLike[str],
    *,
    into: str | os.PathLike[str],
    samples: Samples | None = None,
    trust_pickle: bool = False,
) -> Model:
    """Reads a model of any kind that dukou knows, converting it to ONNX where it is not.

    Args:
        path: a file, or a folder that holds one model.
        into: a folder for the graph and its weights; made where it is not there.
        samples: rows to prove the conversion on and to make golden samples of: columns by name
            (each with rows on its first axis), or one array. Seeded rows are made where absent.
        trust_pickle: whether you vouch for a pickle: loading one runs the code that it carries.

    Returns:
        The model, checked, with its signature and, wherever the model answers, golden samples.

    Raises:
        InputError: `formats.*`, or `data.mismatch` for samples that do not fit the model.
    """
    source, folder = Path(path), Path(into)
    if not source.exists():
        raise InputError("formats.not-found", f"there is nothing at `{source}`")
    name, file = detect_format(source)
    folder.mkdir(parents=True, exist_ok=True)
    return load_reader(name).load_model(file, into=folder, samples=samples, trust=trust_pickle)
