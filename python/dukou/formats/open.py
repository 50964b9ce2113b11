"""The door of this stop: a path of any kind becomes a `Model`, or one sentence why not."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError
from dukou.formats.detect import detect_format
from dukou.formats.reader import HEAD_BYTES, NO_OPTIONS, Reader, ReadOptions
from dukou.formats.table import list_readers, load_reader

if TYPE_CHECKING:
    from dukou.formats.reader import Samples
    from dukou.model.model import Model


def open_model(
    path: str | os.PathLike[str],
    *,
    into: str | os.PathLike[str],
    samples: Samples | None = None,
    trust_pickle: bool = False,
    options: ReadOptions = NO_OPTIONS,
) -> Model:
    """Reads a model of any kind that dukou knows, converting it to ONNX where it is not.

    Args:
        path: a file, or a folder that holds one model; or `file.py:function`, code that builds one.
        into: a folder for the graph and its weights; made where it is not there.
        samples: rows to prove the conversion on and to make golden samples of: columns by name
            (each with rows on its first axis), or one array. Seeded rows are made where absent.
        trust_pickle: whether you vouch for a pickle or a program: loading one runs the code that it
            carries.
        options: what the file does not say itself: the code that builds the model, its inputs.

    Returns:
        The model, checked, with its signature and, wherever the model answers, golden samples.

    Raises:
        InputError: `formats.*`, or `data.mismatch` for samples that do not fit the model.
    """
    source, folder = Path(path), Path(into)
    code = re.fullmatch(r"(.+\.py):([A-Za-z_]\w*)", os.fspath(path))
    if code and Path(code[1]).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        return _open_code(Path(code[1]), os.fspath(path), folder, samples, options)
    if not source.exists():
        raise InputError("formats.not-found", f"there is nothing at `{source}`")
    reader, file = _find_reader(source, options)
    folder.mkdir(parents=True, exist_ok=True)
    return reader.load_model(file, into=folder, samples=samples, trust=trust_pickle)


def _open_code(
    file: Path, word: str, folder: Path, samples: Samples | None, options: ReadOptions
) -> Model:
    """A model that a function of the user's builds: naming it is vouching for it."""
    from dukou.formats.network import check_installed, open_network

    if options.factory is not None:
        raise InputError(
            "usage.invalid", f"`{word}` names code that builds a model, and `--factory` another"
        )
    check_installed(file, "code that builds a network", ("torch", "onnxscript"), "torch")
    return open_network(
        file,
        kind="code",
        suffix=".py",
        into=folder,
        samples=samples,
        trust=True,
        options=ReadOptions(word, options.inputs),
    )


def _find_reader(source: Path, options: ReadOptions) -> tuple[Reader, Path]:
    if options and source.is_file():
        with source.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
        for reader in map(load_reader, list_readers()):
            with_options = getattr(reader, "with_options", None)
            if with_options is not None and with_options(options).reads(head, source):
                found: Reader = with_options(options)
                return found, source
    name, file = detect_format(source)
    reader = load_reader(name)
    if options:
        raise InputError(
            "usage.invalid",
            f"`{source}` says itself what it takes: `--factory` and `--input` are for "
            "checkpoints and for networks that do not",
        )
    return reader, file
