"""Attacks as data: what is sent, to which door, and what must come back.

A door is `plain` (loopback, in clear) or `keys` (TLS and keys). `{NAME}` in the bytes stands for a key.
An answer is a status and a code; `None` is a connection that is closed without one.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.serving import BODY

MODEL = "m"
INFER = f"/v2/models/{MODEL}/infer"
# Of the servers that are attacked: small, so that little is needed to reach them.
BODY_BYTES, HEADER_MS = 100_000, 400


class Attack(NamedTuple):
    """One attack.

    Attributes:
        door: which listener.
        sent: the bytes.
        answer: status and code that must come back; None for a closed connection.
        event: the code that the security log must have; the answer's where empty.
    """

    door: str
    sent: bytes
    answer: tuple[int, str] | None
    event: str = ""


def head(path: str, *headers: str, method: str = "POST", host: str = "localhost") -> bytes:
    """A head; nothing is added but a host."""
    lines = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host else []), *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def whole(path: str, *headers: str, body: str | bytes = BODY, **rest: str) -> bytes:
    """A request with its length."""
    content = body.encode() if isinstance(body, str) else body
    return head(path, *headers, f"Content-Length: {len(content)}", **rest) + content


def with_key(key: str, path: str = INFER, method: str = "POST", *headers: str) -> bytes:
    """A request that shows a key."""
    return whole(path, f"Authorization: Bearer {key}", *headers, method=method)


_BAD_HEAD = (400, "wire.invalid-request")
_LARGE = (431, "limits.head-too-large")
_LENGTH = f"Content-Length: {len(BODY)}"


def _framed(*headers: str, body: bytes = BODY.encode()) -> bytes:
    """Two requests where one is announced: the second must never be answered."""
    return head(INFER, *headers) + body + whole(INFER)


SMUGGLING = {
    "two lengths": Attack("plain", _framed("Content-Length: 5", _LENGTH), _BAD_HEAD),
    "a list of lengths": Attack("plain", _framed("Content-Length: 5, 5"), _BAD_HEAD),
    "a length with a sign": Attack("plain", _framed("Content-Length: +5"), _BAD_HEAD),
    "a length in hex": Attack("plain", _framed("Content-Length: 0x5"), _BAD_HEAD),
    "an unknown coding": Attack("plain", _framed("Transfer-Encoding: xchunked"), _BAD_HEAD),
    "a coding behind chunked": Attack("plain", _framed("Transfer-Encoding: chunked, x"), _BAD_HEAD),
    "a space before the colon": Attack(
        "plain", _framed("Transfer-Encoding : chunked", _LENGTH), _BAD_HEAD
    ),
    "a folded header": Attack("plain", _framed("X: a\r\n Y: b", _LENGTH), _BAD_HEAD),
    "a zero byte in a header": Attack("plain", _framed("X: \0", _LENGTH), _BAD_HEAD),
    "HTTP/0.9": Attack("plain", b"GET /v2\r\n\r\n" + whole(INFER), _BAD_HEAD),
    "TLS to a port in clear": Attack("plain", b"\x16\x03\x01\x02\x00\x01" + bytes(100), _BAD_HEAD),
    "chunks without a number": Attack(
        "plain", head(INFER, "Transfer-Encoding: chunked") + b"zz\r\nhello\r\n0\r\n\r\n", _BAD_HEAD
    ),
    "a chunk of more than there is": Attack(
        "plain",
        head(INFER, "Transfer-Encoding: chunked") + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        _BAD_HEAD,
    ),
    "a chunk that is longer than it says": Attack(
        "plain",
        head(INFER, "Transfer-Encoding: chunked") + b"5\r\nhelloworld\r\n0\r\n\r\n",
        _BAD_HEAD,
    ),
    "two hosts": Attack("plain", whole(INFER, "Host: evil.example"), _BAD_HEAD),
    "two origins": Attack(
        "plain", whole(INFER, "Origin: http://localhost", "Origin: http://evil.example"), _BAD_HEAD
    ),
    "garbage behind a good request": Attack("plain", whole(INFER) + b"\0\1\2\r\n\r\n", _BAD_HEAD),
}

FOREIGN_PAGES = {
    "a page's host": Attack(
        "plain", whole(INFER, host="evil.example"), (403, "access.foreign-host")
    ),
    "a host that begins with ours": Attack(
        "plain", whole(INFER, host="localhost.evil.example"), (403, "access.foreign-host")
    ),
    "a whole foreign address": Attack(
        "plain", whole("http://evil.example" + INFER), (403, "access.foreign-host")
    ),
    "a page's origin": Attack(
        "plain", whole(INFER, "Origin: http://evil.example"), (403, "access.foreign-origin")
    ),
    "a page without an origin": Attack(
        "plain", whole(INFER, "Origin: null"), (403, "access.foreign-origin")
    ),
    "a page's preflight": Attack(
        "plain",
        head(INFER, "Origin: http://evil.example", method="OPTIONS"),
        (403, "access.foreign-origin"),
    ),
}

_NO_MODEL, _NO_PATH = (404, "request.unknown-model"), (404, "wire.unknown-path")
_NO_VERSION = (404, "request.unknown-version")
TRAVERSAL = {
    path: Attack("plain", head(path, method="GET"), answer)
    for path, answer in {
        "/v2/models/../../etc/passwd": _NO_PATH,
        "/../../../../etc/passwd": _NO_PATH,
        "/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd": _NO_MODEL,
        "/v2/models/%252e%252e%252fetc": _NO_MODEL,
        "/v2/models/..%5c..%5cwindows": _NO_MODEL,
        "/v2/models/m%00.onnx": _NO_MODEL,
        "/v2/models/m%0d%0aX-Evil:%20yes": _NO_MODEL,
        f"/v2/models/{MODEL}/versions/..%2f..%2f1": _NO_VERSION,
        f"/v2/models/{MODEL}/aliases/%2e%2e": _NO_VERSION,
        "/v2/models/%c0%ae%c0%ae/etc": _NO_PATH,
        "/v2/models/%c0%ae%c0%ae": _BAD_HEAD,
    }.items()
}

_DEEP = BODY.replace("[1, 2, 3, 4]", "[" * 5000 + "]" * 5000)
_HUGE = BODY.replace("[1, 4]", f"[{2**62}, 4]")
EXHAUSTION = {
    "a head of 1 MB": Attack("plain", head(INFER, "X: " + "a" * 1_000_000), _LARGE),
    "a path of 1 MB": Attack("plain", head("/" + "a" * 1_000_000), _LARGE),
    "a thousand headers": Attack("plain", head(INFER, *["X: a"] * 1000), _LARGE),
    "a body that announces too much": Attack(
        "plain", head(INFER, "Content-Length: 10000000000"), (413, "request.body-too-large")
    ),
    "chunks without end": Attack(
        "plain",
        head(INFER, "Transfer-Encoding: chunked") + b"4000\r\n%b\r\n" % (b" " * 16384) * 8,
        (413, "request.body-too-large"),
    ),
    "brackets 5,000 deep": Attack("plain", whole(INFER, body=_DEEP), (400, "wire.too-deep")),
    "a shape beyond all memory": Attack(
        "plain", whole(INFER, body=_HUGE), (400, "wire.shape-overflow")
    ),
    "a head that never ends": Attack("plain", b"POST /v2/mod", None, "limits.slow-head"),
    "a body that never comes": Attack(
        "plain", head(INFER, "Content-Length: 1000"), (408, "limits.slow-body")
    ),
    "a body that waits for years": Attack(
        "plain",
        head(INFER, "Content-Length: 1000", "dukou-timeout-ms: 4294967295") + b"{",
        (408, "limits.slow-body"),
    ),
}

_BAD_KEY, _NO_KEY = (401, "access.bad-key"), (401, "access.no-key")
_FORBIDDEN = (403, "access.forbidden")
STOLEN = {
    "no key": Attack("keys", whole(INFER), _NO_KEY),
    "a key in the query": Attack("keys", whole(INFER + "?key={good}"), _NO_KEY),
    "a key in a cookie": Attack("keys", whole(INFER, "Cookie: key={good}"), _NO_KEY),
    "no key, and a path that nothing is at": Attack("keys", head("/admin", method="GET"), _NO_KEY),
    "no key, and a body of 10 GB": Attack(
        "keys", head(INFER, "Content-Length: 10000000000"), _NO_KEY
    ),
    "an empty key": Attack("keys", with_key(""), _BAD_KEY),
    "half a key": Attack("keys", with_key("{half}"), _BAD_KEY),
    "another secret": Attack("keys", with_key("{forged}"), _BAD_KEY),
    "another id": Attack("keys", with_key("{another_id}"), _BAD_KEY),
    "the hash for the secret": Attack("keys", with_key("{hash}"), _BAD_KEY),
    "another installation's": Attack("keys", with_key("{elsewhere}"), _BAD_KEY),
    "an expired one": Attack("keys", with_key("{expired}"), _BAD_KEY),
    "a revoked one": Attack("keys", with_key("{revoked}"), _BAD_KEY),
    "a question to a database": Attack("keys", with_key("dk_' OR '1'='1_" + "x" * 43), _BAD_KEY),
    "a key of 10,000 letters": Attack("keys", with_key("dk_0_" + "A" * 10_000), _BAD_KEY),
    "a password": Attack("keys", whole(INFER, "Authorization: Basic YTpi"), _BAD_KEY),
    "a token without a signature": Attack(
        "keys", with_key("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."), _BAD_KEY
    ),
    "two keys": Attack(
        "keys",
        whole(INFER, "Authorization: Bearer {good}", "Authorization: Bearer {forged}"),
        _BAD_HEAD,
    ),
    "a key for another model": Attack("keys", with_key("{other}"), _FORBIDDEN),
    "a key that may only ask, for metrics": Attack(
        "keys", with_key("{good}", "/metrics", "GET"), _FORBIDDEN
    ),
    "a key that may only ask, to unload": Attack(
        "keys", with_key("{good}", f"/v2/repository/models/{MODEL}/unload"), _FORBIDDEN
    ),
    "a model that is not there, without a right to it": Attack(
        "keys", with_key("{other}", "/v2/models/secret-project/infer"), _FORBIDDEN
    ),
    "another method in a header": Attack(
        "keys",
        with_key("{good}", INFER, "GET", "X-HTTP-Method-Override: POST"),
        (405, "wire.wrong-method"),
        "none",
    ),
}

ATTACKS = {**SMUGGLING, **FOREIGN_PAGES, **TRAVERSAL, **EXHAUSTION, **STOLEN}
