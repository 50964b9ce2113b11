"""Whether two servers' answers over HTTP say the same. Pure.

Nothing is said of what may differ between two right servers: headers, ids of requests, the number that a
version has, the words of an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from dukou.serve.messages.elements import read_elements
from dukou.serve.migrate.compare import Tolerance, differences

# Fields of an answer that are each server's own matter.
_OWN = ("model_version", "model_name", "id", "parameters")
_HEADER_LENGTH = "inference-header-content-length"


class Answer(NamedTuple):
    """What a server said.

    Attributes:
        status: of HTTP.
        headers: by their names in lower case.
        body: whole, uncompressed.
    """

    status: int
    headers: dict[str, str]
    body: bytes


def compare(old: Answer, new: Answer, tolerance: Tolerance) -> str | None:
    """What differs first, in words; None where the two say the same."""
    if old.status != new.status:
        return f"the status is {old.status}, and {new.status} here"
    if old.status >= 400:
        return None
    try:
        left, right = _parsed(old), _parsed(new)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        return None if old.body == new.body else f"an answer cannot be read: {error}"
    return next(differences(left, right, tolerance), None)


def _parsed(answer: Answer) -> Any:
    """The JSON, with V2's outputs by their names and binary ones read."""
    length = answer.headers.get(_HEADER_LENGTH)
    head = answer.body if length is None else answer.body[: int(length)]
    document = json.loads(head)
    if not isinstance(document, dict):
        return document
    outputs = document.get("outputs")
    if isinstance(outputs, list) and all(isinstance(o, dict) and "datatype" in o for o in outputs):
        rest = answer.body[len(head) :]
        return {
            **{key: value for key, value in document.items() if key not in (*_OWN, "outputs")},
            "outputs": dict(_tensors(outputs, rest)),
        }
    return {key: value for key, value in document.items() if key != "model_version"}


def _tensors(outputs: list[dict[str, Any]], rest: bytes) -> Iterator[tuple[str, Any]]:
    place = 0
    for output in outputs:
        # KServe writes `null` where it has none.
        size = (output.get("parameters") or {}).get("binary_data_size")
        if size is None:
            data = list(_flat(output.get("data") or []))
        else:
            data = read_elements(output["datatype"], rest[place : place + int(size)])
            place += int(size)
        yield (
            output["name"],
            {"datatype": output["datatype"], "shape": list(output["shape"]), "data": data},
        )


def _flat(nested: Any) -> Iterator[Any]:
    if isinstance(nested, list):
        for each in nested:
            yield from _flat(each)
    else:
        yield nested
