"""What TorchServe is asked: inference and management over HTTP. The order counts: what is changed is asked about then.

Versions and files are called as TorchServe calls them; ours are asked about by their own names.
"""

from __future__ import annotations

import json
from typing import Any

from tests.compatibility.questions import ROWS, Question

_JSON = {"Content-Type": "application/json"}


def _predict(
    name: str,
    body: Any,
    kind: str | None = "application/json",
    *,
    path: str = "m",
    method: str = "POST",
) -> Question:
    headers = {} if kind is None else {"Content-Type": kind}
    return Question(name, method, f"/predictions/{path}", body, headers)


def _form(part: str, content: bytes, kind: str = "") -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="{part}"; filename="row.json"\r\n'
    head += f"Content-Type: {kind}\r\n" if kind else ""
    return head.encode() + b"\r\n" + content + b"\r\n--edge--\r\n"


_ROW = json.dumps(ROWS[0]).encode()
_FORM = "multipart/form-data; boundary=edge"
PREDICTIONS = [
    Question("ping", "GET", "/ping"),
    Question("ping by POST", "POST", "/ping"),
    _predict("predict, a row", ROWS[0]),
    _predict("predict, rows", ROWS),
    _predict("predict, a file without a type (curl -T)", _ROW, None, method="PUT"),
    _predict("predict, octets", _ROW, "application/octet-stream"),
    _predict("predict, text", _ROW, "text/plain"),
    _predict("predict, JSON with a charset", _ROW, "application/json; charset=utf-8"),
    _predict("predict, `data`", {"data": ROWS[0]}),
    _predict("predict, `body`", {"body": ROWS[0]}),
    _predict("predict, a form (curl -F)", _form("data", _ROW), _FORM),
    _predict("predict, a form of JSON", _form("data", _ROW, "application/json"), _FORM),
    _predict("predict, a form's `body`", _form("body", _ROW), _FORM),
    _predict("predict, curl -d data=", b"data=" + _ROW, "application/x-www-form-urlencoded"),
    _predict("predict, a version", ROWS[0], path="m/1.0"),
    _predict("predict, by GET", ROWS[0], method="GET"),
    _predict("predict, by DELETE", ROWS[0], method="DELETE"),
    _predict("predict, a query is passed over", ROWS[0], path="m?a=1"),
    _predict("an unknown model", ROWS[0], path="nobody"),
    _predict("an unknown version", ROWS[0], path="m/9.0"),
    _predict("an empty body", b""),
    _predict("not JSON", b"["),
    _predict("another number of columns", [1.0, 2.0]),
    _predict("text for a number", ["a", "b", "c", "d"]),
    _predict("an object without rows", {"nothing": 1}),
    _predict("a form without `data`", _form("other", _ROW), _FORM),
    Question("explain", "POST", "/explanations/m", ROWS[0], _JSON),
    Question("explain, an unknown model", "POST", "/explanations/nobody", ROWS[0], _JSON),
    Question(
        "predict, SageMaker's invocations", "POST", "/invocations?model_name=m", ROWS[0], _JSON
    ),
    Question(
        "invocations, an unknown model", "POST", "/invocations?model_name=nobody", ROWS[0], _JSON
    ),
    Question("predict, a model's invoke", "POST", "/models/m/invoke", ROWS[0], _JSON),
    Question("API description", "GET", "/api-description"),
    Question("API description by OPTIONS", "OPTIONS", "/"),
    Question("a model's API description", "OPTIONS", "/predictions/m"),
    Question("an unknown model's API description", "OPTIONS", "/predictions/nobody"),
    Question("unknown path", "GET", "/nothing"),
    Question("a path too short", "GET", "/predictions"),
]


def _ask(name: str, method: str, path: str, body: Any = None) -> Question:
    headers = {} if body is None else _JSON
    return Question(name, method, path, body, headers, door="management")


MANAGEMENT = [
    _ask("describe", "GET", "/models/m"),
    _ask("describe, a version", "GET", "/models/m/1.0"),
    _ask("describe, all versions", "GET", "/models/m/all"),
    _ask("describe, an unknown model", "GET", "/models/nobody"),
    _ask("describe, an unknown version", "GET", "/models/m/9.0"),
    _ask("list", "GET", "/models"),
    _ask("list, a page of one", "GET", "/models?limit=1"),
    _ask("list, behind its end", "GET", "/models?next_page_token=9"),
    _ask("list, a limit that is no number", "GET", "/models?limit=abc"),
    _ask("list, a limit of none", "GET", "/models?limit=0"),
    _ask("list, a negative limit", "GET", "/models?limit=-1"),
    _ask("list, a negative token", "GET", "/models?next_page_token=-1"),
    _ask("register, no url", "POST", "/models"),
    _ask("register, an unknown file", "POST", "/models?url=nothing.mar"),
    _ask("register, a path", "POST", "/models?url=../other.mar"),
    _ask("register, a file by its address", "POST", "/models?url=file:///nothing.mar"),
    _ask("register", "POST", "/models?url=other.mar&initial_workers=1&synchronous=true"),
    _ask("registered: list", "GET", "/models"),
    _ask("registered: describe", "GET", "/models/other"),
    _predict("predict, registered", ROWS[0], path="other"),
    _ask("register, again", "POST", "/models?url=other.mar&initial_workers=1"),
    _ask("scale, and wait", "PUT", "/models/other?min_worker=1&synchronous=true"),
    _ask("scale", "PUT", "/models/other?min_worker=1"),
    _ask("scale, a version", "PUT", "/models/other/1.0?min_worker=1&synchronous=true"),
    _ask("scale, fewer at most than at least", "PUT", "/models/other?min_worker=2&max_worker=1"),
    _ask("scale, an unknown model", "PUT", "/models/nobody?min_worker=1"),
    _ask("scale, an unknown version", "PUT", "/models/other/9.0?min_worker=1"),
    _ask("scale, a number that is none", "PUT", "/models/other?min_worker=x&synchronous=true"),
    _ask("scale to none", "PUT", "/models/other?min_worker=0&synchronous=true"),
    Question("no worker: ping", "GET", "/ping"),
    _ask("no worker: describe", "GET", "/models/other"),
    _predict("no worker: predictions", ROWS[0], path="other"),
    _ask("unregister", "DELETE", "/models/other"),
    _predict("unregistered: predictions", ROWS[0], path="other"),
    _ask("unregistered: describe", "GET", "/models/other"),
    _ask("unregister, an unknown model", "DELETE", "/models/nobody"),
    _ask("unregister, an unknown version", "DELETE", "/models/m/9.0"),
    _ask("set-default", "PUT", "/models/m/2.0/set-default"),
    _ask("set-default, an unknown version", "PUT", "/models/m/9.0/set-default"),
    _ask("set-default, an unknown model", "PUT", "/models/nobody/1.0/set-default"),
    _ask("unregister, the default of two", "DELETE", "/models/m"),
    _ask("unregister, the default of two by its version", "DELETE", "/models/m/2.0"),
    _ask("unregister, a version", "DELETE", "/models/m/1.0"),
    _ask("a version less: describe", "GET", "/models/m/all"),
    _ask("models by PUT", "PUT", "/models"),
    _ask("models by DELETE", "DELETE", "/models"),
    _ask("a model by POST", "POST", "/models/m"),
    _ask("a model's API description, management", "OPTIONS", "/models/m"),
]
