"""The door out of this stop: a `Model` becomes the files of another runtime, in a folder of their own."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError
from dukou.formats.table import list_writers, load_writer
from dukou.formats.writer import Written

if TYPE_CHECKING:
    from dukou.model.model import Model


def write_model(model: Model, to: str, folder: Path, *, stem: str = "model") -> Written:
    """Writes `model` for another runtime, with `STEM.json` beside it: signature, lineage and proof.

    Args:
        model: any model.
        to: the name of a writer.
        folder: absent or empty; nothing is left in it where the writing fails.
        stem: of the files' names.

    Raises:
        InputError: `usage.invalid`, `formats.missing-extra`, `formats.cannot-convert`,
            `formats.parity`.
    """
    if to not in list_writers():
        known = ", ".join(f"`{name}` ({load_writer(name).kind})" for name in list_writers())
        raise InputError(
            "usage.invalid", f"`{to}` is no format that dukou writes; it writes {known}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            "usage.invalid", f"`{folder}` is there already, a new or empty folder is expected"
        )
    writer = load_writer(to)
    absent = next((name for name in writer.needs if importlib.util.find_spec(name) is None), None)
    if absent is not None:
        raise InputError(
            "formats.missing-extra",
            f"writing {writer.kind} needs `{absent}`, which is not installed",
            hint=f"pip install 'dukou[{writer.extra}]'",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        written = writer.write_model(model, work, stem)
        lineage = asdict(model.lineage)
        lineage["steps"] = [*lineage["steps"], f"write {to} by {written.tool}"]
        document = {
            "format": to,
            "tool": written.tool,
            "signature": model.signature.to_json(),
            "lineage": lineage,
            "parity": written.parity.to_json(),
        }
        (work / f"{stem}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        work.chmod(0o755)
        work.rename(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return Written(folder / written.file.name, written.tool, written.parity)
