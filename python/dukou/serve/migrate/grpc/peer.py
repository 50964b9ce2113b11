"""What kind of server stands at an address, by what it answers over gRPC."""

from __future__ import annotations

import asyncio

import grpc
from google.protobuf.message import DecodeError

from dukou.base.errors import RemoteError, StateError
from dukou.serve.calls import Roots
from dukou.serve.messages.schema import read_message
from dukou.serve.migrate.address import Address, title_of_v2
from dukou.serve.migrate.grpc.channel import Upstream

_PATIENCE_S = 10.0
_METADATA = "/inference.GRPCInferenceService/ServerMetadata"
_PING = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


def detect_grpc_peer(address: Address, roots: Roots | None = None) -> str:
    """The kind of a server: `TensorFlow Serving`, `TorchServe`, `Triton`, `KServe`, `dukou`, …

    Args:
        address: where it answers.
        roots: what its certificate is checked against.

    Raises:
        StateError: `server.not-running`: nothing answers there.
        RemoteError: `migrate.unknown-server`: what answers is none of these.
    """
    return asyncio.run(_detect(address, roots))


async def _detect(address: Address, roots: Roots | None) -> str:
    upstream = Upstream(address, roots)
    heard = {}
    try:
        for method in (_METADATA, _PING, _STATUS):
            code, details, message = await ask(upstream, method)
            if code is grpc.StatusCode.UNAVAILABLE and upstream.is_away:
                raise StateError("server.not-running", f"no answer from `{address.url}`: {details}")
            heard[method] = code.name
            found = _recognize(method, code, details, message)
            if found is not None:
                return found
    finally:
        await upstream.close()
    said = ", ".join(f"{code} to `{method}`" for method, code in heard.items())
    raise RemoteError(
        "migrate.unknown-server",
        f"`{address.url}` answers like none of the servers that are known here ({said})",
    )


async def ask(upstream: Upstream, method: str) -> tuple[grpc.StatusCode, str, bytes]:
    """What a server says to a call with an empty message: code, details, message."""
    call = upstream.call(method, (), _PATIENCE_S)
    message = b""
    try:
        await call.write(b"")
        await call.done_writing()
        async for each in call:
            message = each
    except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
        pass  # its code says why
    return await call.code(), await call.details() or "", message


def _recognize(method: str, code: grpc.StatusCode, details: str, message: bytes) -> str | None:
    answered = code is grpc.StatusCode.OK
    try:
        if method == _METADATA and answered:
            return title_of_v2(read_message("v2.ServerMetadataResponse", message).name)
        if method == _PING and answered and read_message("torch.Health", message).health:
            return "TorchServe"
    except DecodeError:
        return None
    # It asks for the model that nobody named.
    if method == _STATUS and (code is grpc.StatusCode.INVALID_ARGUMENT and "Model" in details):
        return "TensorFlow Serving"
    return None
