"""`dukou split`: cuts a model into stages, so that several processes or machines hold a part each.

MODEL is a model file or a version of the registry (`digits`, `digits:3`). The folder that is written
has a graph a stage and two documents for `dukou serve`:
  one-engine.toml    all stages in one engine
  front.toml         each stage in an engine of its own, asked in order
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dukou.lifecycle.split import SplitFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", metavar="MODEL", help="a model file or a registry version")
    parser.add_argument(
        "--stages", type=int, required=True, metavar="N", help="how many; 2 or more"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="a new folder; `NAME-split` where absent"
    )
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="URL",
        help="where a stage's engine will answer, once a stage, for front.toml; "
        "http://127.0.0.1:9001 and on where absent",
    )
    parser.add_argument(
        "--trust-pickle",
        "--trust-code",
        action="store_true",
        dest="trust_pickle",
        help="load pickles and programs: this runs the code that they carry",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON, for errors too")


def run(arguments: argparse.Namespace) -> int:
    """Splits, and says what came of it and how it is served."""
    from dukou.base.errors import DukouError
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.split import write_split

    try:
        found = write_split(
            arguments.model,
            arguments.stages,
            arguments.output,
            home=dukou_home(),
            engines=arguments.engine,
            trust_pickle=arguments.trust_pickle,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except DukouError as error:
        if not arguments.json:
            raise
        print(json.dumps({"code": error.code, "message": error.message, "hint": error.hint}))
        return error.exit_status
    print(json.dumps(_facts(found)) if arguments.json else _text(found))
    return 0


def _facts(found: SplitFolder) -> dict[str, Any]:
    split = found.split
    return {
        "name": found.name,
        "folder": str(found.folder),
        "stages": [
            {
                "graph": str(found.folder / f"stage-{number}" / "graph.onnx"),
                "weight_bytes": stage.weight_bytes,
                "signature": stage.model.signature.to_json(),
                "golden": len(stage.model.golden.samples) if stage.model.golden else 0,
            }
            for number, stage in enumerate(split.stages, 1)
        ],
        "share": split.share,
        "crossing_bytes": list(split.crossing_bytes),
        "largest_difference": split.largest_difference,
        "commands": found.commands(),
    }


def _text(found: SplitFolder) -> str:
    from dukou.lifecycle.split import ONE_ENGINE

    split = found.split
    lines = [f"wrote {found.folder}: `{found.name}` in {len(split.stages)} stages"]
    for number, stage in enumerate(split.stages, 1):
        takes = ", ".join(f"{s.name} {list(s.shape)}" for s in stage.model.signature.inputs)
        lines.append(
            f"  stage {number}  {stage.weight_bytes / 1e6:>9,.3f} MB of weights  takes {takes}"
        )
    crossing = ", ".join(f"{count:,.0f}" for count in split.crossing_bytes)
    lines.append(f"  bytes a row between them: {crossing}")
    if split.largest_difference is not None:
        count = len(split.whole.golden.samples) if split.whole.golden else 0
        lines.append(
            f"  answers equal the whole's on {count} golden requests: largest difference "
            f"{split.largest_difference:.1e}"
        )
    lines += ["", "in one engine:", f"  dukou serve {shlex.quote(str(found.folder / ONE_ENGINE))}"]
    lines += ["each stage in an engine of its own:", *(f"  {c}" for c in found.commands())]
    return "\n".join(lines)
