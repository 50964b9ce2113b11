"""Where a server answers, and what is spoken there."""

from __future__ import annotations

import urllib.parse
from typing import NamedTuple

from dukou.base.errors import InputError

_SCHEMES = ("http", "https", "grpc", "grpcs")
# Of those that have one: a port of gRPC is always said.
_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Where a server answers.

    Attributes:
        scheme: `http`, `https`, `grpc` or `grpcs`.
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
    def speaks_grpc(self) -> bool:
        """Whether gRPC is spoken there, and not HTTP/1.1."""
        return self.scheme in ("grpc", "grpcs")

    @property
    def is_secure(self) -> bool:
        """Whether it is spoken over TLS."""
        return self.scheme in ("https", "grpcs")

    @property
    def url(self) -> str:
        """`http://host:port`."""
        return f"{self.scheme}://{self.authority}"


def parse_address(flag: str, text: str) -> Address:
    """`http://old:8501`, or `old:8501`; `grpc://old:8500`.

    Raises:
        InputError: `usage.invalid`.
    """
    parts = urllib.parse.urlsplit(text if "//" in text else f"//{text}", scheme="http")
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        port = 0
    if parts.scheme not in _SCHEMES or not parts.hostname or not port:
        raise InputError(
            "usage.invalid",
            f"`{flag} {text}` is not the address of a server",
            hint="an address is like `http://old:8501`, or `grpc://old:8500`",
        )
    if parts.path.strip("/") or parts.query:
        raise InputError(
            "usage.invalid",
            f"`{flag} {text}` has a path, and paths are passed on as they come",
            hint="name scheme, host and port alone",
        )
    return Address(parts.scheme, parts.hostname, port)


def title_of_v2(name: str) -> str:
    """How people call a server of the V2 protocol that calls itself so."""
    titles = {"triton": "Triton", "kserve": "KServe", "mlserver": "MLServer", "dukou": "dukou"}
    return titles.get(name.lower(), f"a server of the V2 protocol called `{name}`")
