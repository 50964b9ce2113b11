"""Whether a server answers as ONNX Runtime does. A server that errs is not fast: it is not timed."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.workplace import Unavailable


def ask(
    url: str,
    body: bytes,
    timeout_s: float = 30.0,
    *,
    key: str | None = None,
    certificate: Path | None = None,
) -> bytes:
    """The body of the answer to one request; with a key, over TLS, where these are given.

    Raises:
        Unavailable: any other status than 200.
    """
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    context = None if certificate is None else ssl.create_default_context(cafile=certificate)
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        words = error.read().decode("utf-8", "replace")[:300]
        raise Unavailable(f"it answered {error.code}: {words}") from error
    except OSError as error:
        raise Unavailable(f"it did not answer: {error}") from error


def check_answers(
    url: str,
    bodies: Sequence[bytes],
    answers: Sequence[dict[str, Any]],
    tolerance: float,
    *,
    key: str | None = None,
    certificate: Path | None = None,
) -> None:
    """Sends every request once and compares.

    Raises:
        Unavailable: an answer is missing, unreadable or wrong; with both sides.
    """
    for at, (body, wanted) in enumerate(zip(bodies, answers, strict=True)):
        content = ask(url, body, key=key, certificate=certificate)
        try:
            came = json.loads(content)
        except ValueError as error:
            raise Unavailable(f"answer {at} is not JSON: {content[:200]!r}") from error
        place = difference_at(came, wanted, tolerance)
        if place is not None:
            raise Unavailable(f"answer {at} is wrong: {place}")


def difference_at(came: Any, wanted: Any, tolerance: float, place: str = "") -> str | None:
    """Where an answer does not contain what is wanted; None where it does. Servers may say more."""
    if isinstance(wanted, dict) and isinstance(came, dict):
        for key, inner in wanted.items():
            here = f"{place}.{key}".lstrip(".")
            if key not in came:
                return f"`{here}` is missing"
            found = difference_at(came[key], inner, tolerance, here)
            if found:
                return found
        return None
    if isinstance(wanted, list) and isinstance(came, list):
        if len(wanted) != len(came):
            return f"`{place}` has {len(came)} elements, {len(wanted)} are expected"
        for at, (one, other) in enumerate(zip(came, wanted, strict=True)):
            found = difference_at(one, other, tolerance, f"{place}[{at}]")
            if found:
                return found
        return None
    if _is_number(wanted) and _is_number(came):
        if abs(came - wanted) <= tolerance * max(1.0, abs(wanted)):
            return None
        return f"`{place}` is {came}, {wanted} is expected"
    return None if came == wanted else f"`{place}` is {came!r}, {wanted!r} is expected"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
