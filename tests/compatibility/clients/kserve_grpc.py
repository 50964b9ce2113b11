"""KServe's `InferenceGRPCClient`, as KServe publishes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import numpy as np
from case import case, close
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput

PACKAGE = "kserve"
ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]], np.float32)
Body = Callable[[InferenceGRPCClient], Coroutine[Any, Any, None]]


def _with_client(facts: dict[str, Any], body: Body) -> None:
    async def run() -> None:
        async with InferenceGRPCClient(facts["address"], timeout=20) as client:
            await body(client)

    asyncio.run(run())


def _request(model: str = "m", *, binary: bool = False, **fields: Any) -> InferRequest:
    tensor = InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest(model, [tensor], **fields)


@case("live, ready, model ready")
def health(facts: dict[str, Any]) -> None:
    """Health."""

    async def body(client: InferenceGRPCClient) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("m")
        assert not await client.is_model_ready("nobody")

    _with_client(facts, body)


@case("infer, elements typed and raw")
def infer(facts: dict[str, Any]) -> None:
    """Both forms in; every output, or one of them."""

    async def body(client: InferenceGRPCClient) -> None:
        for binary in (False, True):
            answer = await client.infer(_request(binary=binary, request_id="seven"))
            found = {output.name: output.as_numpy() for output in answer.outputs}
            close(found["probabilities"], facts["probabilities"])
            assert found["label"].tolist() == facts["labels"]
            assert answer.id == "seven"
        one = [RequestedOutput("label")]
        (output,) = (await client.infer(_request(request_outputs=one))).outputs
        assert output.name == "label"

    _with_client(facts, body)


@case("infer, parameters")
def parameters(facts: dict[str, Any]) -> None:
    """What a request may say besides."""

    async def body(client: InferenceGRPCClient) -> None:
        said = {"who": "me", "count": 3, "sure": True}
        answer = await client.infer(_request(parameters=said))
        close(answer.outputs[1].as_numpy(), facts["probabilities"])

    _with_client(facts, body)


@case("errors: unknown model")
def unknown(facts: dict[str, Any]) -> None:
    """A status that the client raises by."""

    async def body(client: InferenceGRPCClient) -> None:
        try:
            await client.infer(_request("nobody"))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
        else:
            raise AssertionError("it was not refused")

    _with_client(facts, body)
