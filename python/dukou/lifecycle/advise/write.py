"""`[deploy]` of a project file is written anew; comments, and every key that is not ours, stay."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dukou.base.documents import parse_document
from dukou.base.errors import InputError
from dukou.lifecycle.project import FILE_NAME, DeploySection, Project

# What advice decides. The others (alias, strategy, canary, threads) are the project's own.
KEYS = ("profile", "replicas", "instances", "batch_rows", "queue", "deadline", "memory")


def show_block(deploy: Mapping[str, Any]) -> str:
    """The section as it would stand in a project file."""
    import tomlkit

    document = tomlkit.document()
    document["deploy"] = dict(deploy)
    return tomlkit.dumps(document)


def edit(text: str, deploy: Mapping[str, Any], *, source: str) -> str:
    """The project file `text` with its `[deploy]` saying `deploy`.

    Args:
        text: a project file.
        deploy: values of some of `KEYS`; those of them that are not here are taken out.
        source: of the text, for errors.

    Raises:
        InputError: `project.invalid`, where it is not TOML or would not be valid.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text)
        if "deploy" not in document:
            if text and not text.endswith("\n"):
                document.add(tomlkit.nl())
            document.add(tomlkit.nl())
            document["deploy"] = tomlkit.table()
        section: Any = document["deploy"]
        for key in KEYS:
            if key in deploy:
                if key not in section or section[key] != deploy[key]:
                    section[key] = deploy[key]
            elif key in section:
                del section[key]
        written = tomlkit.dumps(document)
        parsed = tomlkit.parse(written).unwrap()["deploy"]
    except (TOMLKitError, TypeError, AttributeError) as error:
        raise InputError("project.invalid", f"{source} cannot be edited: {error}") from error
    parse_document(DeploySection, parsed, code="project.invalid", source=source)
    return written


def diff(before: str, after: str) -> str:
    """Lines that go and come, with a few around them; empty where nothing changes."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), FILE_NAME, FILE_NAME, lineterm="", n=2
    )
    return "\n".join(lines)


def project_file(project: Project) -> Path:
    """Where the project stands."""
    return (project.folder / FILE_NAME).resolve()


def read_text(path: Path) -> str:
    """As it is, line ends included."""
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()


def replace_text(path: Path, text: str) -> None:
    """Puts `text` in the place of the file, whole or not at all, with the same permissions."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        shutil.copymode(path, name)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
