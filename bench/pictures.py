"""A large tensor, handed through: one picture of 3 × 224 × 224 float32, 602,112 bytes each way.

The model does nothing (`Identity`), so that what is measured is what a server does around it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.workplace import BUILD

NAME = "pictures"
SHAPE = (1, 3, 224, 224)
INPUT, OUTPUT = "pixels", "same"


@dataclass(frozen=True)
class Pictures:
    """The model's file, and a request with the bytes that its answer must end with.

    Attributes:
        file: ONNX, float32 of `SHAPE` in and out.
        body_file: a V2 request: JSON that asks for raw outputs, then the picture's bytes.
        tail_file: the picture's bytes (float32, little-endian, row-major).
        header_bytes: how many bytes of the body are JSON.
        tensor_bytes: how many are the picture's.
    """

    file: Path
    body_file: Path
    tail_file: Path
    header_bytes: int
    tensor_bytes: int


def load_pictures() -> Pictures:
    """The model and its request, made anew: both take no time."""
    folder = BUILD / NAME
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{NAME}.onnx"
    file.write_bytes(_model())
    raw = np.random.default_rng(20261126).random(SHAPE, np.float32).astype("<f4").tobytes()
    tensor = {
        "name": INPUT,
        "shape": list(SHAPE),
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    asked = {"parameters": {"binary_data_output": True}, "inputs": [tensor]}
    head = json.dumps(asked, separators=(",", ":")).encode()
    body_file, tail_file = folder / "body.bin", folder / "tail.bin"
    body_file.write_bytes(head + raw)
    tail_file.write_bytes(raw)
    return Pictures(file, body_file, tail_file, len(head), len(raw))


def _model() -> bytes:
    from onnx import TensorProto, checker, helper

    pixels = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, SHAPE)
    same = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, SHAPE)
    node = helper.make_node("Identity", [INPUT], [OUTPUT])
    graph = helper.make_graph([node], NAME, [pixels], [same])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()
