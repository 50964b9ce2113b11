"""Names of images: what a registry, podman and Kubernetes all take.

Source: the grammar of the distribution project's `reference` package, without digests.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dukou.base.errors import InputError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_HOST}(?:\.{_HOST})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?\Z")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_LONGEST = 255


class ImageReference(NamedTuple):
    """An image's name.

    Attributes:
        domain: the registry's; empty where none is named.
        path: inside it.
        tag: empty where there is a digest alone.
        digest: `sha256:…`, or empty.
    """

    domain: str
    path: str
    tag: str
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse_image(text: str, *, flag: str, allow_digest: bool = False) -> ImageReference:
    """An image's name from a command line; the tag is `latest` where none is said.

    Args:
        text: `digits:3`, `registry.example.com:5000/team/digits:3`.
        flag: where it was said.
        allow_digest: whether `…@sha256:…` may be behind it.

    Raises:
        InputError: `image.invalid-reference`, naming what of it is wrong.
    """

    def wrong(why: str) -> InputError:
        return InputError("image.invalid-reference", f"`{flag} {text}` is no image's name: {why}")

    rest, at, digest = text.partition("@")
    if at and not (allow_digest and _DIGEST.match(digest)):
        raise wrong("a digest has no place here" if not allow_digest else "its digest is none")
    head, slash, tail = rest.rpartition("/")
    last, colon, tag = tail.partition(":")
    name = f"{head}{slash}{last}"
    if colon and not _TAG.match(tag):
        raise wrong(f"`{tag}` is not a tag")
    first, _, behind = name.partition("/")
    # A first part with a dot or a port, or `localhost`, is a registry; anything else is a folder.
    is_domain = bool(behind) and ("." in first or ":" in first or first == "localhost")
    domain, path = (first, behind) if is_domain else ("", name)
    if domain and not _DOMAIN.match(domain):
        raise wrong(f"`{domain}` is not a registry's address")
    if not _PATH.match(path):
        why = (
            "it has capital letters" if path != path.lower() else f"`{path}` may not be written so"
        )
        raise wrong(why)
    if len(name) > _LONGEST:
        raise wrong(f"it has {len(name)} characters, and {_LONGEST} are the most")
    return ImageReference(domain, path, tag if colon else "" if digest else "latest", digest)


def default_reference(name: str, version: str | None) -> ImageReference:
    """What an image of a model is called where nobody says it: `digits:3`.

    Raises:
        InputError: `image.invalid-reference`: no such name can be made of the model's.
    """
    tag = version if version is not None else "latest"
    try:
        return parse_image(f"{name.lower()}:{tag}", flag="--tag")
    except InputError as error:
        raise InputError(
            error.code,
            f"no image's name can be made of the model's, `{name}`",
            hint="give one: `--tag NAME:TAG`",
        ) from error
