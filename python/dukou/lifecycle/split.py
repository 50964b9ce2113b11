"""A model in stages, as a folder that can be served: the stages, and two documents that run them in order.

`one-engine.toml` holds all stages in one engine; `front.toml` asks an engine for each, so that no
process holds more than its part.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError

if TYPE_CHECKING:
    from dukou.optimize.split import Split

ONE_ENGINE, FRONT = "one-engine.toml", "front.toml"
# The first engine of stages is expected here, the others behind it.
_FIRST_PORT = 9001


@dataclass(frozen=True, slots=True)
class SplitFolder:
    """What was written.

    Attributes:
        name: of the model, under which the documents serve it.
        folder: where.
        split: the stages themselves, their graphs in `folder`.
        engines: the address of each stage's engine, as `front.toml` has it.
    """

    name: str
    folder: Path
    split: Split
    engines: tuple[str, ...]

    def commands(self) -> list[str]:
        """What starts each stage in an engine of its own, and the front."""
        started = [
            f"dukou serve {self.folder / f'stage-{number}' / 'graph.onnx'} "
            f"--name {stage_name(self.name, number)} --port {engine.rpartition(':')[2]}"
            for number, engine in enumerate(self.engines, 1)
        ]
        return [*started, f"dukou serve {self.folder / FRONT}"]


def stage_name(name: str, number: int) -> str:
    """What stage `number` of the model `name` is served as."""
    return f"{name}-stage-{number}"


def write_split(
    word: str,
    stages: int,
    folder: Path | None,
    *,
    home: Path,
    engines: Sequence[str] = (),
    trust_pickle: bool = False,
    say: Callable[[str], None] = lambda _line: None,
) -> SplitFolder:
    """Splits the model that `word` means, and writes what serves it.

    Args:
        word: a model file, or a reference to a version.
        stages: how many, at least 2.
        folder: where; absent or empty. `NAME-split` here, where None.
        home: DUKOU_HOME.
        engines: the address of each stage's engine; ports from 9001 on of this machine where empty.
        trust_pickle: whether code that the file carries may run.
        say: shows a line of progress.

    Raises:
        InputError: `split.*`, `usage.invalid`, or why there is no such model.
    """
    from dukou.lifecycle.advise.subject import open_subject
    from dukou.optimize.split import split_model

    if engines and len(engines) != stages:
        raise InputError(
            "usage.invalid", f"{len(engines)} `--engine` for {stages} stages, one each is expected"
        )
    addresses = tuple(engines) or tuple(
        f"http://127.0.0.1:{_FIRST_PORT + number}" for number in range(stages)
    )
    with tempfile.TemporaryDirectory(prefix="dukou-split-") as scratch:
        subject = open_subject(
            word, home=home, into=Path(scratch), trust_pickle=trust_pickle, say=say
        )
        target = folder or Path(f"{subject.name}-split")
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(
                "usage.invalid", f"`{target}` is there already, a new or empty folder is expected"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            split = split_model(subject.model, stages, work)
            _write(split, subject.name, addresses, work)
            if target.exists():
                target.rmdir()
            work.chmod(0o755)
            work.rename(target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return SplitFolder(subject.name, target, split, addresses)


def _write(split: Split, name: str, engines: Sequence[str], folder: Path) -> None:
    from dukou.lifecycle.keep import save_model

    for stage in split.stages:
        save_model(stage.model, stage.model.graph.parent)
    here = [f'file = "stage-{number}/graph.onnx"' for number in range(1, len(split.stages) + 1)]
    there = [f"[models.remote]\nreplicas = [{_quote(engine)}]" for engine in engines]
    for file, parts in ((ONE_ENGINE, here), (FRONT, there)):
        (folder / file).write_text(_document(split, name, parts), encoding="utf-8")


def _document(split: Split, name: str, parts: Sequence[str]) -> str:
    lines = [
        f"# `{name}` in {len(split.stages)} stages, written by `dukou split`.",
        "version = 1",
        f"name = {_quote(name)}",
    ]
    for number, part in enumerate(parts, 1):
        lines += ["", "[[models]]", f"name = {_quote(stage_name(name, number))}", part]
    lines += ["", "[[models]]", f"name = {_quote(name)}", "[models.graph]", "nodes = ["]
    for number, stage in enumerate(split.stages, 1):
        inputs = _table({n: _reference(*source) for n, source in stage.sources.items()})
        model = _quote(stage_name(name, number))
        lines.append(f'  {{ name = "stage-{number}", model = {model}, inputs = {inputs} }},')
    outputs = _table({n: _reference(*source) for n, source in split.outputs.items()})
    return "\n".join([*lines, "]", f"outputs = {outputs}", ""])


def _reference(stage: int, name: str) -> str:
    return f"stage-{stage}.{name}" if stage else f"input.{name}"


def _table(entries: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{_quote(k)} = {_quote(v)}" for k, v in entries.items()) + " }"


def _quote(text: str) -> str:
    """A basic string of TOML, which JSON's strings are."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
