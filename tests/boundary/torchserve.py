"""A client that sends exactly what TorchServe's users send: curl's forms, by their own bytes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What came back."""

    status: int
    said: Any
    headers: dict[str, str]


class Client:
    """Asks one server."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address

    def ask(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, with these headers and no others that say what the body is."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            text = response.read()
            said = json.loads(text) if text else None
            return Answer(response.status, said, {k.lower(): v for k, v in response.getheaders()})
        finally:
            connection.close()

    def json(self, path: str, document: Any, method: str = "POST") -> Answer:
        """A JSON body that says so."""
        kind = {"Content-Type": "application/json; charset=utf-8"}
        return self.ask(method, path, json.dumps(document), kind)

    def upload(self, path: str, content: bytes) -> Answer:
        """`curl -T FILE`: a PUT without a content type, and the wish to be told to go on."""
        return self.ask("PUT", path, content, {"Expect": "100-continue"})

    def data(self, path: str, text: str) -> Answer:
        """`curl -d TEXT`: whatever it is, it is called a form."""
        return self.ask("POST", path, text, {"Content-Type": "application/x-www-form-urlencoded"})

    def form(self, path: str, parts: Mapping[str, tuple[str, bytes, str]]) -> Answer:
        """`curl -F NAME=@FILE`: parts by name, each with its file's name, content and type."""
        boundary = "------------------------d74496d66958873e"
        pieces = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
            f"Content-Type: {kind}\r\n\r\n".encode()
            + content
            + b"\r\n"
            for name, (file, content, kind) in parts.items()
        ]
        body = b"".join(pieces) + f"--{boundary}--\r\n".encode()
        return self.ask(
            "POST", path, body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        )
