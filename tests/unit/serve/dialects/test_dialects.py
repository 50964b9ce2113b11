"""What each protocol's client sends and reads, against what its servers are known to answer."""

from __future__ import annotations

from typing import Any

import pytest

from dukou.base.errors import InputError, RemoteError
from dukou.serve.dialects.rows import outputs_of
from dukou.serve.dialects.table import DIALECTS, Target, load_dialect

METADATA = {
    "model_spec": {"name": "m", "signature_name": "", "version": "3"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "serving_default": {
                    "inputs": {
                        "x": {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {
                                "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
                                "unknown_rank": False,
                            },
                        }
                    },
                    "outputs": {"y": {"dtype": "DT_STRING", "tensor_shape": {"dim": []}}},
                }
            }
        }
    },
}


class Server:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, *asked: Any) -> Any:
        self.asked.append(asked)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_of_the_table_is_one(name: str) -> None:
    dialect = load_dialect(name)
    for method in ("metadata", "infer", "infer_rows"):
        assert callable(getattr(dialect, method))


def test_tensorflow() -> None:
    server = Server(METADATA, {"outputs": [[{"b64": "aGk="}], [{"b64": "/w=="}]]})
    dialect = load_dialect("tensorflow")
    target = Target("m", "3")
    assert dialect.metadata(server, target) == {
        "name": "m",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": []}],
    }
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]}
    answer = dialect.infer(server, target, request)
    assert answer == {"outputs": [{"name": "y", "shape": [2], "data": [["hi"], [{"b64": "/w=="}]]}]}
    assert server.asked == [
        ("GET", "/v1/models/m/versions/3/metadata"),
        ("POST", "/v1/models/m/versions/3:predict", {"inputs": {"x": [[1, 2], [3, 4]]}}),
    ]


def test_kserves_v1_tells_no_signature() -> None:
    missing = RemoteError("client.server-error", "`u` answered 404: {'detail': 'Not Found'}")
    server = Server(missing, {"predictions": [1, 2]})
    dialect = load_dialect("tensorflow")
    assert dialect.metadata(server, Target("m", None, "stable")) is None
    answer = dialect.infer_rows(server, Target("m"), [[1], [2]])
    assert answer == {"outputs": [{"name": "predictions", "shape": [2], "data": [1, 2]}]}
    assert server.asked[0] == ("GET", "/v1/models/m/labels/stable/metadata")
    assert server.asked[1] == ("POST", "/v1/models/m:predict", {"instances": [[1], [2]]})


def test_torchserve_and_keras() -> None:
    server = Server([0.5, 0.25], {"predictions": [[1], [2]], "classes": ["a", "b"]})
    assert load_dialect("torchserve").infer_rows(server, Target("m", "1.0"), [[1], [2]]) == {
        "outputs": [{"name": "predictions", "shape": [2], "data": [0.5, 0.25]}]
    }
    load_dialect("keras").infer_rows(server, Target("a b"), [[1], [2]])
    assert server.asked == [
        ("POST", "/predictions/m/1.0", [[1], [2]]),
        ("POST", "/a%20b/predict", {"instances": [[1], [2]]}),
    ]


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ({"predictions": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}, ["a", "b"]),
        ({"cat": 0.9, "dog": 0.1}, ["cat", "dog"]),
        ([{"a": 1}, {"b": 2}], ["predictions"]),
        ([], ["predictions"]),
    ],
)
def test_answers_without_names_get_some(answer: Any, names: list[str]) -> None:
    assert [output["name"] for output in outputs_of(answer)["outputs"]] == names


def test_what_is_refused() -> None:
    with pytest.raises(RemoteError, match="no predictions"):
        outputs_of({"error": "x"})
    with pytest.raises(InputError, match="no versions"):
        load_dialect("keras").metadata(Server(), Target("m", "3"))
    with pytest.raises(RemoteError, match="no signature"):
        load_dialect("tensorflow").metadata(Server({"metadata": {}}), Target("m"))
    with pytest.raises(RemoteError, match="no `outputs`"):
        load_dialect("tensorflow").infer(Server({"error": "x"}), Target("m"), {"inputs": []})
