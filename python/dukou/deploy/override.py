"""What a command line says of every model that it serves, in place of what their deployments say.

Standard library only: `dukou serve` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dukou.base.durations import parse_duration
from dukou.base.errors import InputError
from dukou.base.sizes import parse_size
from dukou.deploy.defaults import LEAST_CACHE_BYTES, LONGEST_CACHE_MS
from dukou.deploy.providers import parse_provider, with_cpu


class Override(NamedTuple):
    """What a command line says of every model that it serves; None leaves it to each deployment.

    Attributes:
        cache: as in a table: `{"max_bytes", "ttl_ms"}`.
        providers: as in a table.
    """

    cache: dict[str, int | None] | None = None
    providers: list[dict[str, Any]] | None = None

    def to_json(self) -> dict[str, Any]:
        """As in `desired.json`."""
        return self._asdict()

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Override:
        """The inverse."""
        return cls(**document)


NO_OVERRIDE = Override()


def providers_of_words(words: Sequence[str]) -> list[dict[str, Any]] | None:
    """`--provider openvino:device_type=CPU --provider cuda` as in a table; None where none is said.

    Raises:
        InputError: `deploy.unknown-provider`, `usage.invalid`.
    """
    return with_cpu(parse_provider(word, key="--provider") for word in words) if words else None


def cache_of_words(size: str | None, ttl: str | None) -> dict[str, int | None] | None:
    """`--cache 64m --cache-ttl 10min` as in a table; None where neither is said.

    Raises:
        InputError: `usage.invalid`: no size, no duration, or one that no cache can have.
    """
    if size is None:
        if ttl is not None:
            raise InputError(
                "usage.invalid",
                f"`--cache-ttl {ttl}` without `--cache`: there is nothing that would be kept so long",
                hint="say how much may be kept: `--cache 64m`",
            )
        return None
    return cache_document(size, ttl, keys=("--cache", "--cache-ttl"), code="usage.invalid")


def cache_document(
    size: str, ttl: str | None, *, keys: tuple[str, str], code: str = "project.invalid"
) -> dict[str, int | None]:
    """A size and a duration in words, as in a table.

    Args:
        size: of questions and answers together: `64m`.
        ttl: how long an answer is good: `10min`; None for as long as its version is served.
        keys: what the two were written for, for the error.
        code: of the error.

    Raises:
        InputError: `code`.
    """
    most = parse_size(size, key=keys[0], code=code)
    if most < LEAST_CACHE_BYTES:
        raise InputError(
            code,
            f"`{keys[0]}` is `{size}`, and a cache has at least {LEAST_CACHE_BYTES // 1024}k",
            hint="`64m` keeps about 100,000 answers of a small model",
        )
    if ttl is None:
        return {"max_bytes": most, "ttl_ms": None}
    good = max(1, round(parse_duration(ttl, key=keys[1], code=code).total_seconds() * 1000))
    if good > LONGEST_CACHE_MS:
        raise InputError(
            code,
            f"`{keys[1]}` is `{ttl}`, must be at most a year",
            hint="leave it out: an answer is then good for as long as its version is served",
        )
    return {"max_bytes": most, "ttl_ms": good}
