"""KServe's `InferenceRESTClient`, as KServe publishes it: the V1 and the V2 protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import numpy as np
from case import case, close
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

PACKAGE = "kserve"
ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]], np.float32)
Body = Callable[[InferenceRESTClient], Coroutine[Any, Any, None]]


def _with_client(protocol: str, body: Body) -> None:
    async def run() -> None:
        client = InferenceRESTClient(RESTConfig(protocol=protocol, timeout=20))
        try:
            await body(client)
        finally:
            await client.close()

    asyncio.run(run())


def _request(*, binary: bool) -> InferRequest:
    tensor = InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    outputs = [RequestedOutput("probabilities", parameters={"binary_data": binary})]
    return InferRequest("m", [tensor], request_outputs=outputs)


@case("V2: live, ready, model ready")
def health(facts: dict[str, Any]) -> None:
    """Health, whose bodies this client reads."""

    async def body(client: InferenceRESTClient) -> None:
        assert await client.is_server_live(facts["url"])
        assert await client.is_server_ready(facts["url"])
        assert await client.is_model_ready(facts["url"], "m")

    _with_client("v2", body)


@case("V2: infer, JSON and binary")
def infer(facts: dict[str, Any]) -> None:
    """Both carriages."""

    async def body(client: InferenceRESTClient) -> None:
        for binary in (False, True):
            answer = await client.infer(facts["url"], _request(binary=binary), model_name="m")
            (output,) = answer.outputs
            close(output.as_numpy(), facts["probabilities"])

    _with_client("v2", body)


@case("V1: model ready")
def ready(facts: dict[str, Any]) -> None:
    """`GET /v1/models/m`."""

    async def body(client: InferenceRESTClient) -> None:
        assert await client.is_model_ready(facts["url"], "m")

    _with_client("v1", body)


@case("V1: predict")
def predict(facts: dict[str, Any]) -> None:
    """`POST /v1/models/m:predict`."""

    async def body(client: InferenceRESTClient) -> None:
        said = {"instances": ROWS.tolist()}
        answer = await client.infer(facts["url"], said, model_name="m")
        close([row["probabilities"] for row in answer["predictions"]], facts["probabilities"])

    _with_client("v1", body)


@case("errors: unknown model")
def unknown(facts: dict[str, Any]) -> None:
    """A status that the client raises by."""

    async def body(client: InferenceRESTClient) -> None:
        try:
            await client.infer(facts["url"], _request(binary=False), model_name="nobody")
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == 404
        else:
            raise AssertionError("it was not refused")

    _with_client("v2", body)
