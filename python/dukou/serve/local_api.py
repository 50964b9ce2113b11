"""The engine's local API: one call a connection over its Unix socket (`spec/local-api.md`).

Not `http.client`, which costs a supervisor 7 MB and 25 ms for what these forty lines do: the other
side is always our own engine.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError, RemoteError, relay_error

_PIECE = 1 << 16


class LocalApi:
    """What control and `dukou status` say to one engine."""

    def __init__(self, path: Path, timeout_s: float = 10.0) -> None:
        self.path = path
        self.timeout_s = timeout_s

    def put_table(self, table: dict[str, Any], timeout_s: float = 600.0) -> dict[str, Any]:
        """Has a table served; returns after the swap, or raises why the old one is kept.

        Raises:
            DukouError: the engine's own error, or `engine.unreachable`.
        """
        return self._ask("PUT", "/table", table, timeout_s=timeout_s)

    def table(self) -> dict[str, Any] | None:
        """The table being served; None before the first."""
        status, answer = self._exchange("GET", "/table", None, self.timeout_s)
        if status == 404:
            return None
        return self._object(status, answer)

    def state(self) -> dict[str, Any]:
        """The exact counters (`spec/state.md`)."""
        return self._ask("GET", "/state")

    def models(self) -> list[dict[str, Any]]:
        """The served models with their signatures."""
        models = self._ask("GET", "/models").get("models")
        return models if isinstance(models, list) else []

    def tap(self, max_bytes: int | None = None) -> bytes:
        """Takes out what waits for the monitor: an Arrow IPC stream (`spec/tap.md`); empty for nothing.

        Args:
            max_bytes: of tensors, about; the engine's own bound where absent.
        """
        query = "" if max_bytes is None else f"?max_bytes={max_bytes}"
        status, answer = self._exchange("GET", f"/tap{query}", None, self.timeout_s)
        if status != 200:
            self._object(status, answer)
        return answer

    def put_gauges(self, gauges: list[dict[str, Any]]) -> None:
        """Has the engine show these at `/metrics`, in place of those before.

        Args:
            gauges: `name`, `help` and `value` each.
        """
        self._ask("PUT", "/gauges", {"gauges": gauges})

    def drain(self) -> None:
        """Has the engine answer what is in flight, accept nothing more, and end."""
        self._ask("POST", "/drain")

    def _ask(
        self,
        method: str,
        target: str,
        document: dict[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        status, answer = self._exchange(method, target, document, timeout_s or self.timeout_s)
        return self._object(status, answer)

    def _object(self, status: int, answer: bytes) -> dict[str, Any]:
        if 200 <= status < 300 and not answer:
            return {}
        try:
            document = json.loads(answer)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self._unreachable(f"answered {status} with what is not a JSON object")
        if not 200 <= status < 300:
            raise error_of_answer(document, f"the engine answered {status}")
        return document

    def _exchange(
        self, method: str, target: str, document: dict[str, Any] | None, timeout_s: float
    ) -> tuple[int, bytes]:
        body = b"" if document is None else json.dumps(document).encode()
        head = (
            f"{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout_s)
                connection.connect(os.fspath(self.path))
                connection.sendall(head.encode() + body)
                answer = bytearray()
                while piece := connection.recv(_PIECE):
                    answer += piece
        except OSError as error:
            raise self._unreachable(str(error)) from error
        return self._parse(bytes(answer))

    def _parse(self, answer: bytes) -> tuple[int, bytes]:
        head, separator, body = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        words = lines[0].split(b" ", 2)
        if not separator or len(words) < 2 or not words[1].isdigit():
            raise self._unreachable("closed the connection before its answer was whole")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = self._join_chunks(body)
        elif len(body) < int(headers.get(b"content-length", b"0")):
            raise self._unreachable("closed the connection before its answer was whole")
        return int(words[1]), body

    def _join_chunks(self, body: bytes) -> bytes:
        whole = bytearray()
        while True:
            size, separator, rest = body.partition(b"\r\n")
            try:
                length = int(size.split(b";")[0], 16)
            except ValueError:
                separator, length = b"", 0
            if not separator or len(rest) < length:
                raise self._unreachable("closed the connection before its answer was whole")
            if length == 0:
                return bytes(whole)
            whole += rest[:length]
            body = rest[length + 2 :]

    def _unreachable(self, why: str) -> RemoteError:
        return RemoteError(
            "engine.unreachable", f"the engine does not answer on `{self.path}`: {why}"
        )


def error_of_answer(document: dict[str, Any], otherwise: str) -> DukouError:
    """The error that `{"error": {"code", "message", "remedy"}}` carries."""
    error = document.get("error")
    if not isinstance(error, dict):
        return RemoteError("client.server-error", f"{otherwise}: {str(error or document)[:300]}")
    message = str(error.get("message", otherwise))
    if isinstance(error.get("detail"), str):
        message = f"{message}: {error['detail']}"
    where = [str(error[key]) for key in ("model", "version") if key in error]
    if where and where[0] not in message:
        message = f"`{':'.join(where)}`: {message}"
    return relay_error(
        str(error.get("code", "client.server-error")), message, error.get("remedy") or None
    )
