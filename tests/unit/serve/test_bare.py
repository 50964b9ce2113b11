"""Tables for bare files are valid ones, without the module that says what valid is."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.base.errors import InputError
from dukou.base.ids import ModelName
from dukou.deploy.table import ServingTable
from dukou.serve.bare import bare_table, name_of_file


@pytest.mark.parametrize("log", [None, Path("/var/log/access.jsonl")])
def test_a_bare_table_is_a_serving_table(tmp_path: Path, log: Path | None) -> None:
    files = {ModelName("digits"): tmp_path / "digits.onnx", ModelName("b"): tmp_path / "b.onnx"}
    document = bare_table(files, listeners=["http"], connections=100, access_log=log)
    table = ServingTable.model_validate(document)
    assert table.model_dump(mode="json") == document
    assert [model.name for model in table.models] == ["digits", "b"]
    assert table.limits.connections == 100


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("digits.onnx", "digits"),
        ("my model (2).onnx", "my-model-2-"),
        ("_hidden.onnx", "hidden"),
        ("模型3.onnx", "3"),
        ("a" * 300 + ".onnx", "a" * 128),
    ],
)
def test_a_name_is_made_of_a_files(file: str, name: str) -> None:
    assert name_of_file(Path(file)) == name


def test_a_file_name_without_a_letter_asks_for_a_name() -> None:
    with pytest.raises(InputError, match="模型") as refused:
        name_of_file(Path("模型.onnx"))
    assert "--name" in refused.value.hint
