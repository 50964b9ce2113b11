"""What kind of server stands at an address, by what it answers; and which requests are inferences there."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.parse
from typing import Any, NamedTuple

from dukou.base.errors import InputError, RemoteError, StateError

_PATIENCE_S = 10.0
_LARGEST_ANSWER = 1 << 20
# Inference in every protocol that these servers speak; all else is passed on and not copied.
_INFERENCE = re.compile(
    r"/v1/models/[^/]+(/(versions|labels)/[^/]+)?:(predict|classify|regress|explain)\Z"
    r"|/v2/models/[^/]+(/versions/[^/]+)?/infer\Z"
    r"|/(predictions|explanations)/[^/]+(/.+)?\Z"
    r"|/models/[^/]+/invoke\Z|/invocations\Z"
    r"|/([^/]+/)?predict\Z"
)


class Address(NamedTuple):
    """Where a server answers.

    Attributes:
        scheme: `http` or `https`.
        host: a name or an address.
        port: of TCP.
    """

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """As in a `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://host:port`."""
        return f"{self.scheme}://{self.authority}"


def parse_address(flag: str, text: str) -> Address:
    """`http://old:8501`, or `old:8501`.

    Raises:
        InputError: `usage.invalid`.
    """
    parts = urllib.parse.urlsplit(text if "//" in text else f"//{text}", scheme="http")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise InputError(
            "usage.invalid",
            f"`{flag} {text}` is not the address of a server",
            hint="an address is like `http://old:8501`",
        )
    if parts.path.strip("/") or parts.query:
        raise InputError(
            "usage.invalid",
            f"`{flag} {text}` has a path, and paths are passed on as they come",
            hint="name scheme, host and port alone",
        )
    return Address(parts.scheme, parts.hostname, port)


def is_inference(method: str, target: str) -> bool:
    """Whether a request asks a model something: such a one changes nothing, and is copied."""
    path = target.partition("?")[0]
    return method == "POST" and _INFERENCE.match(urllib.parse.unquote(path)) is not None


def detect_peer(address: Address, tls: ssl.SSLContext | None = None) -> str:
    """The kind of a server: `TensorFlow Serving`, `TorchServe`, `Triton`, `KServe`, `dukou`, …

    Args:
        address: where it answers.
        tls: what its certificate is checked with.

    Raises:
        StateError: `server.not-running`: nothing answers there.
        RemoteError: `migrate.unknown-server`: what answers is none of these.
    """
    heard = {}
    for path in ("/v2", "/v1/models", "/ping", "/"):
        status, document = _ask(address, path, tls)
        heard[path] = status
        found = _recognize(path, status, document)
        if found is not None:
            return found
    said = ", ".join(f"{status} to `{path}`" for path, status in heard.items())
    raise RemoteError(
        "migrate.unknown-server",
        f"`{address.url}` answers like none of the servers that are known here ({said})",
    )


def _recognize(path: str, status: int, document: Any) -> str | None:
    if not isinstance(document, dict):
        return None
    if path == "/v2" and status == 200 and isinstance(document.get("name"), str):
        names = {"triton": "Triton", "kserve": "KServe", "mlserver": "MLServer", "dukou": "dukou"}
        name = document["name"].lower()
        return names.get(name, f"a server of the V2 protocol called `{document['name']}`")
    if path == "/v1/models":
        if status == 200 and isinstance(document.get("models"), list):
            return "KServe"
        if status == 400 and "Missing model name" in str(document.get("error")):
            return "TensorFlow Serving"
    if path == "/ping" and (document.get("status") in ("Healthy", "Unhealthy")):
        return "TorchServe"
    if path == "/ping" and document.get("type") == "InvalidKeyException":
        return "TorchServe"
    return "KServe" if path == "/" and document.get("status") == "alive" else None


def _ask(address: Address, path: str, tls: ssl.SSLContext | None) -> tuple[int, Any]:
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        connection = http.client.HTTPSConnection(
            address.host, address.port, timeout=_PATIENCE_S, context=tls
        )
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(_LARGEST_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StateError("server.not-running", f"no answer from `{address.url}`: {said}") from error
    finally:
        connection.close()
    try:
        return response.status, json.loads(body)
    except ValueError:
        return response.status, None
