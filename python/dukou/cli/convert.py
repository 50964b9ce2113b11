"""`dukou convert`: any model file that dukou reads becomes ONNX, or goes onwards, its answers proved equal.

MODEL is a file or folder, or code that builds a network:
  model.keras                    Keras, .h5 of old too
  model.pt2 --trust-code         PyTorch: torch.export's programs, TorchScript
  weights.pt --factory net.py:build    a state_dict, and the function that builds the module for it
  net.py:build                   a function that gives the network with its weights
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError

if TYPE_CHECKING:
    from dukou.formats.reader import ReadOptions


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
        "--trust-code",
        action="store_true",
        dest="trust_pickle",
        help="load pickles and programs: this runs the code that they carry",
    )
    parser.add_argument(
        "--factory",
        metavar="FILE.py:FUNCTION",
        help="the code that builds the network whose weights MODEL holds",
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME:DTYPE[EXTENTS]",
        help="what the network takes, where its file does not say: 'x:FP32[batch,1,8,8]'; once an input",
    )
    parser.add_argument(
        "--to", metavar="FORMAT", help="go onwards from ONNX: `openvino` writes its .xml and .bin"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="with --to: a new folder for the files; `NAME-FORMAT` here where absent",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON, for errors too")


def run(arguments: argparse.Namespace) -> int:
    """Converts, and says where the graph is."""
    from dukou.base.errors import DukouError

    try:
        kept = _convert(arguments)
    except DukouError as error:
        if not arguments.json:
            raise
        failure = {"code": error.code, "message": error.message, "hint": error.hint}
        print(json.dumps(failure))
        return error.exit_status
    print(json.dumps(kept) if arguments.json else _text(kept))
    return 0


def _text(kept: dict[str, Any]) -> str:
    if "file" not in kept:
        return f"wrote {kept['graph']}"
    parity = kept["parity"]
    return (
        f"wrote {kept['file']} by {kept['tool']}\n"
        f"its answers equal ONNX Runtime's on {parity['rows']} rows: largest difference "
        f"{parity['largest_difference']:.1e}"
    )


def _convert(arguments: argparse.Namespace) -> dict[str, Any]:
    from dukou.formats.inputs import parse_input
    from dukou.formats.reader import ReadOptions

    options = ReadOptions(arguments.factory, tuple(map(parse_input, arguments.input)))
    if arguments.output is not None and arguments.to is None:
        raise InputError("usage.invalid", "`--output` goes with `--to FORMAT`")
    if arguments.to is not None:
        if arguments.into is not None:
            raise InputError("usage.invalid", "`--to` takes `--output FOLDER`, not `--into`")
        return _write_onwards(arguments, options)
    if arguments.into is None:
        target = _write_here(arguments.model, options, trust=arguments.trust_pickle)
        return {"graph": str(target)}
    if options or ":" in arguments.model:
        raise InputError(
            "usage.invalid",
            "`--into` keeps a conversion under its file's digest, which code and descriptions of "
            "inputs are not part of",
            hint="leave `--into` out: `NAME.onnx` is written in this folder",
        )
    return _keep(Path(arguments.model), arguments.into, trust=arguments.trust_pickle)


def _write_here(word: str, options: ReadOptions, *, trust: bool) -> Path:
    import shutil
    import tempfile

    from dukou.formats.open import open_model

    target = Path(f"{Path(word).stem.partition('.py:')[0]}.onnx").absolute()
    if target.exists():
        raise InputError(
            "usage.invalid",
            f"`{target}` is there already, and would be overwritten",
            hint="move it away, or name a folder with `--into`",
        )
    with tempfile.TemporaryDirectory(prefix=".dukou-", dir=target.parent) as folder:
        graph = open_model(word, into=folder, trust_pickle=trust, options=options).graph
        # Weights that lie beside the graph go with it.
        for file in graph.parent.iterdir():
            if file != graph:
                shutil.move(file, target.parent / file.name)
        graph.replace(target)
    return target


def _write_onwards(arguments: argparse.Namespace, options: ReadOptions) -> dict[str, Any]:
    import tempfile

    from dukou.formats.onwards import write_model
    from dukou.formats.open import open_model

    stem = Path(arguments.model).stem.partition(".py:")[0]
    folder = arguments.output or Path(f"{stem}-{arguments.to}")
    with tempfile.TemporaryDirectory(prefix="dukou-convert-") as work:
        model = open_model(
            arguments.model, into=work, trust_pickle=arguments.trust_pickle, options=options
        )
        written = write_model(model, arguments.to, folder, stem=stem)
    return {
        "file": str(written.file),
        "tool": written.tool,
        "parity": written.parity.to_json(),
    }


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
