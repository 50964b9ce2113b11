"""Speaks HTTP to a registry: kept connections, who we are, what is tried again, failures as sentences.

The standard library's client, and none of the packages for it: PyPI's `oras` makes its manifests anew (which
would move a version's digest), holds a blob in memory, and knows neither referrers nor a broken transfer
that goes on. What a version needs of the protocol is a dozen requests.

Source: OCI distribution-spec 1.1; the token protocol of `distribution`.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import (
    DukouError,
    InputError,
    RemoteError,
    ResourceError,
    StateError,
    TrustError,
)
from dukou.base.settings import resolve_setting
from dukou.package.remotes.address import Address, is_loopback
from dukou.package.remotes.credentials import Credentials, find_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 30.0
# Before the second, third … try. A registry that was restarted is back within them.
PAUSES_S = (0.2, 1.0, 3.0)
PIECE = 1 << 20
_REDIRECTS = 5
_LARGEST_ANSWER = 4 << 20
_AGAIN = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file, as a request's body.

    Attributes:
        path: the file.
        start: where they begin.
        size: how many they are.
    """

    path: Path
    start: int
    size: int

    def pieces(self) -> Iterator[bytes]:
        """The bytes, a piece at a time."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            left = self.size
            while left > 0 and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece


Body = bytes | Part | None


@dataclass(slots=True)
class Answer:
    """An answer whose head was read; its body is read once.

    Attributes:
        status: the number.
        headers: by lower-case name.
    """

    status: int
    headers: Mapping[str, str]
    _response: http.client.HTTPResponse = field(repr=False)

    def read(self) -> bytes:
        """The whole body, at most 4 MiB.

        Raises:
            RemoteError: `remote.refused`: it is longer.
        """
        body = self._response.read(_LARGEST_ANSWER + 1)
        if len(body) > _LARGEST_ANSWER:
            raise RemoteError("remote.refused", f"an answer is longer than {_LARGEST_ANSWER} bytes")
        return body

    def pieces(self) -> Iterator[bytes]:
        """The body, a piece at a time; an end before the announced length is an error of the connection."""
        while piece := self._response.read(PIECE):
            yield piece

    def drop(self) -> None:
        """Has done with it, so that the connection can be used again."""
        if self._response.length is not None and self._response.length > PIECE:
            self._response.close()
        else:
            self._response.read()


class Session:
    """Requests to one registry, as one user. Not for several threads at once.

    Args:
        address: which repository.
        credentials: who we are; None asks the login files when the registry wants to know.
        pause: waits, between tries.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self.base = f"{'http' if address.plain else 'https'}://{address.host}"
        self._credentials = credentials
        self._asked_files = credentials is not None
        self._pause = pause
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self._authorization: str | None = None

    def close(self) -> None:
        """Ends every connection."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def ask(
        self,
        method: str,
        target: str,
        *,
        expect: Sequence[int],
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        tries: int = len(PAUSES_S) + 1,
    ) -> Answer:
        """Sends a request until it is answered with one of the expected statuses.

        Args:
            method: every request of ours may be sent twice.
            target: a path of the registry, or an address that it gave.
            expect: statuses that are answers; 401 is answered with who we are.
            headers: beside those of the connection.
            body: what is sent.
            tries: how often a broken connection or a busy registry is tried.

        Raises:
            DukouError: `remote.*`.
        """
        url = urllib.parse.urljoin(self.base, target)
        for attempt in range(tries):
            last = attempt == tries - 1
            try:
                answer = self._ask_as_us(method, url, dict(headers or {}), body)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if last or isinstance(error, ssl.SSLError):
                    raise self.failure(error) from error
            else:
                if answer.status in expect:
                    return answer
                if last or answer.status not in _AGAIN:
                    raise self._refusal(method, url, answer)
                answer.drop()
            self._pause(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
        raise AssertionError("unreachable")  # pragma: no cover

    def failure(self, error: Exception) -> DukouError:
        """An error of the connection, as ours."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return TrustError(
                "trust.unknown-certificate",
                f"`{self.base}` shows a certificate that is not trusted here: {error.verify_message}",
            )
        if isinstance(error, ssl.SSLError):
            return RemoteError(
                "remote.unreachable",
                f"`{self.base}` does not speak TLS as we do: {error.reason or error}",
                hint="a registry without TLS is spoken to with `--insecure`, and on this machine without it",
            )
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return RemoteError("remote.unreachable", f"no answer from `{self.base}`: {said}")

    def _ask_as_us(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        answer = self._follow(method, url, headers, body)
        if answer.status != 401:
            return answer
        challenge = answer.headers.get("www-authenticate", "")
        answer.drop()
        if not self._authorize(challenge):
            raise TrustError("remote.denied", self._denied("wants to know who asks"))
        answer = self._follow(method, url, headers, body)
        if answer.status == 401:
            who = self._credentials
            said = f"does not know user `{who.username}` of {who.origin}" if who else "says 401"
            raise TrustError("remote.denied", self._denied(said))
        return answer

    def _denied(self, what: str) -> str:
        return f"the registry `{self.address.host}` {what}"

    def _follow(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        """One exchange; a blob that lies elsewhere is fetched from there, without saying who we are."""
        for _ in range(_REDIRECTS):
            answer = self._exchange(method, url, headers, body)
            if answer.status not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
                return answer
            onward = urllib.parse.urljoin(url, answer.headers.get("location", ""))
            answer.drop()
            if url.startswith("https:") and not onward.startswith("https:"):
                raise RemoteError(
                    "remote.refused", f"`{self.base}` leads to an address without TLS: `{onward}`"
                )
            url = onward
        raise RemoteError("remote.refused", f"`{self.base}` leads on and on")

    def _exchange(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        parts = urllib.parse.urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        headers = {"User-Agent": "dukou", **headers}
        if self._authorization is not None and origin == self.base:
            headers["Authorization"] = self._authorization
        if body is not None:
            headers["Content-Length"] = str(body.size if isinstance(body, Part) else len(body))
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection = self._connection(parts)
        fresh = connection.sock is None
        content = body.pieces() if isinstance(body, Part) else body
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            connection.close()
            # A piece of an upload that was half received is not to be sent again blindly.
            if fresh or method == "PATCH":
                raise
            # A kept connection may have been closed between two requests: that is no failed try.
            content = body.pieces() if isinstance(body, Part) else body
            connection.request(method, target, content, headers)
            response = connection.getresponse()
        heads = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, heads, response)

    def _connection(self, parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
        origin = f"{parts.scheme}://{parts.netloc}"
        connection = self._connections.get(origin)
        if connection is not None:
            return connection
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise RemoteError("remote.refused", f"`{self.base}` gave `{origin}` as an address")
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname, port, timeout=TIMEOUT_S, context=_tls()
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S)
        self._connections[origin] = connection
        return connection

    # Who we are

    def _authorize(self, challenge: str) -> bool:
        """Prepares the header that the challenge asks for; whether there is anything to say."""
        if not self._asked_files:
            self._asked_files = True
            self._credentials = find_credentials(self.address.host)
        scheme, _, rest = challenge.partition(" ")
        words = dict(re.findall(r'([A-Za-z_]+)="([^"]*)"', rest))
        if scheme.lower() == "bearer" and "realm" in words:
            # A token for whoever asks, too: a public repository gives one.
            self._authorization = f"Bearer {self._fetch_token(words)}"
            return True
        if scheme.lower() == "basic" and self._credentials is not None:
            self._authorization = self._credentials.basic
            return True
        return False

    def _fetch_token(self, words: Mapping[str, str]) -> str:
        realm = words["realm"]
        parts = urllib.parse.urlsplit(realm)
        if parts.scheme != "https" and not (self.address.plain or is_loopback(parts.netloc)):
            raise RemoteError(
                "remote.refused", f"`{self.base}` wants the password sent to `{realm}`, in clear"
            )
        scope = words.get("scope") or f"repository:{self.address.repository}:pull,push"
        query = urllib.parse.urlencode(
            {**({"service": words["service"]} if "service" in words else {}), "scope": scope}
        )
        headers = {} if self._credentials is None else {"Authorization": self._credentials.basic}
        answer = self._exchange(
            "GET", f"{realm}{'&' if parts.query else '?'}{query}", headers, None
        )
        content = answer.read()
        if answer.status in (401, 403):
            raise TrustError("remote.denied", self._denied(f"gives no token (from `{realm}`)"))
        try:
            document = json.loads(content)
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if answer.status != 200 or not isinstance(token, str):
            raise RemoteError(
                "remote.refused", f"`{realm}` answered {answer.status} without a token"
            )
        return token

    def _refusal(self, method: str, url: str, answer: Answer) -> DukouError:
        said = _words(answer.read())
        what = f"`{self.base}` answered {answer.status} to {method} `{urllib.parse.urlsplit(url).path}`{said}"
        if answer.status in (401, 403):
            return TrustError("remote.denied", what)
        if answer.status == 404:
            return StateError("remote.not-found", what)
        if answer.status in (413, 507):
            return ResourceError("remote.full", what)
        return RemoteError("remote.refused", what)


def _words(body: bytes) -> str:
    """What the registry says of its refusal: `{"errors": [{"code", "message"}]}`."""
    try:
        errors: Any = json.loads(body)["errors"]
        first = errors[0]
        text = f"{first.get('code', '')} {first.get('message', '')}".strip()
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f": {text[:200]}" if text else ""


def _tls() -> ssl.SSLContext:
    """Checks the registry's certificate: against `DUKOU_CACERT`, else the system's."""
    said = resolve_setting("cacert").value
    try:
        return ssl.create_default_context(cafile=said)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            "usage.invalid", f"the certificate `{said}` cannot be used: {error}"
        ) from error
