"""What a path is, by its content: which reader takes it, or what else it is. Names do not count."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from dukou.base.errors import InputError
from dukou.formats.pickles import open_pickle_head
from dukou.formats.reader import HEAD_BYTES
from dukou.formats.table import list_readers, load_reader


def detect_format(path: Path) -> tuple[str, Path]:
    """The name of the reader for `path`, and the file to hand to it.

    A folder is itself where a reader knows it, else the one model file inside it.

    Raises:
        InputError: `formats.not-a-model`, naming what it is instead and what is read.
    """
    name = _reader_of(path)
    if name is not None:
        return name, path
    if path.is_dir():
        return _detect_in_folder(path)
    raise _not_a_model(path, _describe(path))


def _reader_of(path: Path) -> str | None:
    head = _read_head(path)
    for name in list_readers():
        if load_reader(name).reads(head, path):
            return name
    return None


def _read_head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(
            "formats.not-found", f"`{path}` cannot be read: {error.strerror}"
        ) from error


def _detect_in_folder(path: Path) -> tuple[str, Path]:
    if (path / "saved_model.pb").is_file():
        raise _not_a_model(path, "a TensorFlow SavedModel, not read yet")
    found = [
        (name, file)
        for file in sorted(path.iterdir())
        if file.is_file() and (name := _reader_of(file)) is not None
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise _not_a_model(path, "a folder without a model in it")
    names = ", ".join(f"`{file.name}`" for _, file in found[:5])
    raise InputError(
        "formats.not-a-model",
        f"`{path}` holds {len(found)} models ({names}), one is expected",
        hint="name the file itself",
    )


def _not_a_model(path: Path, what: str) -> InputError:
    kinds = "; ".join(load_reader(name).kind for name in list_readers())
    return InputError("formats.not-a-model", f"`{path}` is {what}; dukou reads: {kinds}")


def _describe(path: Path) -> str:
    """What the file is, for the sentence `… is {this}`."""
    if not path.is_file():
        return "not a file"
    head = _read_head(path)
    if not head:
        return "an empty file"
    for test, sentence in KNOWN:
        if test(head):
            return sentence
    if head.startswith(b"PK\x03\x04"):
        return _describe_zip(path)
    pickle = open_pickle_head(path, head)
    if pickle is not None:
        return _describe_pickle(pickle)
    return _describe_rest(head)


# Magic bytes of what people hand to us → what it is. The first that fits speaks.
KNOWN: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (
        lambda h: h.startswith(b"\x89HDF\r\n\x1a\n"),
        "an HDF5 file without a Keras model in it (weights alone need `--factory`)",
    ),
    (lambda h: h[4:8] == b"TFL3", "a LiteRT (TensorFlow Lite) model, not read yet"),
    (lambda h: h[4:8] == b"ORTM", "an ORT-format model, not read yet: export it as ONNX"),
    (lambda h: h.startswith(b"GGUF"), "a GGUF model, not read yet"),
    (lambda h: h.startswith(b"CBM1"), "a CatBoost model, not read yet"),
    (lambda h: h.startswith(b"tree\nversion="), "a LightGBM model, not read yet"),
    (lambda h: h.startswith(b"\x93NUMPY"), "a NumPy array, not a model"),
    (lambda h: h.startswith(b"PAR1"), "a Parquet table, not a model"),
    (
        lambda h: (
            h[8:9] == b"{" and 0 < int.from_bytes(h[:8], "little") < 1 << 27 and b'"' in h[9:11]
        ),
        "a safetensors file: weights without a graph",
    ),
    (lambda h: h.startswith(b"\x08\x01\x12"), "a TensorFlow SavedModel's graph, not read yet"),
    (lambda h: h.startswith(b"%PDF"), "a PDF document"),
    (lambda h: h.startswith(b"\x7fELF"), "a program"),
    (lambda h: h.startswith((b"\x89PNG", b"\xff\xd8\xff")), "an image"),
)

# A name inside a zip → what the zip is.
ZIP_KINDS: tuple[tuple[str, str], ...] = (
    (r"MAR-INF/MANIFEST\.json", "a TorchServe archive (.mar), not read yet"),
    (r"(^|/)schema\.json$", "a skops model, not read yet"),
    (r"\.npy$", "a NumPy archive (.npz), not a model"),
)


def _describe_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError, NotImplementedError):
        return "a damaged zip archive"
    for pattern, sentence in ZIP_KINDS:
        if any(re.search(pattern, name) for name in names):
            return sentence
    return "a zip archive without a model in it"


def _describe_pickle(content: bytes) -> str:
    if b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" in content[:64]:  # torch's magic number of old
        return "a PyTorch checkpoint in the old format, not read yet"
    packages = sorted(
        {
            match.decode()
            for match in re.findall(
                rb"\b(xgboost|lightgbm|catboost|torch|keras|tensorflow|numpy|pandas)\.", content
            )
        }
    )
    names = f" (it names {', '.join(f'`{p}`' for p in packages)})" if packages else ""
    return f"a pickle, but not of a scikit-learn estimator{names}"


def _describe_rest(head: bytes) -> str:
    text = head.lstrip()
    if text.startswith((b"{", b"[")):
        try:
            json.loads(text)
        except ValueError:
            if b'"learner"' in head:
                return "an XGBoost model in JSON, not read yet"
        return "a JSON document"
    printable = sum(byte in b"\t\r\n" or 32 <= byte < 127 or byte > 127 for byte in head)
    if b"\0" not in head and printable > 0.98 * len(head):
        return "a text file"
    return "binary data of a kind that dukou does not know"
