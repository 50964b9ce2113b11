"""Servers with TLS and keys, and clients of theirs that say exactly what they are told."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.serving import House, RunningServer


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        """Its JSON; nothing for no body."""
        is_json = self.headers.get("content-type") == "application/json"
        document: dict[str, Any] = json.loads(self.body) if self.body and is_json else {}
        return document

    @property
    def code(self) -> str:
        """The code of its error; empty where it is none. TorchServe's `code` is the status."""
        if self.status < 400:
            return ""
        code = self.said.get("code", "")
        return str(self.said["error"] if isinstance(code, int) else code)


class SecureClient:
    """A connection, kept between requests; over TLS where the server speaks it."""

    def __init__(self, server: RunningServer) -> None:
        self._connection: http.client.HTTPConnection
        if "certificate" not in server.facts:
            self._connection = http.client.HTTPConnection(*server.address, timeout=30)
            return
        context = ssl.create_default_context(cafile=server.facts["certificate"])
        self._connection = http.client.HTTPSConnection(*server.address, timeout=30, context=context)

    def __enter__(self) -> SecureClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request, with a key or without."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        self._connection.request(method, path, body, sent)
        response = self._connection.getresponse()
        text = response.read()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, text
        )


def make_key(house: House, name: str, *words: str) -> str:
    """`dukou keys add`; the key's text."""
    done = house.dukou("keys", "add", name, *words, "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["key"])


def security_events(house: House) -> list[dict[str, Any]]:
    """Every line of the security logs."""
    logs = sorted((house.home / "logs").glob("security-*.jsonl"))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def written_down(house: House) -> str:
    """All that servers of this house have written into logs and state."""
    folders = [house.home / "logs", house.home / "servers"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return "\n".join(path.read_text(errors="replace") for path in files)


@contextlib.contextmanager
def raw_tls(server: RunningServer, **options: Any) -> Iterator[ssl.SSLSocket]:
    """A TLS connection that says whatever it is told."""
    context = ssl.create_default_context(cafile=server.facts["certificate"])
    for name, value in options.items():
        setattr(context, name, value)
    with (
        socket.create_connection(server.address, timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=server.address[0]) as secured,
    ):
        yield secured


def certificate_of(folder: Path, name: str) -> tuple[Path, Path]:
    """Another certificate for this host, made as dukou makes its own."""
    from dukou.trust.certificate import ensure_certificate

    return ensure_certificate(folder / name, "127.0.0.1")
