"""The readers of networks, before any framework is loaded: trust, damage, and what a user says beside a file."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks import require
from tests.graphs import dense

from dukou.base.errors import InputError
from dukou.cli.main import main
from dukou.formats.inputs import parse_input
from dukou.formats.open import open_model
from dukou.formats.reader import ReadOptions
from dukou.model.signature import TensorSpec


class Planted:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def write_checkpoint(path: Path, content: bytes) -> Path:
    """As `torch.save` writes it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", content)
        archive.writestr("m/version", "3\n")
        archive.writestr("m/byteorder", "little")
    return path


def refused(path: Path | str, into: Path, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        open_model(path, into=into, **options)
    return caught.value


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["m/constants.pkl", "m/data.pkl", "m/code/x.py"], "a TorchScript model"),
        (["m/archive_format", "m/models/model.json"], "a PyTorch exported program"),
    ],
)
def test_a_program_needs_a_word_of_trust(tmp_path: Path, names: list[str], what: str) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "words")
    error = refused(path, tmp_path / "o")
    assert error.code == "formats.untrusted-code"
    assert f"is {what}: loading it can run code" in error.message
    assert "--trust-code" in error.hint


def test_weights_alone_say_what_is_missing(tmp_path: Path) -> None:
    state = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01."
    error = refused(write_checkpoint(tmp_path / "w.pt", state), tmp_path / "o")
    assert error.code == "formats.not-a-model"
    assert "state_dict: weights without a graph" in error.message
    assert "--factory" in error.hint


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = write_checkpoint(tmp_path / "w.pt", pickle.dumps(Planted(mark), protocol=2))
    assert refused(path, tmp_path / "o").code == "formats.untrusted-code"
    assert not mark.exists()
    require("torch", "onnxscript")
    (tmp_path / "net.py").write_text(
        "import torch\n\n\ndef build():\n    return torch.nn.Linear(2, 2), torch.zeros(1, 2)\n"
    )
    options = ReadOptions(f"{tmp_path / 'net.py'}:build")
    error = refused(path, tmp_path / "p", options=options)
    assert error.code == "formats.untrusted-code"
    assert "holds more than weights" in error.message
    assert not mark.exists()


def test_damage_is_seen_before_a_framework_is_started(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}" * 99)
        archive.writestr("model.weights.h5", "x" * 99)
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    error = refused(path, tmp_path / "o")
    assert error.code == "formats.corrupt"
    assert "`config.json` in it does not match its checksum" in error.message


def test_what_is_said_beside_a_file_that_needs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(dense().SerializeToString())
    error = refused(path, tmp_path / "o", options=ReadOptions("net.py:build"))
    assert error.code == "usage.invalid"
    assert "says itself what it takes" in error.message
    (tmp_path / "net.py").write_text("def build():\n    pass\n")
    word = f"{tmp_path / 'net.py'}:build"
    error = refused(word, tmp_path / "o", options=ReadOptions("other.py:build"))
    assert "and `--factory` another" in error.message
    assert refused(f"{tmp_path / 'gone.py'}:build", tmp_path / "o").code == "formats.not-found"


def test_inputs_in_words() -> None:
    assert parse_input("x[batch,1,8,8]") == TensorSpec("x", "FP32", ("batch", 1, 8, 8))
    assert parse_input(" ids:int64[batch, time]") == TensorSpec("ids", "INT64", ("batch", "time"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "a name and extents in brackets"),
        ("x:FP32", "a name and extents in brackets"),
        ("x[]", "`` is neither a length"),
        ("x[0,3]", "`0` is neither a length"),
        ("x[batch,-1]", "`-1` is neither a length"),
        ("x:FP31[2]", "`FP31` is not one of BOOL"),
        ("x:BYTES[2]", "`BYTES` is not one of"),
    ],
)
def test_inputs_that_say_nothing(text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="usage.invalid") as caught:
        parse_input(text)
    assert words in caught.value.message
    assert main(["convert", "m.pt", "--input", text]) == 2
    assert "[usage.invalid]" in capsys.readouterr().err


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "torch" else find(name))
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", "x")
    error = refused(path, tmp_path / "o")
    assert error.code == "formats.missing-extra"
    assert "is not installed" in error.message
    assert "dukou[keras]" in error.hint
