"""TensorFlow Serving's REST as its users call it: plain `requests`, by the paths and bodies of its documentation."""

from __future__ import annotations

import base64
from typing import Any

import requests
from case import case, close

PACKAGE = "requests"
ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]]


def _post(facts: dict[str, Any], path: str, body: Any) -> requests.Response:
    return requests.post(f"{facts['url']}/v1/models/{path}", json=body, timeout=20)


@case("predict, rows")
def rows(facts: dict[str, Any]) -> None:
    """`instances`, bare and by name."""
    for instances in (ROWS, [{"x": row} for row in ROWS]):
        answer = _post(facts, "m:predict", {"instances": instances})
        assert answer.status_code == 200, answer.text
        predictions = answer.json()["predictions"]
        close([row["probabilities"] for row in predictions], facts["probabilities"])
        assert [row["label"] for row in predictions] == facts["labels"]


@case("predict, columns")
def columns(facts: dict[str, Any]) -> None:
    """`inputs`, bare and by name."""
    for inputs in (ROWS, {"x": ROWS}):
        outputs = _post(facts, "m:predict", {"inputs": inputs}).json()["outputs"]
        close(outputs["probabilities"], facts["probabilities"])


@case("predict, one output: its name is left out")
def one_output(facts: dict[str, Any]) -> None:
    """The shape of the answer depends on how many outputs there are."""
    said = base64.b64encode(b"hi").decode()
    answer = _post(facts, "text:predict", {"instances": [["a", {"b64": said}]]})
    assert answer.json()["predictions"] == [["a", "hi"]]


@case("predict, two inputs")
def two_inputs(facts: dict[str, Any]) -> None:
    """Rows are objects; columns may differ in shape."""
    answer = _post(facts, "two:predict", {"instances": [{"a": [1, 2], "b": [3, 4]}]})
    assert answer.json()["predictions"] == [{"sum": [4.0, 6.0], "difference": [-2.0, -2.0]}]


@case("predict, a version by its number")
def version(facts: dict[str, Any]) -> None:
    """`/versions/N`."""
    first = _post(facts, "m/versions/1:predict", {"instances": ROWS}).json()
    latest = _post(facts, "m/versions/2:predict", {"instances": ROWS}).json()
    assert first != latest
    assert _post(facts, "m:predict", {"instances": ROWS}).json() == latest


@case("model status")
def status(facts: dict[str, Any]) -> None:
    """What readiness probes look for."""
    said = requests.get(f"{facts['url']}/v1/models/m", timeout=20).json()
    states = {each["version"]: each["state"] for each in said["model_version_status"]}
    assert states == {"1": "AVAILABLE", "2": "AVAILABLE"}


@case("model metadata")
def metadata(facts: dict[str, Any]) -> None:
    """The signature, as clients read it."""
    said = requests.get(f"{facts['url']}/v1/models/m/metadata", timeout=20).json()
    signature = said["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert said["model_spec"]["version"] == "2"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in signature["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1", "4"]
    assert signature["method_name"] == "tensorflow/serving/predict"


@case("NaN and infinity, bare")
def not_numbers(facts: dict[str, Any]) -> None:
    """Tokens that strict JSON has not, both ways."""
    body = '{"instances": [{"a": [NaN, 1], "b": [0, Infinity]}]}'
    answer = requests.post(f"{facts['url']}/v1/models/two:predict", data=body, timeout=20)
    assert '"sum":[NaN,Infinity]' in answer.text.replace(" ", "").replace("\n", ""), answer.text


@case("errors: the beginnings of sentences that clients look for")
def errors(facts: dict[str, Any]) -> None:
    """The statuses and texts of the wire reference."""
    cases = [
        ("nobody:predict", {"instances": ROWS}, 404, "Servable not found for request: Latest("),
        ("m/versions/9:predict", {"instances": ROWS}, 404, "Servable not found for request: Spec"),
        ("m:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
    ]
    for path, body, wanted, words in cases:
        answer = _post(facts, path, body)
        assert answer.status_code == wanted, answer.text
        assert answer.json()["error"].startswith(words), answer.text
    broken = requests.post(f"{facts['url']}/v1/models/m:predict", data="{", timeout=20)
    assert broken.status_code == 400
    assert broken.json()["error"].startswith("JSON Parse error"), broken.text
