"""`tritonclient.grpc.aio`, as NVIDIA publishes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
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


def _rows() -> list[Any]:
    tensor = triton.InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS)
    return [tensor]


@case("health and metadata")
def described(facts: dict[str, Any]) -> None:
    """What there is."""

    async def body(client: Any) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("m")
        assert not await client.is_model_ready("nobody")
        said = await client.get_model_metadata("m", as_json=True)
        assert [output["name"] for output in said["outputs"]] == ["label", "probabilities"]
        assert (await client.get_model_config("m")).config.name == "m"

    _with_client(facts, body)


@case("infer, many at once")
def infer(facts: dict[str, Any]) -> None:
    """Side by side on one connection."""

    async def body(client: Any) -> None:
        answers = await asyncio.gather(*(client.infer("m", _rows()) for _ in range(16)))
        for answer in answers:
            close(answer.as_numpy("probabilities"), facts["probabilities"])

    _with_client(facts, body)


@case("stream infer")
def stream(facts: dict[str, Any]) -> None:
    """Several requests on one stream, one of them wrong: the stream goes on."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for name in ("m", "nobody", "m"):
            yield {"model_name": name, "inputs": _rows()}

    async def body(client: Any) -> None:
        heard = [each async for each in client.stream_infer(requests())]
        assert [error is None for _, error in heard] == [True, False, True]
        close(heard[2][0].as_numpy("probabilities"), facts["probabilities"])

    _with_client(facts, body)


@case("unload_model, load_model, repository index")
def control(facts: dict[str, Any]) -> None:
    """A model goes and comes back."""

    async def body(client: Any) -> None:
        await client.unload_model("spare")
        assert not await client.is_model_ready("spare")
        said = await client.get_model_repository_index(as_json=True)
        (spare,) = (each for each in said["models"] if each["name"] == "spare")
        assert (spare["state"], spare["reason"]) == ("UNAVAILABLE", "unloaded")
        await client.load_model("spare")
        assert await client.is_model_ready("spare")

    _with_client(facts, body)


@case("errors: unknown model, wrong shape")
def errors(facts: dict[str, Any]) -> None:
    """A status each."""

    async def refused(call: Coroutine[Any, Any, Any], status: str) -> None:
        try:
            await call
        except InferenceServerException as error:
            assert error.status() == f"StatusCode.{status}", error
        else:
            raise AssertionError("it was not refused")

    async def body(client: Any) -> None:
        await refused(client.infer("nobody", _rows()), "NOT_FOUND")
        wide = triton.InferInput("x", [1, 5], "FP32")
        wide.set_data_from_numpy(np.zeros((1, 5), np.float32))
        await refused(client.infer("m", [wide]), "INVALID_ARGUMENT")

    _with_client(facts, body)
