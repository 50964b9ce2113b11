"""Base addresses of replicas. Standard library only; the engine holds them to the same."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"(https?)://(.*)\Z", re.DOTALL)
_PRINTABLE = re.compile(r"[\x21-\x7e]*\Z")
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?\Z")


def problem_with_address(text: str, *, ca_file: bool) -> str | None:
    """What is wrong with a replica's address; None where nothing is.

    Args:
        text: `http://host:port`, or `https://`, with a path or without.
        ca_file: whether certificates are named that a replica's can be checked against.
    """
    match = _SCHEME.match(text)
    if match is None:
        return f"`{text}` is not an address such as `http://10.0.0.7:8080`"
    authority = match[2].partition("/")[0]
    if "@" in authority:
        return f"`{text}` carries a password: name the key's file with `key_file`"
    if "?" in match[2] or "#" in match[2] or not _PRINTABLE.match(match[2]):
        return f"`{text}` is no base address: it may hold a host, a port and a path"
    parts = _AUTHORITY.match(authority)
    if parts is None or not parts[1].strip("[]"):
        return f"`{text}` names no host and port"
    if parts[2] is not None and not (parts[2].isdigit() and 0 < int(parts[2]) < 65536):
        return f"`{text}` has a port that is none"
    if match[1] == "https" and not ca_file:
        return (
            f"`{text}` speaks TLS: `ca_file` must name the certificates that it is checked against"
        )
    return None
