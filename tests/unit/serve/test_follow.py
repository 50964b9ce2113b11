"""When a followed folder is read anew, and what then is to be served."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.base.errors import InputError
from dukou.base.ids import ModelName
from dukou.serve.bare import FileModel
from dukou.serve.follow import Followed, Follower
from dukou.serve.repository import read_repository


def _put(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"onnx")
    return folder


def _follow(folder: Path, name: str | None = None) -> Follower:
    said = None if name is None else ModelName(name)
    found = read_repository(folder, lambda path: (path, None)).models
    files = found if said is None else {said: model for model in found.values()}  # noqa: B035
    elsewhere = {ModelName("file"): FileModel({"1": folder / "elsewhere.onnx"})}
    return Follower([Followed(folder, said, None, {})], {**elsewhere, **files})


def _look_twice(follower: Follower) -> dict[str, list[str]] | None:
    assert follower.look() is None, "a change is taken once it has stood still"
    files = follower.look()
    return None if files is None else {name: list(m.versions) for name, m in files.items()}


def test_a_version_that_is_put_there(tmp_path: Path) -> None:
    follower = _follow(_put(tmp_path / "m", "iris/1/model.onnx", "digits/model.onnx"))
    assert follower.look() is None
    _put(tmp_path / "m", "iris/2/model.onnx")
    assert follower.look() is None
    files = follower.look()
    assert files is not None
    assert {name: list(model.versions) for name, model in files.items()} == {
        "file": ["1"],
        "digits": ["1"],
        "iris": ["2"],
    }
    assert follower.taken(files) == "iris 2"
    assert follower.look() is None
    _put(tmp_path / "m", "digits/notes.txt")
    assert _look_twice(follower) is None, "nothing that is served changed"


def test_what_grows_is_waited_for(tmp_path: Path) -> None:
    follower = _follow(_put(tmp_path / "m", "iris/1/model.onnx", "x.onnx"))
    for size in range(3):
        (tmp_path / "m" / "y.onnx").write_bytes(b"o" * size)
        assert follower.look() is None
    files = follower.look()
    assert files is not None
    assert "y" in files


def test_a_model_that_is_taken_away(tmp_path: Path) -> None:
    follower = _follow(_put(tmp_path / "m", "a.onnx", "b.onnx"))
    (tmp_path / "m" / "b.onnx").unlink()
    assert follower.look() is None
    files = follower.look()
    assert files is not None
    assert follower.taken(files) == "no b"


def test_what_cannot_be_read_is_said_once(tmp_path: Path) -> None:
    follower = _follow(_put(tmp_path / "m", "a/1/model.onnx", "b.onnx"))
    (tmp_path / "m" / "a" / "2").mkdir()
    assert follower.look() is None
    with pytest.raises(InputError) as error:
        follower.look()
    assert error.value.code == "folder.no-model"
    assert follower.look() is None
    _put(tmp_path / "m", "a/2/model.onnx")
    assert _look_twice(follower) == {"file": ["1"], "a": ["2"], "b": ["1"]}


@pytest.mark.parametrize(
    ("name", "words"), [("file.onnx", "two models"), ("c.joblib", "has to be converted first")]
)
def test_what_is_refused(tmp_path: Path, name: str, words: str) -> None:
    follower = _follow(_put(tmp_path / "m", "a.onnx", "b.onnx"))
    _put(tmp_path / "m", name)
    assert follower.look() is None
    with pytest.raises(InputError, match=words):
        follower.look()


def test_one_that_was_not_taken_is_said_again(tmp_path: Path) -> None:
    follower = _follow(_put(tmp_path / "iris", "1/model.onnx"), name="flowers")
    _put(tmp_path / "iris", "2/model.onnx")
    expected = {"file": ["1"], "flowers": ["2"]}
    assert _look_twice(follower) == expected
    follower.look_again()
    files = follower.look()
    assert files is not None
    assert {n: list(m.versions) for n, m in files.items()} == expected
