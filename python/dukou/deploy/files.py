"""Deployment documents that people keep in files, TOML or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dukou.base.documents import load_toml, parse_document
from dukou.base.errors import InputError
from dukou.deploy.document import Deployment

# Fields of a document that name files, relative to the document's own folder.
_FILES = (("file",), ("remote", "key_file"), ("remote", "ca_file"))


def read_deployment(path: Path) -> Deployment:
    """The deployment that a file holds; the files that it names become absolute.

    Raises:
        InputError: `formats.not-found`; `deploy.invalid`, with the place in the file.
    """
    document = _read(path)
    source = f"`{path}`"
    parse_document(Deployment, document, code="deploy.invalid", source=source)
    for index, model in enumerate(document["models"]):
        for keys in _FILES:
            place = ".".join(("models", str(index), *keys))
            _make_absolute(model, keys, path.parent, f"{source}: `{place}`")
    # Read first, so that what is wrong is said of what was written; and again with whole paths.
    return Deployment.model_validate(document)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError("formats.not-found", f"there is nothing at `{path}`")
    if path.suffix.lower() == ".toml":
        document = load_toml(path, code="deploy.invalid")
    else:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError("deploy.invalid", f"`{path}` is not JSON: {error}") from None
    if not isinstance(document, dict) or "models" not in document:
        raise InputError(
            "deploy.invalid",
            f"`{path}` has no `models`, and is no deployment",
            hint="`dukou serve FOLDER` serves the project whose `dukou.toml` lies there",
        )
    return document


def _make_absolute(model: Any, keys: tuple[str, ...], folder: Path, place: str) -> None:
    section = model
    for key in keys[:-1]:
        section = section.get(key)
        if section is None:
            return
    said = section.get(keys[-1])
    if said is None:
        return
    file = folder.absolute() / Path(said).expanduser()
    if not file.is_file():
        raise InputError("deploy.invalid", f"{place}: there is no file `{file}`")
    section[keys[-1]] = str(file)
