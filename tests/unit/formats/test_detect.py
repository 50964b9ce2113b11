from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from tests.graphs import dense

from dukou.base.errors import InputError
from dukou.formats import detect_format, open_model


def _zip(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return content.getvalue()


def _npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, a=np.zeros(3))
    return content.getvalue()


_ESTIMATOR = pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]))


@pytest.mark.parametrize(
    "pack",
    [
        lambda c: c,
        zlib.compress,
        lambda c: zlib.compress(c, 9),
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda c: lzma.compress(c, format=lzma.FORMAT_ALONE),
    ],
    ids=["plain", "zlib", "zlib9", "gzip", "bz2", "xz", "lzma"],
)
def test_estimators_in_every_packing(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "m.bin").write_bytes(pack(_ESTIMATOR))
    assert detect_format(tmp_path / "m.bin") == ("sklearn", tmp_path / "m.bin")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_estimators_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    (tmp_path / "m").write_bytes(pickle.dumps(model, protocol))
    assert detect_format(tmp_path / "m")[0] == "sklearn"


def test_onnx_by_content(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(dense().SerializeToString())
    assert detect_format(tmp_path / "notes.txt")[0] == "onnx"


def test_the_one_model_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("words", encoding="utf-8")
    (tmp_path / "m.onnx").write_bytes(dense().SerializeToString())
    assert detect_format(tmp_path) == ("onnx", tmp_path / "m.onnx")
    (tmp_path / "n.onnx").write_bytes(dense().SerializeToString())
    with pytest.raises(InputError, match=r"2 models .*`m\.onnx`, `n\.onnx`"):
        detect_format(tmp_path)


def _said(value: object) -> str:
    """The name of a case: a zip archive holds the time, and every process must collect the same."""
    return value if isinstance(value, str) else "content"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"a,b\n1,2\n", "text"),
        (json.dumps({"a": 1}).encode(), "JSON"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"\x1c\0\0\0TFL3" + bytes(64), "LiteRT"),
        (b"GGUF" + bytes(64), "GGUF"),
        (b"\x08\x01\x12\x04abcd", "SavedModel"),
        ((20).to_bytes(8, "little") + b'{"weight":{"dtype":1', "safetensors"),
        (_zip("MAR-INF/MANIFEST.json", "m.pt"), "TorchServe"),
        (_zip("words.txt"), "zip archive without"),
        (_npz(), "NumPy archive"),
        (_zip("a")[:-10], "damaged zip"),
        (pickle.dumps({"a": [1, 2, 3]}), "pickle, but not of a scikit-learn"),
        (pickle.dumps(np.zeros(3)), "`numpy`"),
        (bytes(range(256)) * 8, "binary data"),
    ],
    ids=_said,
)
def test_what_it_is_instead(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_model(path, into=tmp_path / "o")
    assert caught.value.code == "formats.not-a-model"
    assert words in caught.value.message
    # The list of what is read stands in every such message.
    assert "ONNX graphs" in caught.value.message
    assert "scikit-learn" in caught.value.message


@pytest.mark.parametrize(
    ("content", "reader"),
    [
        (_zip("metadata.json", "config.json", "model.weights.h5"), "keras"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64) + b"model_config" + bytes(64), "keras"),
        (_zip("m/data.pkl", "m/version"), "torch"),
        (_zip("m/data.pkl", "m/constants.pkl", "m/code/x.py"), "torch"),
        (_zip("m/archive_format", "m/models/model.json"), "torch"),
    ],
    ids=_said,
)
def test_networks_by_content(tmp_path: Path, content: bytes, reader: str) -> None:
    (tmp_path / "notes.txt").write_bytes(content)
    assert detect_format(tmp_path / "notes.txt")[0] == reader


def test_a_saved_model_folder(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x04abcd")
    with pytest.raises(InputError, match="SavedModel"):
        detect_format(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_model(tmp_path / "gone.onnx", into=tmp_path / "o")
    assert caught.value.code == "formats.not-found"
    assert not (tmp_path / "o").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte: only its beginning is looked at."""
    path = tmp_path / "bomb.joblib"
    packer = zlib.compressobj(9)
    path.write_bytes(
        b"".join([*(packer.compress(bytes(1 << 24)) for _ in range(16)), packer.flush()])
    )
    with pytest.raises(InputError) as caught:
        detect_format(path)
    assert caught.value.code == "formats.not-a-model"
