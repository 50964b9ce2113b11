"""Calls of gRPC for the bench: messages of V2 written by hand, and `bench-calls`, which sends them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bench.digits import NAME, Digits
from bench.load import read_report
from bench.workplace import program

METHOD = "/inference.GRPCInferenceService/ModelInfer"
# Calls in flight: few connections with some streams each, as clients of gRPC have them.
CONNECTIONS = 4


def field(number: int, content: bytes) -> bytes:
    """A protobuf field with a length."""
    length, out = len(content), bytes([number << 3 | 2])
    while length >= 0x80:
        out += bytes([length & 0x7F | 0x80])
        length >>= 7
    return out + bytes([length]) + content


def _tensor(name: str, shape: Sequence[int]) -> bytes:
    return field(1, name.encode()) + field(2, b"FP32") + field(3, bytes(shape))


def _raw(values: Sequence[float]) -> bytes:
    return np.array(values, "<f4").tobytes()


def request(row: Sequence[float]) -> bytes:
    """`ModelInferRequest` of one row."""
    return field(1, NAME.encode()) + field(5, _tensor("X", (1, len(row)))) + field(7, _raw(row))


def response(output: dict[str, Any]) -> bytes:
    """`ModelInferResponse` of one output: what the echo gives back."""
    head = field(1, NAME.encode()) + field(2, b"1")
    return (
        head + field(5, _tensor(output["name"], output["shape"])) + field(6, _raw(output["data"]))
    )


def write_messages(digits: Digits, folder: Path) -> tuple[list[Path], list[Path]]:
    """The requests, and the floats that each answer must end with, as files."""
    messages, endings = [], []
    pairs = zip(digits.bodies, digits.answers["1"], strict=True)
    for at, (body, answer) in enumerate(pairs):
        (x,), (output,) = json.loads(body)["inputs"], answer["outputs"]
        messages.append(folder / f"call-{at}.bin")
        messages[-1].write_bytes(request(x["data"]))
        endings.append(folder / f"ending-{at}.bin")
        endings[-1].write_bytes(_raw(output["data"]))
    return messages, endings


def command(
    url: str, files: tuple[Sequence[Path], Sequence[Path]], in_flight: int, seconds: float
) -> list[str]:
    """The line that is run; without endings only that calls go well is looked at."""
    parts, (messages, endings) = urlsplit(url), files
    return [
        *(str(program("bench-calls")), "--address", parts.netloc, "--path", parts.path),
        *("--messages", ",".join(map(str, messages)), "--endings", ",".join(map(str, endings))),
        *("--connections", str(CONNECTIONS), "--streams", str(max(1, in_flight // CONNECTIONS))),
        *("--milliseconds", f"{seconds * 1e3:.0f}"),
    ]


def run(line: Sequence[str]) -> dict[str, Any]:
    """Sends, and gives the report.

    Raises:
        BenchError: nothing was measured.
    """
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)
    return read_report(done.returncode, done.stdout, done.stderr)
