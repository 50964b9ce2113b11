"""`dukou convert`: any model file that dukou reads becomes ONNX, its answers proved equal."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", metavar="MODEL", help="a model file or folder")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="FOLDER",
        help="keep the graph here under its source's digest, and take a kept one; "
        "else `NAME.onnx` is written in this folder",
    )
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="load pickles: this runs the code that they carry",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON, for errors too")


def run(arguments: argparse.Namespace) -> int:
    """Converts, and says where the graph is."""
    from dukou.base.errors import DukouError

    try:
        if arguments.into is None:
            kept = {"graph": str(_write_here(Path(arguments.model), trust=arguments.trust_pickle))}
        else:
            kept = _keep(Path(arguments.model), arguments.into, trust=arguments.trust_pickle)
    except DukouError as error:
        if not arguments.json:
            raise
        failure = {"code": error.code, "message": error.message, "hint": error.hint}
        print(json.dumps(failure))
        return error.exit_status
    print(json.dumps(kept) if arguments.json else f"wrote {kept['graph']}")
    return 0


def _write_here(source: Path, *, trust: bool) -> Path:
    import shutil
    import tempfile

    from dukou.formats.open import open_model

    target = Path(f"{source.stem}.onnx").absolute()
    if target.exists():
        raise InputError(
            "usage.invalid",
            f"`{target}` is there already, and would be overwritten",
            hint="move it away, or name a folder with `--into`",
        )
    with tempfile.TemporaryDirectory(prefix=".dukou-", dir=target.parent) as folder:
        graph = open_model(source, into=folder, trust_pickle=trust).graph
        # Weights that lie beside the graph go with it.
        for file in graph.parent.iterdir():
            if file != graph:
                shutil.move(file, target.parent / file.name)
        graph.replace(target)
    return target


def _keep(source: Path, into: Path, *, trust: bool) -> dict[str, Any]:
    """The kept conversion of the very same source, or a new one: its graph and a golden sample."""
    import shutil
    import tempfile

    from dukou import __version__
    from dukou.formats.open import open_model
    from dukou.lifecycle.runner import digest_of

    if not source.exists():
        open_model(source, into=into)  # says what is not there
    kept = into / f"{digest_of([source]).removeprefix('sha256:')[:32]}-{__version__}"
    note = kept / "conversion.json"
    if not note.is_file():
        into.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".converting-", dir=into))
        try:
            model = open_model(source, into=work, trust_pickle=trust)
            golden = None
            if model.golden is not None:
                document = json.loads(model.golden.to_json(model.signature))
                golden = document["samples"][0]["inputs"]
            said = {"graph": str(model.graph.relative_to(work)), "golden": golden}
            (work / note.name).write_text(json.dumps(said), encoding="utf-8")
            if not kept.exists():  # another process may have been first, with the same result
                work.rename(kept)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return {**found, "graph": str(kept / found["graph"])}
