"""The example request: one row that fits, exact, short where it can be."""

from __future__ import annotations

import json
import shlex
from typing import Any

from dukou.serve.announce import show_signature
from dukou.serve.example import curl_line, example_inputs, predict_line, request_body, rows_argument


def _spec(name: str, dtype: str, shape: list[Any]) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape}


SIGNATURE = {
    "inputs": [_spec("x", "FP32", ["batch", 2]), _spec("s", "BYTES", [None])],
    "outputs": [_spec("y", "INT64", [None])],
}


def test_free_dimensions_become_one() -> None:
    assert example_inputs(SIGNATURE) == [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 0.0]},
        {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["text"]},
    ]


def test_a_golden_sample_gives_its_first_row() -> None:
    golden = [
        {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 0.1, 3.0, 4.0]},
        {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["it's", "b"]},
    ]
    tensors = example_inputs(SIGNATURE, golden)
    assert tensors is not None
    assert [tensor["data"] for tensor in tensors] == [[1.0, 0.1], ["it's"]]
    assert [tensor["shape"] for tensor in tensors] == [[1, 2], [1]]


def test_a_sample_of_fixed_rows_stays_whole() -> None:
    signature = {"inputs": [_spec("x", "FP32", [2, 2])], "outputs": []}
    golden = [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}]
    assert example_inputs(signature, golden) == golden


def test_what_json_cannot_carry_has_no_example() -> None:
    assert example_inputs({"inputs": [_spec("x", "FP16", [1])], "outputs": []}) is None


def test_float32_is_written_short_and_read_back_exactly() -> None:
    # 0.1 as a float32, in the digits that Python gives it.
    value = 0.10000000149011612
    tensors = [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [value, 5.0]}]
    body = request_body(tensors)
    assert '"data":[0.100000001,5]' in body
    import struct

    back = json.loads(body)["inputs"][0]["data"][0]
    assert struct.pack("f", back) == struct.pack("f", value)


def test_rows_of_one_input_and_tensors_of_several() -> None:
    one = [{"name": "x", "datatype": "INT64", "shape": [1, 2], "data": [1, 2]}]
    assert json.loads(rows_argument(one)) == [[1, 2]]
    two = [*one, {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["a"]}]
    assert json.loads(rows_argument(two)) == {"x": [[1, 2]], "s": ["a"]}


def test_lines_survive_a_shell() -> None:
    body = request_body([{"name": "s", "datatype": "BYTES", "shape": [1], "data": ["it's; $HOME"]}])
    words = shlex.split(curl_line("http://127.0.0.1:1", "m", body))
    assert words[-1] == body
    assert shlex.split(predict_line("http://127.0.0.1:1", "m", body))[-1] == body


def test_a_signature_reads_well() -> None:
    assert show_signature(SIGNATURE) == "x FP32 [batch, 2], s BYTES [?] → y INT64 [?]"
