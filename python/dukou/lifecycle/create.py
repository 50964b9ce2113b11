"""A new project: a project file, a training command, and for an example its data."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from dukou.base.errors import InputError
from dukou.base.ids import parse_model_name
from dukou.lifecycle.project import FILE_NAME

_TRAINING = "train.py"


def create_project(
    folder: Path | str, *, name: str | None = None, example: str | None = None, force: bool = False
) -> list[Path]:
    """Writes a project into `folder` and gives the paths written.

    Args:
        folder: made if needed.
        name: the model's; the folder's name where None.
        example: `digits` for a complete project on real data; None for a blank one.
        force: overwrite the files of a project that is there.

    Raises:
        InputError: `project.exists` where there is one and `force` is not set.
    """
    folder = Path(folder)
    if (folder / FILE_NAME).exists() and not force:
        raise InputError("project.exists", f"`{folder / FILE_NAME}` is there already")
    # A folder's name may be anything; a model's may not.
    guess = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._") or "model"
    model = parse_model_name(name or guess)
    folder.mkdir(parents=True, exist_ok=True)
    templates = resources.files("dukou.lifecycle") / "templates"
    written = []
    for template, file in ((f"{example or 'blank'}.toml", FILE_NAME), (_TRAINING, _TRAINING)):
        text = (templates / template).read_text(encoding="utf-8").replace("@name@", model)
        (folder / file).write_text(text, encoding="utf-8")
        written.append(folder / file)
    if example == "digits":
        written.append(_write_digits(folder / "data" / "digits.csv"))
    return written


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
