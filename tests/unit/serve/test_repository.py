"""What of a folder is served, and as what; no file of it is opened as a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dukou.base.errors import InputError
from dukou.deploy.dropin.triton import Policy
from dukou.serve.bare import FileModel, bare_model
from dukou.serve.repository import Found, is_repository, parse_versions, read_repository


def _lay(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"onnx")
        else:
            path.mkdir(exist_ok=True)
    return folder


def _read(folder: Path, **options: Any) -> Found:
    def convert(path: Path) -> tuple[Path, None]:
        return path.with_suffix(".converted"), None

    return read_repository(folder, convert, **options)


def _served(found: Found, folder: Path) -> dict[str, dict[str, str]]:
    return {
        name: {v: str(path.relative_to(folder)) for v, path in model.versions.items()}
        for name, model in found.models.items()
    }


def test_every_layout_side_by_side(tmp_path: Path) -> None:
    _lay(
        tmp_path,
        *("iris/1/model.onnx", "iris/2/model.onnx", "iris/10/model.onnx", "iris/assets/x.txt"),
        *("digits/graph.onnx", "digits/weights-0.bin", "digits/golden.json"),
        *("flowers.onnx", "README.md", ".git/model.onnx", "notes/todo.txt"),
        *("big/3/model.onnx/model.onnx", "big/3/model.onnx/weights.bin"),
        *("other/1/net.onnx", "forest/model.joblib", "empty/"),
    )
    found = _read(tmp_path)
    assert _served(found, tmp_path) == {
        "big": {"3": "big/3/model.onnx/model.onnx"},
        "digits": {"1": "digits/graph.onnx"},
        "flowers": {"1": "flowers.onnx"},
        "forest": {"1": "forest/model.converted"},
        "iris": {"10": "iris/10/model.onnx"},
        "other": {"1": "other/1/net.onnx"},
    }
    assert found.notes == [
        "`iris` has versions 1, 2, 10: 10 is served, `--versions all` serves every one",
        f"`{tmp_path / 'notes'}` holds no model, and is left out",
    ]


@pytest.mark.parametrize(
    ("word", "served"), [("all", ["1", "2", "10"]), ("2", ["2", "10"]), ("latest", ["10"])]
)
def test_which_versions(tmp_path: Path, word: str, served: list[str]) -> None:
    _lay(tmp_path, "iris/1/model.onnx", "iris/2/model.onnx", "iris/10/model.onnx")
    found = _read(tmp_path, policy=parse_versions(word))
    assert list(found.models) == ["iris"]
    model = found.models[next(iter(found.models))]
    assert (list(model.versions), model.default) == (served, "10")
    assert found.notes == []
    split = bare_model(next(iter(found.models)), model)["split"]
    assert split == [{"version": "10", "arm": "main", "weight": 1}]


def test_a_folder_whose_folders_are_numbers_is_one_model(tmp_path: Path) -> None:
    _lay(tmp_path, "iris/1/model.onnx", "iris/2/model.onnx", "iris/config.pbtxt")
    (tmp_path / "iris" / "config.pbtxt").write_text('name: "iris" version_policy { all {} }')
    found = _read(tmp_path / "iris")
    assert list(found.models["iris"].versions) == ["1", "2"]  # type: ignore[index]


def test_a_config_is_honoured_and_the_rest_named(tmp_path: Path) -> None:
    _lay(tmp_path, "m/1/a.onnx", "m/1/b.onnx", "m/2/b.onnx", "m/labels.txt", "sum/1/", "o.onnx")
    (tmp_path / "m" / "config.pbtxt").write_text(
        'default_model_filename: "b.onnx" version_policy { specific { versions: 1 } }\n'
        "max_batch_size: 4 model_warmup {}"
    )
    (tmp_path / "m" / "labels.txt").write_text("setosa\nversicolor\n\n")
    (tmp_path / "sum" / "config.pbtxt").write_text('platform: "ensemble" ensemble_scheduling {}')
    found = _read(tmp_path)
    assert found.models["m"] == FileModel(  # type: ignore[index]
        {"1": tmp_path / "m/1/b.onnx"}, labels=("setosa", "versicolor"), max_rows=4
    )
    assert found.notes == [
        f"`{tmp_path / 'm/config.pbtxt'}`: not honoured here: model_warmup",
        "`sum` is an ensemble of other models, and is left out: a document with a `graph` serves one "
        "(docs/services.md)",
    ]
    assert FileModel.from_json(found.models["m"].to_json()) == found.models["m"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("files", "code", "sentence"),
    [
        ([], "folder.no-model", "`F` holds no model: the folder is empty"),
        (["a.txt"], "folder.no-model", "`F` holds no model"),
        (["m/2/", "m/1/model.onnx", "o.onnx"], "folder.no-model", "`F/m/2` holds no model"),
        (
            ["m.onnx", "m/1/model.onnx"],
            "folder.ambiguous",
            "`F/m` and `F/m.onnx` would both be served as `m`",
        ),
        (["m/01/model.onnx", "m/1/model.onnx", "o.onnx"], "folder.ambiguous", "are both version 1"),
        (["m/a.onnx", "m/b.onnx", "o.onnx"], "folder.ambiguous", "holds 2 models (`a.onnx`, `b"),
        (["m/1/model.onnx", "m/x.onnx", "o.onnx"], "folder.ambiguous", "`x.onnx` beside them"),
        (["tf/1/saved_model.pb"], "folder.foreign-model", "`F/tf/1/saved_model.pb` is a Tensor"),
        (["tf/1/model.savedmodel/x"], "folder.foreign-model", "is a TensorFlow SavedModel"),
        (["saved_model.pb"], "folder.foreign-model", "is a TensorFlow SavedModel, not ONNX"),
        (["a.mar"], "folder.foreign-model", "`F/a.mar` is a TorchServe archive, not ONNX"),
        (["t/1/model.pt"], "folder.foreign-model", "is a program or weights of PyTorch"),
        (["t/1/model.plan"], "folder.foreign-model", "is a TensorRT engine, not ONNX"),
        (["t/1/model.py"], "folder.foreign-model", "is a program of Triton's Python backend"),
    ],
)
def test_what_is_refused(tmp_path: Path, files: list[str], code: str, sentence: str) -> None:
    folder = tmp_path / "F"
    folder.mkdir()
    _lay(folder, *files)
    assert is_repository(folder)
    with pytest.raises(InputError) as error:
        _read(folder)
    assert error.value.code == code
    assert sentence in error.value.message.replace(str(folder), "F")
    assert error.value.hint


def test_every_remedy_of_a_foreign_model_is_a_command(tmp_path: Path) -> None:
    remedies = {
        "saved_model.pb": "python -m tf2onnx.convert --saved-model",
        "model.pt": "`dukou convert ",
        "m.mar": "`dukou convert WEIGHTS.pt --factory NET.py:BUILD`",
    }
    for name, command in remedies.items():
        folder = _lay(tmp_path / name.replace(".", "-"), f"m/1/{name}")
        with pytest.raises(InputError) as error:
            _read(folder)
        assert command in str(error.value.hint)


def test_programs_are_converted_once_somebody_vouches_for_them(tmp_path: Path) -> None:
    _lay(tmp_path, "t/1/model.pt", "u/model.onnx")
    found = _read(tmp_path, trust_code=True)
    assert _served(found, tmp_path)["t"] == {"1": "t/1/model.converted"}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    _lay(tmp_path, "m/1/", "o.onnx")
    (tmp_path / "m" / "1" / "model.onnx").symlink_to(tmp_path / "gone.onnx")
    with pytest.raises(InputError) as error:
        _read(tmp_path)
    assert error.value.code == "formats.not-found"
    assert "model.onnx` cannot be read: No such file" in error.value.message
    if os.geteuid():
        (tmp_path / "m" / "1" / "model.onnx").unlink()
        (tmp_path / "o.onnx").chmod(0)
        with pytest.raises(InputError, match="cannot be read: Permission denied"):
            _read(tmp_path)


def test_one_file_alone_is_a_model_as_before(tmp_path: Path) -> None:
    assert not is_repository(_lay(tmp_path / "a", "model.onnx", "weights.bin", "docs/"))
    assert is_repository(_lay(tmp_path / "b", "x.onnx", "y.onnx"))
    assert is_repository(_lay(tmp_path / "c", "x.onnx", "m/1/model.onnx"))


@pytest.mark.parametrize("word", ["0", "-1", "newest", "1.5"])
def test_a_wrong_word_for_versions(word: str) -> None:
    with pytest.raises(InputError, match="is neither `all`, `latest`"):
        parse_versions(word)
    assert parse_versions("all") == Policy(latest=None)
