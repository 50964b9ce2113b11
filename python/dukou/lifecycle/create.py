"""A new project: a project file, a training command, and for an example its data."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from pathlib import Path

from dukou.base.errors import InputError
from dukou.base.ids import ModelName, parse_model_name
from dukou.lifecycle.pipelines import write_pipeline
from dukou.lifecycle.project import FILE_NAME

_TRAINING = "train.py"


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
        example: `digits` for a complete project on real data; None for a blank one.
        ci: `github`, `gitlab` or `jenkins`: writes that system's pipeline too, and new versions go by
            canary.
        force: overwrite the files of a project that is there.

    Raises:
        InputError: `project.exists` where there is one and `force` is not set; `config.invalid` where
            no name is given and none can be made of the folder's.
    """
    folder = Path(folder)
    if (folder / FILE_NAME).exists() and not force:
        raise InputError("project.exists", f"`{folder / FILE_NAME}` is there already")
    model = parse_model_name(name) if name else _name_of_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    templates = resources.files("dukou.lifecycle") / "templates"
    written = []
    for template, file in ((f"{example or 'blank'}.toml", FILE_NAME), (_TRAINING, _TRAINING)):
        text = (templates / template).read_text(encoding="utf-8").replace("@name@", model)
        text = text.replace("@strategy@", "canary" if ci else "immediate")
        (folder / file).write_text(text, encoding="utf-8")
        written.append(folder / file)
    if example == "digits":
        written.append(_write_digits(folder / "data" / "digits.csv"))
    if ci is not None:
        written += write_pipeline(folder, ci, model)
    return written


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
