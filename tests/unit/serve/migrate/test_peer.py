"""Addresses, and which requests are copied."""

from __future__ import annotations

import pytest

from dukou.base.errors import InputError
from dukou.serve.migrate.address import Address, parse_address
from dukou.serve.migrate.http.peer import _recognize, is_inference


def test_addresses() -> None:
    assert parse_address("--from", "http://old:8501") == Address("http", "old", 8501)
    assert parse_address("--from", "old:8501/") == Address("http", "old", 8501)
    assert parse_address("--from", "https://[::1]").url == "https://[::1]:443"
    for wrong in ("ftp://old", "http://", "http://old:99999", "http://old/v1", "http://old?x"):
        with pytest.raises(InputError) as error:
            parse_address("--from", wrong)
        assert error.value.code == "usage.invalid"


@pytest.mark.parametrize(
    ("method", "target", "copied"),
    [
        ("POST", "/v1/models/m:predict", True),
        ("POST", "/v1/models/m/versions/3:classify", True),
        ("POST", "/v1/models/m%3Apredict", True),
        ("POST", "/v2/models/m/infer?x=1", True),
        ("POST", "/v2/models/m/versions/1/infer", True),
        ("POST", "/predictions/m/1.0", True),
        ("POST", "/invocations", True),
        ("POST", "/m/predict", True),
        ("GET", "/v1/models/m", False),
        ("POST", "/v2/repository/models/m/unload", False),
        ("POST", "/models?url=x.mar", False),
        ("POST", "/v2/models/m/infer/more", False),
        ("DELETE", "/models/m", False),
    ],
)
def test_only_inference_is_copied(method: str, target: str, copied: bool) -> None:
    assert is_inference(method, target) is copied


@pytest.mark.parametrize(
    ("path", "status", "document", "kind"),
    [
        ("/v2", 200, {"name": "triton", "version": "2.61.0"}, "Triton"),
        ("/v2", 200, {"name": "kserve"}, "KServe"),
        ("/v2", 200, {"name": "other"}, "a server of the V2 protocol called `other`"),
        ("/v1/models", 400, {"error": "Missing model name in request."}, "TensorFlow Serving"),
        ("/v1/models", 200, {"models": ["m"]}, "KServe"),
        ("/ping", 200, {"status": "Healthy"}, "TorchServe"),
        ("/ping", 400, {"code": 400, "type": "InvalidKeyException"}, "TorchServe"),
        ("/", 200, {"status": "alive"}, "KServe"),
        ("/v2", 404, {"error": "x"}, None),
        ("/v1/models", 404, None, None),
    ],
)
def test_a_server_is_known_by_what_it_answers(
    path: str, status: int, document: object, kind: str | None
) -> None:
    assert _recognize(path, status, document) == kind
