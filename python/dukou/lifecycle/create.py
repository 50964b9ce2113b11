"""A new project: a project file, a training command, and for an example its data."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from pathlib import Path

from dukou.base.errors import InputError
from dukou.base.ids import ModelName, parse_model_name
from dukou.lifecycle.pipelines import find_place, write_pipeline
from dukou.lifecycle.project import FILE_NAME

_TRAINING = "train.py"
# Example → its rows.
_DATA = {"digits": "data/digits.csv", "diabetes": "data/diabetes.csv"}
_IMMEDIATE = """\
strategy = "immediate"      # or "canary": by steps under live traffic, back by itself if it does harm"""
_CANARY = """\
strategy = "canary"         # by steps under live traffic, back by itself if it does harm"""
# Example → its training command, where it is not the one of classes.
_TRAININGS: dict[str | None, str] = {"diabetes": "train_numbers.py"}


def create_project(
    folder: Path | str,
    *,
    name: str | None = None,
    example: str | None = None,
    ci: str | None = None,
    force: bool = False,
) -> list[Path]:
    """Writes a project into `folder` and gives the paths written.

    Args:
        folder: made if needed.
        name: the model's; the folder's name where None.
        example: `digits` (classes) or `diabetes` (a number) for a complete project on real data; None for a
            blank one.
        ci: `github`, `gitlab` or `jenkins`: writes that system's pipeline too, and new versions go by
            canary. In a folder that has a project, with no `name` and no `example`: the pipeline alone.
        force: overwrite what is there.

    Raises:
        InputError: `project.exists` where something would be overwritten and `force` is not set;
            `config.invalid` where no name is given and none can be made of the folder's; `project.*`
            of a project that is there and cannot be read.
    """
    folder = Path(folder)
    there = (folder / FILE_NAME).exists()
    if there and ci is not None and name is None and example is None:
        return _add_pipeline(folder, ci, force=force)
    if there and not force:
        raise InputError("project.exists", f"`{folder / FILE_NAME}` is there already")
    model = parse_model_name(name) if name else _name_of_folder(folder)
    kept = _look_for_files(folder, model, example, ci, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    templates = resources.files("dukou.lifecycle") / "templates"
    written = []
    training = _TRAININGS.get(example, _TRAINING)
    for template, file in ((f"{example or 'blank'}.toml", FILE_NAME), (training, _TRAINING)):
        if folder / file in kept:
            continue
        text = (templates / template).read_text(encoding="utf-8").replace("@name@", model)
        text = text.replace("@strategy@", _CANARY if ci else _IMMEDIATE)
        (folder / file).write_text(text, encoding="utf-8")
        written.append(folder / file)
    if example == "digits":
        written.append(_write_digits(folder / _DATA[example]))
    if example == "diabetes":
        written.append(_write_diabetes(folder / _DATA[example]))
    if ci is not None:
        written += write_pipeline(folder, ci, model)
    return written


def _look_for_files(
    folder: Path, model: ModelName, example: str | None, ci: str | None, *, force: bool
) -> list[Path]:
    """What is left as it is: a training script that a person has already. Nothing is overwritten.

    Raises:
        InputError: `project.exists`, naming what else would be.
    """
    if force:
        return []
    training = folder / _TRAINING
    wanted = [folder / FILE_NAME]
    if example is not None:
        wanted += [training, folder / _DATA[example]]
    if ci is not None:
        wanted.append(find_place(folder, ci, model).path)
    _refuse_overwriting(wanted)
    return [training] if training.exists() else []


def _refuse_overwriting(wanted: list[Path]) -> None:
    taken = [f"`{path}`" for path in wanted if path.exists()]
    if taken:
        verb = "is" if len(taken) == 1 else "are"
        raise InputError(
            "project.exists",
            f"{', '.join(taken)} {verb} there already",
            hint="take away what you do not need, or overwrite it with `--force`",
        )


def _add_pipeline(folder: Path, ci: str, *, force: bool) -> list[Path]:
    """The pipeline of a project that is there; its own files are left as they are."""
    from dukou.lifecycle.project import read_project

    model = read_project(folder).model.name
    if not force:
        _refuse_overwriting([find_place(folder, ci, model).path])
    return write_pipeline(folder, ci, model)


def _name_of_folder(folder: Path) -> ModelName:
    """The model's name, made of the folder's: spaces and signs become `-`.

    A folder's name may be anything; a model's is part of addresses and metrics, and is ASCII. Where
    that would drop letters (`数字`, `café`), the person is asked instead of being given a stump.
    """
    name = folder.resolve().name
    guess = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")
    if not guess or any(letter.isalnum() and not letter.isascii() for letter in name):
        raise InputError(
            "config.invalid",
            f"no model's name can be made of the folder's, `{name}`: a name has letters a to z and "
            "A to Z, digits, `.`, `_` and `-`",
            hint=f"give one, the folder keeps its name: `dukou init {shlex.quote(str(folder))} "
            "--name digits`",
        )
    return parse_model_name(guess)


def _write_digits(path: Path) -> Path:
    """The 1,797 handwritten digits that scikit-learn carries, pixels 0 to 16, as a CSV."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join([*(f"pixel_{i}" for i in range(64)), "digit"]) + "\n")
        for row, digit in zip(digits.data, digits.target, strict=True):
            file.write(",".join(str(int(v)) for v in (*row, digit)) + "\n")
    return path


def _write_diabetes(path: Path) -> Path:
    """The 442 patients of Efron et al. (2004) that scikit-learn carries, as measured, as a CSV."""
    from sklearn.datasets import load_diabetes

    patients = load_diabetes(scaled=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join([*patients.feature_names, "progression"]) + "\n")
        for row, progression in zip(patients.data, patients.target, strict=True):
            file.write(",".join(f"{value:g}" for value in (*row, progression)) + "\n")
    return path
