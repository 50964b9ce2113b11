"""TensorFlow Serving's REST, as its clients send it, on a real server; numbers are ONNX Runtime's own."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests import serving
from tests.serving import RunningServer, write_model

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]]


class Answer(NamedTuple):
    """What came back."""

    status: int
    said: Any
    headers: dict[str, str]

    @property
    def error(self) -> str:
        """The sentence."""
        return str(self.said["error"])


class Client:
    """Asks one server."""

    def __init__(self, server: RunningServer) -> None:
        self.address = server.address

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """One request; `body` as JSON where it is no text."""
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        try:
            text = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
            connection.request(method, path, text)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, json.loads(response.read()), headers)
        finally:
            connection.close()

    def predict(self, model: str, body: Any) -> Answer:
        """A predict request."""
        return self.ask("POST", f"/v1/models/{model}:predict", body)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path]]:
    folder = tmp_path_factory.mktemp("models")
    files = [write_model(folder / "m.onnx"), _write_two(folder / "two.onnx"), _write_text(folder)]
    with serving.house() as house, house.serving(*files) as server:
        yield Client(server), folder


def _write(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def _write_two(path: Path) -> Path:
    """`a` FP32 [n, 2] and `b` INT32 [n] → `sum` FP32 [n]."""
    value = helper.make_tensor_value_info
    return _write(
        path,
        [
            helper.make_node("Constant", [], ["axis"], value_ints=[1]),
            helper.make_node("Cast", ["b"], ["as_float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["a", "axis"], ["row"], keepdims=0),
            helper.make_node("Add", ["row", "as_float"], ["sum"]),
        ],
        [value("a", TensorProto.FLOAT, ["n", 2]), value("b", TensorProto.INT32, ["n"])],
        [value("sum", TensorProto.FLOAT, ["n"])],
    )


def _write_text(folder: Path) -> Path:
    """`t` BYTES [n] → itself, once under a name that ends in `_bytes`."""
    value = helper.make_tensor_value_info
    return _write(
        folder / "text.onnx",
        [
            helper.make_node("Identity", ["t"], ["same"]),
            helper.make_node("Identity", ["t"], ["same_bytes"]),
        ],
        [value("t", TensorProto.STRING, ["n"])],
        [value("same", TensorProto.STRING, ["n"]), value("same_bytes", TensorProto.STRING, ["n"])],
    )


def _expected(folder: Path, rows: list[list[float]]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(folder / "m.onnx")
    found = session.run(None, {"x": np.array(rows, np.float32)})
    return {output.name: value for output, value in zip(session.get_outputs(), found, strict=True)}


def test_rows_are_answered_by_row_and_columns_by_output(place: tuple[Client, Path]) -> None:
    client, folder = place
    expected = _expected(folder, ROWS)
    bare = client.predict("m", {"instances": ROWS})
    named = client.predict(
        "m", {"signature_name": "serving_default", "instances": [{"x": row} for row in ROWS]}
    )
    assert bare.status == named.status == 200
    assert bare.headers["content-type"] == "application/json"
    assert bare.said == named.said
    assert [row["label"] for row in bare.said["predictions"]] == expected["label"].tolist()
    given = np.array([row["probabilities"] for row in bare.said["predictions"]], np.float32)
    np.testing.assert_array_equal(given, expected["probabilities"])
    for inputs in (ROWS, {"x": ROWS, "unknown keys": "are passed over"}):
        columns = client.predict("m", {"inputs": inputs, "signature_name": ""})
        assert columns.status == 200
        assert columns.said["outputs"]["label"] == expected["label"].tolist()
        given = np.array(columns.said["outputs"]["probabilities"], np.float32)
        np.testing.assert_array_equal(given, expected["probabilities"])


def test_one_output_stands_without_its_name(place: tuple[Client, Path]) -> None:
    client, _ = place
    rows = [{"a": [1, 2.5], "b": 3}, {"b": -1, "a": [0, 1e2]}]
    assert client.predict("two", {"instances": rows}).said == {"predictions": [6.5, 99.0]}
    columns = {"a": [[1, 2.5], [0, 100]], "b": [3, -1]}
    assert client.predict("two", {"inputs": columns}).said == {"outputs": [6.5, 99.0]}
    # What follows the object is not looked at, as TensorFlow Serving does not.
    trailing = json.dumps({"inputs": columns}) + " and more"
    assert client.predict("two", trailing).status == 200
    odd = client.predict("two", '{"instances": [{"a": [NaN, 1], "b": 1}]}')
    assert odd.status == 200
    assert np.isnan(odd.said["predictions"][0])


def test_text_travels_as_itself_or_as_base64(place: tuple[Client, Path]) -> None:
    client, _ = place
    raw = b"\x00\xff"
    rows = ["渡口", {"b64": base64.b64encode(raw).decode()}]
    said = client.predict("text", {"instances": rows}).said["predictions"]
    assert said[0] == {
        "same": "渡口",
        "same_bytes": {"b64": base64.b64encode("渡口".encode()).decode()},
    }
    assert said[1] == {"same": rows[1], "same_bytes": rows[1]}


def test_versions_labels_status_and_metadata(place: tuple[Client, Path]) -> None:
    client, _ = place
    assert client.ask("POST", "/v1/models/m/versions/1:predict", {"instances": ROWS}).status == 200
    status = client.ask("GET", "/v1/models/m")
    assert status.said["model_version_status"] == [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
    # KServe's V1 clients ask the same path for these.
    assert (status.said["name"], status.said["ready"]) == ("m", True)
    assert client.ask("GET", "/v1/models").said == {"models": ["m", "two", "text"]}
    said = client.ask("GET", "/v1/models/two/metadata").said
    assert said["model_spec"] == {"name": "two", "signature_name": "", "version": "1"}
    signature = said["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["a"]["dtype"] == "DT_FLOAT"
    sizes = [dim["size"] for dim in signature["inputs"]["a"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "2"]
    assert signature["outputs"]["sum"]["dtype"] == "DT_FLOAT"


WRONG = {
    "no model": (
        "nothing",
        {"instances": ROWS},
        404,
        "Servable not found for request: Latest(nothing)",
    ),
    "neither": ("m", {"x": ROWS}, 400, "Missing 'inputs' or 'instances' key"),
    "both": (
        "m",
        {"instances": ROWS, "inputs": ROWS},
        400,
        "a request has either `instances` or `inputs`",
    ),
    "empty": ("m", "", 400, "JSON Parse error: The document is empty"),
    "no JSON": ("m", "{'instances'", 400, "JSON Parse error: "),
    "no object": ("m", "[1]", 400, "the body must be an object"),
    "no rows": ("m", {"instances": []}, 400, "`instances` is empty"),
    "no list": ("m", {"instances": 3}, 400, "`instances` must be a list"),
    "signature": (
        "m",
        {"instances": ROWS, "signature_name": "s"},
        400,
        'Serving signature name: "s" not found in signature def',
    ),
    "uneven": (
        "m",
        {"instances": [[1, 2, 3, 4], [1, 2, 3]]},
        400,
        "input `x`: Encountered list at unexpected size",
    ),
    "mixed depth": (
        "m",
        {"instances": [[1, 2, 3, [4]]]},
        400,
        "input `x`: Encountered list at unexpected size",
    ),
    "text": ("m", {"instances": [["a", 2, 3, 4]]}, 400, "JSON Value: `"),
    "null": ("m", {"instances": [[None, 2, 3, 4]]}, 400, "JSON Value: `null`"),
    "wrong width": (
        "m",
        {"instances": [[1, 2, 3]]},
        400,
        "input `x` has shape [1, 3], and the model takes [n, 4]",
    ),
    "scalar": ("m", {"inputs": 1}, 400, "input `x` has shape [], and the model takes [n, 4]"),
    "no name": (
        "two",
        {"instances": [1, 2]},
        400,
        "`instances` holds bare values, and the model takes 2 inputs",
    ),
    "missing": (
        "two",
        {"instances": [{"a": [1, 2]}]},
        400,
        "element 0 of `instances`: JSON object: keys must be equal to: a,b",
    ),
    "extra": (
        "two",
        {"instances": [{"a": [1, 2], "b": 1, "c": 1}]},
        400,
        "element 0 of `instances`: JSON object: does not have named input: c",
    ),
    "not as before": (
        "two",
        {"instances": [{"a": [1, 2], "b": 1}, 3]},
        400,
        "element 1 of `instances` must be an object",
    ),
    "another shape": (
        "two",
        {"instances": [{"a": [1, 2], "b": 1}, {"a": [1], "b": 1}]},
        400,
        "input `a`: the rows before have shape [2], and [1] came",
    ),
    "fraction": ("two", {"instances": [{"a": [1, 2], "b": 1.0}]}, 400, "JSON Value: `1.0`"),
    "too large": (
        "two",
        {"instances": [{"a": [1, 2], "b": 2147483648}]},
        400,
        "JSON Value: `2147483648`",
    ),
    "column missing": (
        "two",
        {"inputs": {"a": [[1, 2]]}},
        400,
        "Missing named input: b in `inputs` object.",
    ),
    "columns of other lengths": (
        "two",
        {"inputs": {"a": [[1, 2]], "b": [1, 2]}},
        400,
        "input `b` has shape [2], and the model takes [n]",
    ),
    "no base64": ("text", {"instances": [{"b64": "*"}]}, 400, "input `t`: Unable to base64 decode"),
    "number for text": ("text", {"instances": [1]}, 400, "JSON Value: `1`"),
    "deep": ("m", '{"instances": ' + "[" * 300, 400, "the body nests deeper"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_its_words(place: tuple[Client, Path], name: str) -> None:
    client, _ = place
    model, body, status, words = WRONG[name]
    answer = client.predict(model, body)
    assert (answer.status, answer.error[: len(words)]) == (status, words)
    assert answer.said["code"]
    assert answer.said["remedy"]


def test_paths_that_it_does_not_have(place: tuple[Client, Path]) -> None:
    client, _ = place
    for method, path in (
        ("PUT", "/v1/models/m"),
        ("POST", "/v1/models/m"),
        ("GET", "/v1/models/m:predict"),
    ):
        answer = client.ask(method, path)
        assert (answer.status, answer.error) == (400, f"Malformed request: {method} {path}")
    assert client.ask("POST", "/v1/models/m:explain", {"instances": []}).status == 501
    for path, words in (
        ("/v1/models/nothing", "Could not find any versions of model nothing"),
        ("/v1/models/m/versions/9", "Could not find version 9 of model m"),
    ):
        answer = client.ask("GET", path)
        assert (answer.status, answer.error) == (404, words)
    answer = client.ask("POST", "/v1/models/m/versions/9:predict", {"instances": ROWS})
    assert (answer.status, answer.error) == (404, "Servable not found for request: Specific(m, 9)")
    answer = client.ask("POST", "/v1/models/m/labels/x:predict", {"instances": ROWS})
    assert answer.error == "Unrecognized servable version label: x"


def test_examples_are_classified(place: tuple[Client, Path]) -> None:
    client, _ = place
    predicted = client.predict("m", {"instances": ROWS}).said["predictions"]
    examples = [{"x": row} for row in ROWS]
    answer = client.ask("POST", "/v1/models/m:classify", {"examples": examples})
    assert answer.status == 200, answer
    for classes, row in zip(answer.said["results"], predicted, strict=True):
        assert [name for name, _ in classes] == ["", "", ""], "the model names no classes"
        np.testing.assert_allclose([score for _, score in classes], row["probabilities"], rtol=1e-6)
    answer = client.ask("POST", "/v1/models/m:regress", {"examples": examples})
    assert (answer.status, answer.said["code"]) == (501, "wire.unsupported")
    assert answer.error.startswith("No regression outputs found")
    answer = client.ask("POST", "/v1/models/m:classify", {"examples": [{"y": 1.0}]})
    assert (answer.status, answer.said["code"]) == (400, "request.missing-input")
    assert answer.error.startswith("Feature: x")


def test_it_is_counted_and_written_down_as_what_it_is(place: tuple[Client, Path]) -> None:
    client, _ = place
    assert client.predict("m", {"instances": ROWS}).status == 200
    connection = http.client.HTTPConnection(*client.address, timeout=20)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    counted = [
        x for x in lines if x.startswith("dukou_requests_total") and 'dialect="tensorflow"' in x
    ]
    assert any('model="m"' in line and 'code="200"' in line for line in counted)
