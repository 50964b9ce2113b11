"""Speaks the Open Inference Protocol to a running server: what `dukou predict` and notebooks use."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from typing import Any

from dukou.base.errors import DukouError, InputError, RemoteError, StateError
from dukou.serve.local_api import error_of_answer


class Client:
    """A connection to one server, kept open between requests. Not for several threads at once."""

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        parts = urllib.parse.urlsplit(url if "//" in url else f"//{url}", scheme="http")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme != "http" or not parts.hostname or port == -1:
            raise InputError(
                "usage.invalid",
                f"`{url}` is not the address of a server",
                hint="an address is like `http://127.0.0.1:8080`",
            )
        self.url = f"http://{parts.netloc}"
        self._prefix = parts.path.rstrip("/")
        self._connection = http.client.HTTPConnection(parts.hostname, port, timeout=timeout_s)

    def metadata(
        self, model: str, version: str | None = None, alias: str | None = None
    ) -> dict[str, Any]:
        """The model's inputs and outputs: `{"inputs": [{"name", "datatype", "shape"}], …}`.

        Raises:
            DukouError: the server's own error, `server.not-running` where none answers,
                `client.server-error` where what answers does not speak of models.
        """
        answer = self._ask("GET", _target(model, version, alias))
        if not all(_are_specs(answer.get(side)) for side in ("inputs", "outputs")):
            raise RemoteError(
                "client.server-error",
                f"`{self.url}` answers, but not with the inputs and outputs of a model",
                hint="is it a server of the Open Inference Protocol?",
            )
        return answer

    def infer(
        self,
        model: str,
        request: dict[str, Any],
        version: str | None = None,
        alias: str | None = None,
    ) -> dict[str, Any]:
        """Sends a V2 request and gives the V2 response, outputs with flat `data`.

        Raises:
            DukouError: the server's own error, `server.not-running` where none answers.
        """
        return self._ask("POST", _target(model, version, alias) + "/infer", request)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _ask(self, method: str, target: str, document: Any = None) -> dict[str, Any]:
        try:
            body = None if document is None else json.dumps(document, allow_nan=False)
        except ValueError as error:
            raise InputError(
                "data.mismatch", "a value is NaN or infinite, and JSON has neither"
            ) from error
        try:
            status, answer = self._exchange(method, self._prefix + target, body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise _not_running(self.url, error) from error
        try:
            parsed = json.loads(answer)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise RemoteError(
                "client.server-error",
                f"`{self.url}` answered {status} with what is not a JSON object: {answer[:200]!r}",
                hint="check that a dukou server listens at this address",
            )
        if status != 200:
            raise server_error(parsed, self.url, status)
        return parsed

    def _exchange(self, method: str, target: str, body: str | None) -> tuple[int, bytes]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        for attempt in (1, 2):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, target, body, headers)
                response = self._connection.getresponse()
                return response.status, response.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # A kept connection may have been closed between two requests (the engine was
                # restarted): nothing was read of it, and a model's answer has no side effect.
                self._connection.close()
                if fresh or attempt == 2:
                    raise
        raise AssertionError("unreachable")  # pragma: no cover


def _target(model: str, version: str | None, alias: str | None) -> str:
    words = ["models", model]
    if version is not None:
        words += ["versions", version]
    elif alias is not None:
        words += ["aliases", alias]
    return "/v2/" + "/".join(urllib.parse.quote(word, safe="") for word in words)


def server_error(document: dict[str, Any], url: str, status: int) -> DukouError:
    """What a server's error says, as ours: our own codes keep their meaning, others are relayed."""
    error = document.get("error")
    code = document.get("code")
    if isinstance(error, dict):
        return error_of_answer(document, f"`{url}` answered {status}")
    if isinstance(error, str) and isinstance(code, str):
        return error_of_answer(
            {"error": {"code": code, "message": error, "remedy": document.get("remedy")}}, error
        )
    return RemoteError(
        "client.server-error", f"`{url}` answered {status}: {str(error or document)[:300]}"
    )


def _not_running(url: str, error: Exception) -> StateError:
    if isinstance(error, ConnectionRefusedError):
        return StateError("server.not-running", f"nothing listens at `{url}`")
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StateError("server.not-running", f"no answer from `{url}`: {said}")


def _are_specs(specs: Any) -> bool:
    """Whether this is a list of names with dtypes and shapes, as the protocol has them."""
    return isinstance(specs, list) and all(
        isinstance(spec, dict)
        and isinstance(spec.get("name"), str)
        and isinstance(spec.get("datatype"), str)
        and isinstance(spec.get("shape"), list)
        and all(isinstance(extent, int) for extent in spec["shape"])
        for spec in specs
    )
