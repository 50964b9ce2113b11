"""The serving folder: what it serves, what is left to its starter, what lies in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests import registry_house, serving
from tests.graphs import dense, save_external

from dukou.base.errors import InputError
from dukou.deploy.standalone import NO_TIME, write_folder
from dukou.deploy.table import ServingTable
from dukou.lifecycle.contents import Choice, choose_contents
from dukou.registry.registry import Registry


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two versions of `chain`; the second is the champion."""
    folder = tmp_path_factory.mktemp("models")
    with serving.house() as made:
        for seed in (1, 2):
            registry_house.publish(made, folder, seed=seed)
        registry_house.move_alias(made, 2)
        yield made


def chosen(house: serving.House, *words: str, **said: Any) -> Choice:
    """What these words mean there."""
    return choose_contents(words, home=house.home, **said)


def write(choice: Choice, into: Path) -> Any:
    """The folder, without a C library."""
    return write_folder(
        choice.contents, into, engine=choice.engine, runtime=choice.runtime, c_library=False
    )


def test_a_reference_is_its_version_alone(house: serving.House, tmp_path: Path) -> None:
    choice = chosen(house, "chain")
    facts = write(choice, tmp_path / "folder")
    [model] = choice.contents.models
    assert (model.name, model.version, model.is_packaged) == ("chain", "2", True)
    table = json.loads((tmp_path / "folder" / "table.json").read_text())
    [version] = table["models"][0]["versions"]
    assert version["source"] == {"artifact": model.digest, "store": "store"}
    assert version["backend"]["instances"] == "cpus"
    assert table["trust"]["require_signature"] and table["trust"]["keys"]
    blobs = {path.name for path in (tmp_path / "folder" / "store" / "blobs" / "sha256").iterdir()}
    other = chosen(house, "chain:1").contents.models[0].digest.removeprefix("sha256:")
    assert model.digest.removeprefix("sha256:") in blobs and other not in blobs
    assert facts.bytes["models"] > 0 and facts.bytes["libraries"] == 0
    assert choice.contents.created > NO_TIME


def test_what_the_starter_resolves_makes_a_table(house: serving.House, tmp_path: Path) -> None:
    write(chosen(house, "chain@champion"), tmp_path / "folder")
    table = json.loads((tmp_path / "folder" / "table.json").read_text())
    version = table["models"][0]["versions"][0]
    version["source"]["store"] = "/folder/store"
    version["backend"]["instances"] = 2
    ServingTable.model_validate(table)


def test_folder_json_names_every_file(house: serving.House, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(chosen(house, "chain"), folder)
    said = json.loads((folder / "folder.json").read_text())
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(said["files"]) == there - {"folder.json"}
    for name, facts in said["files"].items():
        content = (folder / name).read_bytes()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert facts == {"sha256": digest, "bytes": len(content)}, name


def test_the_same_twice(house: serving.House, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(chosen(house, "chain"), tmp_path / name)
    one, two = (json.loads((tmp_path / name / "folder.json").read_text()) for name in ("a", "b"))
    assert one == two
    assert one["revision"] != chosen(house, "chain:1").contents.table["revision"]


def test_a_deployment_says_how_it_is_run(house: serving.House) -> None:
    document = {
        "version": 1,
        "name": "pair",
        "models": [
            {"name": "old", "model": "chain", "traffic": [{"version": 1}], "run": {"instances": 3}},
            {"name": "new", "model": "chain", "capture": {"share": 1.0}},
        ],
    }
    with Registry.open(house.home) as registry:
        registry.put_deployment("pair", document, expected=0)
    contents = chosen(house, "pair").contents
    assert [(m.name, m.version) for m in contents.models] == [("old", "1"), ("new", "2")]
    old, new = contents.table["models"]
    assert old["versions"][0]["backend"]["instances"] == 3
    assert new["versions"][0]["backend"]["instances"] == "cpus"
    # Nobody collects what an engine alone would capture.
    assert new["capture"] is None
    assert contents.name == "old" and len(contents.digests) == 2


def test_a_bare_file_comes_with_its_weights(house: serving.House, tmp_path: Path) -> None:
    graph = save_external(dense(), tmp_path / "wide.onnx")
    contents = chosen(house, str(graph), names=["wide"]).contents
    write(chosen(house, str(graph), names=["wide"]), tmp_path / "folder")
    inside = tmp_path / "folder" / "models" / "wide"
    assert (inside / "wide.onnx").read_bytes() == graph.read_bytes()
    assert len(list(inside.iterdir())) == 2
    assert contents.created == NO_TIME and not contents.digests
    assert contents.table["models"][0]["versions"][0]["source"] == {"file": "models/wide/wide.onnx"}
    assert not (tmp_path / "folder" / "store").exists()


def test_a_document_s_files_come_along_and_what_others_answer_stays(
    house: serving.House, tmp_path: Path
) -> None:
    save_external(dense(), tmp_path / "wide.onnx")
    document = {
        "name": "shop",
        "models": [
            {"name": "wide", "file": "wide.onnx"},
            {"name": "far", "remote": {"replicas": ["http://127.0.0.1:9"]}},
        ],
    }
    (tmp_path / "shop.json").write_text(json.dumps(document))
    choice = chosen(house, str(tmp_path / "shop.json"))
    write(choice, tmp_path / "folder")
    wide, far = choice.contents.models
    assert wide.bytes > 0 and (far.name, far.digest, far.bytes) == ("far", "", 0)
    assert len(list((tmp_path / "folder" / "models" / "wide").iterdir())) == 2
    sources = [m["versions"][0]["source"] for m in choice.contents.table["models"]]
    assert sources[0] == {"file": "models/wide/wide.onnx"} and "remote" in sources[1]
    assert choice.contents.asks_others


def test_a_folder_that_is_there_is_left_alone(house: serving.House, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InputError) as refused:
        write(chosen(house, "chain"), tmp_path)
    assert refused.value.code == "usage.invalid"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_what_is_not_there_is_said(house: serving.House) -> None:
    for word, code in [
        ("nobody", "registry.unknown-model"),
        ("chain:9", "registry.unknown-version"),
        ("/nowhere.onnx", "formats.not-found"),
    ]:
        with pytest.raises(Exception) as refused:
            chosen(house, word)
        assert refused.value.code == code  # type: ignore[attr-defined]
