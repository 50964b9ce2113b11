"""Where a repository is, as people write it: `HOST[:PORT]/REPOSITORY[:TAG]`, or a folder."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from dukou.base.errors import InputError
from dukou.base.ids import Digest, parse_digest

# The distribution specification's names and tags.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")

_FORM = (
    "a remote is `HOST[:PORT]/REPOSITORY`, with `:TAG` or `@sha256:…` behind it, or a folder "
    "that begins with `/`, `./`, `../` or `~`"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A repository, and what of it is meant.

    Attributes:
        kind: `oci` (a registry) or `folder`.
        host: of a registry, with its port; empty for a folder.
        repository: the path behind the host; of a folder, its path.
        plain: whether it is spoken to without TLS.
        tag: what is meant of it; None where nothing was said.
        digest: the same by digest.
    """

    kind: str
    host: str
    repository: str
    plain: bool = False
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        place = f"{self.host}/{self.repository}" if self.kind == "oci" else self.repository
        if self.digest is not None:
            return f"{place}@{self.digest}"
        return place if self.tag is None else f"{place}:{self.tag}"

    @property
    def name(self) -> str:
        """The last part."""
        return self.repository.rstrip("/").rpartition("/")[2]


def parse_address(text: str, *, model: str | None = None, insecure: bool = False) -> Address:
    """Reads an address.

    Args:
        text: as written. Where it ends with `/`, or is a host alone, the model's name follows.
        model: the name of the model that is pushed; None for a pull.
        insecure: whether another machine may be spoken to without TLS.

    Raises:
        InputError: `usage.invalid`, or `remote.insecure`: `http://` to another machine.
    """
    if text.startswith(("/", "./", "../", "~")) or text in (".", ".."):
        return _parse_folder(text, model)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    elif scheme not in ("http", "https", "oci"):
        raise InputError("usage.invalid", f"`{text}` is not the address of a remote", hint=_FORM)
    host, slash, path = rest.partition("/")
    path, digest = _split_digest(path)
    path, tag = _split_tag(path)
    if (not slash or not path or path.endswith("/")) and model is not None:
        path = f"{path}{model}"
    if not _HOST.match(host):
        raise InputError("usage.invalid", f"`{text}` names no host", hint=_FORM)
    if not _REPOSITORY.match(path):
        raise InputError(
            "usage.invalid",
            f"`{path}` cannot be a repository of a registry",
            hint=f"a repository is lower-case letters and digits, in parts between `/`, joined by `.`, `_` or "
            f"`-`; {_FORM}",
        )
    local = is_loopback(host)
    plain = scheme == "http" or (scheme != "https" and (local or insecure))
    if plain and not local and not insecure:
        raise InputError(
            "remote.insecure",
            f"`{host}` is another machine, and would be spoken to in clear",
        )
    return Address("oci", host, path, plain, tag, digest)


def is_loopback(host: str) -> bool:
    """Whether the host, with a port or not, is this machine."""
    name = host.rsplit(":", 1)[0] if re.search(r":[0-9]+\Z", host) else host
    name = name.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def check_tag(text: str) -> str:
    """A tag, as a registry takes it.

    Raises:
        InputError: `usage.invalid`.
    """
    if not _TAG.match(text):
        raise InputError(
            "usage.invalid",
            f"`{text[:140]}` cannot be a tag",
            hint="a tag is 1 to 128 letters, digits, `.`, `_` or `-`, and does not begin with `.` or `-`",
        )
    return text


def _parse_folder(text: str, model: str | None) -> Address:
    path, digest = _split_digest(text)
    tag = None
    # A folder of this very name is meant as it stands, whatever is in its name.
    if digest is None and not Path(path).expanduser().is_dir():
        path, tag = _split_tag(path)
    if path.endswith("/") and model is not None:
        path += model
    return Address("folder", "", str(Path(path).expanduser().absolute()), False, tag, digest)


def _split_digest(path: str) -> tuple[str, Digest | None]:
    rest, at, digest = path.partition("@")
    return (rest, parse_digest(digest)) if at else (path, None)


def _split_tag(path: str) -> tuple[str, str | None]:
    before, slash, last = path.rpartition("/")
    name, colon, tag = last.partition(":")
    return (f"{before}{slash}{name}", check_tag(tag)) if colon else (path, None)
