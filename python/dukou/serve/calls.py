"""Calls of gRPC to a server, for our own clients; gRPC's library is an extra."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any, NamedTuple

from dukou.base.errors import DukouError, RemoteError, ResourceError, StateError
from dukou.serve.local_api import error_of_answer

# No limit of ours stands before the server's own.
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def check_grpc() -> None:
    """Says where gRPC's library is missing.

    Raises:
        ResourceError: `client.no-grpc`.
    """
    if importlib.util.find_spec("grpc") is None:
        raise ResourceError("client.no-grpc", f"`grpcio` is not installed for `{sys.executable}`")


class Roots(NamedTuple):
    """What a server's certificate is checked against.

    Attributes:
        pem: certificates; None: those that gRPC brings.
    """

    pem: bytes | None


class Calls:
    """Messages to one server, and its answers, as bytes.

    Args:
        url: as people name it.
        authority: host and port.
        timeout_s: of one call.
        key: what is shown to it.
        roots: what its certificate is checked against; None: in clear.
    """

    def __init__(
        self,
        url: str,
        authority: str,
        timeout_s: float,
        *,
        key: str | None,
        roots: Roots | None,
    ) -> None:
        check_grpc()
        import grpc

        self._url = url
        self._timeout_s = timeout_s
        self._metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        if roots is None:
            self._channel = grpc.insecure_channel(authority, OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(roots.pem)
            self._channel = grpc.secure_channel(authority, credentials, OPTIONS)

    def ask(self, method: str, target: str, content: Any = None) -> Any:
        """One call.

        Args:
            method: always `CALL`.
            target: the call: `/inference.GRPCInferenceService/ModelInfer`.
            content: its message.

        Raises:
            DukouError: the server's own error, `server.not-running` where none answers.
        """
        del method
        import grpc

        call = self._channel.unary_unary(target)
        try:
            return call(content or b"", timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def _error(self, error: Any) -> DukouError:
        # TorchServe's class of a failure stands on a second line.
        code, details = error.code().name, str(error.details()).partition("\n")[0]
        said = dict(error.trailing_metadata() or ())
        if "dukou-code" in said:
            remedy = said.get("dukou-remedy")
            ours = {"code": said["dukou-code"], "message": details, "remedy": remedy}
            return error_of_answer({"error": ours}, details)
        if code == "UNAVAILABLE":
            return StateError("server.not-running", f"no answer from `{self._url}`: {details}")
        if code == "UNIMPLEMENTED":
            return RemoteError(
                "client.server-error",
                f"`{self._url}` does not know this call ({details})",
                hint="`--dialect` names another protocol",
            )
        return RemoteError("client.server-error", f"`{self._url}` answered {code}: {details[:300]}")
