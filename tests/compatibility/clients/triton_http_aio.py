"""`tritonclient.http.aio`, as NVIDIA publishes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import tritonclient.http.aio as triton
from case import case, close
from tritonclient.utils import InferenceServerException

PACKAGE = "tritonclient"
ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]], np.float32)
Body = Callable[[Any], Coroutine[Any, Any, None]]


def _with_client(facts: dict[str, Any], body: Body) -> None:
    async def run() -> None:
        async with triton.InferenceServerClient(facts["address"]) as client:
            await body(client)

    asyncio.run(run())


def _rows(*, binary: bool = True) -> list[Any]:
    tensor = triton.InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return [tensor]


@case("health and metadata")
def described(facts: dict[str, Any]) -> None:
    """What there is."""

    async def body(client: Any) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("m")
        assert (await client.get_model_metadata("m"))["name"] == "m"
        assert (await client.get_server_metadata())["name"]

    _with_client(facts, body)


@case("infer, JSON and binary")
def infer(facts: dict[str, Any]) -> None:
    """Both carriages."""

    async def body(client: Any) -> None:
        for binary in (True, False):
            wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
            answer = await client.infer("m", _rows(binary=binary), outputs=wanted)
            close(answer.as_numpy("probabilities"), facts["probabilities"])

    _with_client(facts, body)


@case("infer, many at once")
def many(facts: dict[str, Any]) -> None:
    """Concurrent requests get each its own answer."""

    async def body(client: Any) -> None:
        answers = await asyncio.gather(*(client.infer("m", _rows()) for _ in range(16)))
        for answer in answers:
            close(answer.as_numpy("probabilities"), facts["probabilities"])

    _with_client(facts, body)


@case("errors: unknown model")
def unknown(facts: dict[str, Any]) -> None:
    """A status and a sentence."""

    async def body(client: Any) -> None:
        try:
            await client.infer("nobody", _rows())
        except InferenceServerException as error:
            assert error.status() == "404", error
        else:
            raise AssertionError("it was not refused")

    _with_client(facts, body)
