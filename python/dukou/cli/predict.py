"""`dukou predict`: sends rows to a running server and shows what it answers.

INPUT is one of
  rows.csv      columns by their names in the model's signature, or in its order; with or without a header
  rows.json     a list of rows, a list of objects, {"input": [...]}, or a whole V2 request
  rows.npy      one array for a model with one input; rows.npz: arrays by input name
  -             CSV or JSON on stdin
  '[[1, 2]]'    JSON, written out

MODEL may name a version (`digits:3`) or an alias (`digits@champion`). Without --url the servers of
this machine are asked which of them has the model. With --dialect the server need not be dukou's:
TensorFlow Serving's tells what its models take, TorchServe's and Keras's are sent the rows as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from dukou.serve.dialects.table import DIALECTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", metavar="MODEL", help="the model's name at the server")
    parser.add_argument("input", metavar="INPUT", help="a file, `-` for stdin, or JSON")
    parser.add_argument("--url", help="the server, as http://127.0.0.1:8080; found where absent")
    parser.add_argument(
        "--dialect",
        choices=list(DIALECTS),
        default="v2",
        help="what the server speaks: v2 (Triton, KServe, dukou), tensorflow, kserve-v1, torchserve, "
        "keras; …-grpc over gRPC, with `dukou[grpc]`",
    )
    parser.add_argument("--key", help="the key that the server asks for; DUKOU_KEY where absent")
    parser.add_argument(
        "--cacert",
        metavar="PATH",
        help="the server's certificate, or its authority's; DUKOU_CACERT",
    )
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column of a CSV that is no input (the target, say); as often as needed",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="all outputs, one JSON object a row")
    shape.add_argument("--csv", action="store_true", help="all outputs as CSV, a line a row")
    parser.add_argument(
        "--batch", type=int, default=256, metavar="ROWS", help="rows a request (256)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Reads, asks, shows."""
    from dukou.base.errors import InputError
    from dukou.cli.loose_rows import read_rows
    from dukou.cli.rows import read_input
    from dukou.cli.show import show_answers
    from dukou.serve.client import Client
    from dukou.serve.folder import find_server

    name, version, alias = split_model(arguments.model)
    if arguments.batch < 1:
        raise InputError("usage.invalid", f"`--batch {arguments.batch}` is less than one row")
    url = arguments.url or find_server(name)
    client = Client(url, key=arguments.key, cacert=arguments.cacert, dialect=arguments.dialect)
    specs: list[dict[str, Any]] = []
    try:
        metadata = client.signature(name, version, alias)
        if metadata is None:
            parts = read_rows(arguments.input, rows=arguments.batch, drop=arguments.drop)
            answers = [client.infer_rows(name, part, version, alias) for part in parts]
        else:
            specs = metadata["outputs"]
            requests = read_input(
                arguments.input, metadata["inputs"], rows=arguments.batch, drop=arguments.drop
            )
            answers = [client.infer(name, request, version, alias) for request in requests]
    finally:
        client.close()
    style = "json" if arguments.json else "csv" if arguments.csv else "table"
    show_answers([_outputs(answer) for answer in answers], specs, style, sys.stdout)
    return 0


def split_model(text: str) -> tuple[str, str | None, str | None]:
    """`digits:3` → name and version, `digits@champion` → name and alias."""
    from dukou.base.ids import parse_model_name

    name, colon, version = text.partition(":")
    name, at, alias = name.partition("@") if not colon else (name, "", "")
    return parse_model_name(name), version if colon else None, alias if at else None


def _outputs(answer: dict[str, Any]) -> list[dict[str, Any]]:
    outputs = answer.get("outputs")
    if not isinstance(outputs, list) or not all("data" in output for output in outputs):
        from dukou.base.errors import RemoteError

        raise RemoteError(
            "client.server-error", f"the answer has no outputs: {json.dumps(answer)[:200]}"
        )
    return outputs
