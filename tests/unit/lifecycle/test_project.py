"""The project file: read whole, refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.base.errors import InputError
from dukou.lifecycle.create import create_project
from dukou.lifecycle.deployment import put_deployment
from dukou.lifecycle.project import fill_command, load_project
from dukou.registry.registry import Registry


@pytest.fixture
def project(tmp_path: Path) -> Path:
    create_project(tmp_path / "numbers", example="digits")
    return tmp_path / "numbers" / "dukou.toml"


def test_a_new_project_is_valid_and_named_after_its_folder(project: Path) -> None:
    read = load_project(project.parent)
    assert read.model.name == "numbers"
    assert read.path(read.data.path).read_text().count("\n") == 1798


def test_nothing_is_kept_of_what_callers_send_unless_asked_for(project: Path) -> None:
    with Registry.open(project.parent / "home") as registry:
        registry.register_version("numbers", f"sha256:{1:064x}")
        put_deployment(registry, load_project(project))
        assert registry.deployment("numbers") is None
        with project.open("a", encoding="utf-8") as file:
            file.write("\n[monitor]\ncapture = true\n")
        put_deployment(registry, load_project(project))
        kept = registry.deployment("numbers")
        assert kept is not None
        assert kept.document["models"][0]["capture"] is not None


def test_a_cache_is_the_projects_word(project: Path) -> None:
    plain = project.read_text(encoding="utf-8")
    with Registry.open(project.parent / "home") as registry:
        registry.register_version("numbers", f"sha256:{1:064x}")
        for section, kept in (
            ('\n[deploy.cache]\nsize = "64m"\n', {"max_bytes": 64 << 20, "ttl_ms": None}),
            (
                '\n[deploy.cache]\nsize = "1m"\nttl = "5min"\n',
                {"max_bytes": 1 << 20, "ttl_ms": 300_000},
            ),
            ("", None),
        ):
            project.write_text(plain + section, encoding="utf-8")
            put_deployment(registry, load_project(project))
            entry = registry.deployment("numbers")
            assert entry is not None
            assert entry.document["models"][0].get("cache") == kept
        project.write_text(plain + '\n[deploy.cache]\nsize = "1k"\n', encoding="utf-8")
        with pytest.raises(InputError, match="a cache has at least 64k") as caught:
            load_project(project)
        assert caught.value.code == "project.invalid"


def test_providers_are_the_projects_word(project: Path) -> None:
    plain = project.read_text(encoding="utf-8")

    def write(line: str) -> None:
        head = plain.replace("[deploy]\n", f"[deploy]\n{line}\n")
        project.write_text(head if head != plain else f"{plain}\n[deploy]\n{line}\n", "utf-8")

    said = 'providers = ["cuda", {name = "openvino", options = {device_type = "CPU"}}]'
    with Registry.open(project.parent / "home") as registry:
        registry.register_version("numbers", f"sha256:{1:064x}")
        write(said)
        put_deployment(registry, load_project(project))
        entry = registry.deployment("numbers")
        assert entry is not None
        openvino = {"name": "openvino", "options": {"device_type": "CPU"}}
        assert entry.document["models"][0]["run"]["providers"] == ["cuda", openvino]
        project.write_text(plain, encoding="utf-8")
        put_deployment(registry, load_project(project))
        entry = registry.deployment("numbers")
        assert entry is None or "run" not in entry.document["models"][0]
    write('providers = ["opnevino"]')
    with pytest.raises(InputError, match="did you mean `openvino`") as caught:
        load_project(project)
    assert caught.value.code == "project.invalid"


def test_a_folders_name_becomes_the_models_where_no_letter_is_lost(tmp_path: Path) -> None:
    create_project(tmp_path / "my model (2)")
    text = (tmp_path / "my model (2)" / "dukou.toml").read_text(encoding="utf-8")
    assert 'name = "my-model-2"' in text
    for name in ("我的 model", "...", "数字"):
        with pytest.raises(InputError, match="no model's name can be made") as caught:
            create_project(tmp_path / name)
        assert caught.value.code == "config.invalid"
        assert "--name" in caught.value.hint
    create_project(tmp_path / "我的 model", name="mine")


def test_a_project_is_not_overwritten_unasked(project: Path) -> None:
    with pytest.raises(InputError, match="is there already") as caught:
        create_project(project.parent)
    assert caught.value.code == "project.exists"
    create_project(project.parent, force=True, example="digits")


@pytest.mark.parametrize(
    ("before", "after", "says", "hint"),
    [
        ("gates =", "gate =", "`evaluate.gate` is not a key", "did you mean `gates`?"),
        ("[deploy]", "[deplyo]", "`deplyo` is not a key", "did you mean `deploy`?"),
        ("test_fraction = 0.2", "test_fraction = 2", "`data.test_fraction` is `2`", ""),
        ("version = 1", "", "`version` is missing", ""),
        ("version = 1", "version = 2", "`version` is `2`", ""),
        ("data/digits.csv", "data/other.csv", "names `data/other.csv`, and there is nothing", ""),
        ('["train.py"]', '["gone.py"]', "`train.files` names `gone.py`", ""),
        ('name = "numbers"', 'name = "a b"', "`model.name` is `'a b'`", ""),
        ("version = 1", "version = [", "is not TOML", ""),
        ("[deploy]", '[improve]\nobjective = "speed"\n[deploy]', "`speed` is not an objective", ""),
        (
            "[deploy]",
            "[improve]\ncosts = { a = 1 }\n[deploy]",
            "`improve.objective` is not set",
            "",
        ),
        ("[deploy]", '[improve]\nobjective = "cost"\n[deploy]', "names 0 classes", ""),
        ("[deploy]", "[improve]\nalpha = 0.9\n[deploy]", "`improve.alpha` is `0.9`", ""),
        ("[deploy]", "[improve]\nobjectve = 1\n[deploy]", "not a key", "did you mean `objective`?"),
        ("version = 1", 'version = 1\nfolder = "x"', "`folder` is not a key", ""),
    ],
)
def test_what_is_wrong_is_named(
    project: Path, before: str, after: str, says: str, hint: str
) -> None:
    text = project.read_text(encoding="utf-8")
    assert before in text
    project.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_project(project)
    assert caught.value.code == "project.invalid"
    assert says in caught.value.message
    assert str(project) in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("asked", ["calibrate = true", 'objective = "accuracy"'])
def test_a_number_has_no_probabilities_to_improve(project: Path, asked: str) -> None:
    text = project.read_text(encoding="utf-8").replace(
        'task = "classification"', 'task = "regression"'
    )
    text = text.replace('gates = ["accuracy >= 0.95", "f1_macro >= 0.95"]', "gates = []")
    project.write_text(text, encoding="utf-8")
    assert load_project(project).improve.parse_objective() is None
    project.write_text(text + f"\n[improve]\n{asked}\n", encoding="utf-8")
    with pytest.raises(InputError, match="`model.task` is `regression`") as caught:
        load_project(project)
    assert caught.value.code == "improve.cannot-apply"


def test_a_file_that_is_not_utf8(project: Path) -> None:
    project.write_bytes("# 数字\n".encode("gbk"))
    with pytest.raises(InputError, match="is not UTF-8"):
        load_project(project)


def test_no_project_here(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_project(tmp_path)
    assert caught.value.code == "project.not-found"


def test_placeholders_are_filled_or_refused() -> None:
    assert (
        fill_command("fit {data} --seed {seed}", {"data": "a.csv", "seed": "1"})
        == "fit a.csv --seed 1"
    )
    with pytest.raises(InputError, match=r"\{sede\}"):
        fill_command("fit --seed {sede}", {"seed": "1"})
