"""What kind of server stands at an address, by what it answers over HTTP; and which requests are inferences there."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.parse
from typing import Any

from dukou.base.errors import RemoteError, StateError
from dukou.serve.migrate.address import Address, title_of_v2

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
        return title_of_v2(document["name"])
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
