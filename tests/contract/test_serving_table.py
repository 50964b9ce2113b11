"""One table, two languages: the golden tables as Python and the schema see them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dukou.base.codes import CODES
from dukou.base.ids import parse_model_name
from dukou.deploy.schema import schema_text
from dukou.deploy.table import ServingTable

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "conformance" / "tables"
GOOD = sorted((TABLES / "good").glob("*.json"))
BAD = sorted((TABLES / "bad").glob("*.json"))
# Which of a union's sources pydantic tried is no part of a field's path.
UNION_TAGS = {
    *("FileSource", "ArtifactSource", "RemoteSource", "GraphSource"),
    *("ModelNode", "EnsembleNode", "SwitchNode"),
    *("str", "dict[str,str]"),
}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def dotted(location: Iterable[int | str]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def fields_of(error: ErrorDetails) -> set[str]:
    """The paths that the engine may give to what pydantic found."""
    whole = error["loc"]
    location = [part for part in whole if part not in UNION_TAGS]
    if error["type"] == "reference":
        return {dotted((*location, error["ctx"]["field"]))}
    fields = {dotted(location)}
    if error["type"] == "missing":
        # The engine names the object that lacks a field, pydantic the field.
        fields.add(dotted(location[:-1]) or ".")
    for place, part in enumerate(whole):
        # Where no member of the union fits, the engine names the union.
        if part in UNION_TAGS:
            fields.add(dotted(part for part in whole[:place] if part not in UNION_TAGS))
    return fields


def test_there_are_tables() -> None:
    assert len(GOOD) >= 4
    assert len(BAD) >= 50


def test_the_schema_in_spec_is_the_generated_one() -> None:
    kept = (ROOT / "spec" / "serving-table.schema.json").read_text()
    assert kept == schema_text(), (
        "run `python -m dukou.deploy.schema > spec/serving-table.schema.json`"
    )


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_table_is_taken_and_written_again(path: Path) -> None:
    document = read(path)
    table = ServingTable.model_validate_json(path.read_text(), strict=True)
    assert table.model_dump(mode="json") == document
    jsonschema.validate(document, json.loads(schema_text()))
    for model in table.models:
        assert parse_model_name(model.name) == model.name


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_table_is_refused_at_its_field(path: Path) -> None:
    case = read(path)
    expected = case["expect"]
    assert expected["code"] in CODES
    with pytest.raises(ValidationError) as refused:
        ServingTable.model_validate_json(json.dumps(case["table"]), strict=True)
    fields = set().union(*(fields_of(error) for error in refused.value.errors()))
    assert expected["field"] in fields
    schema = jsonschema.Draft202012Validator(json.loads(schema_text()))
    assert schema.is_valid(case["table"]) is not expected["schema"]
