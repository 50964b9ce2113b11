"""Makes the generated files anew: the pages of errors, the schema of the serving table, compatibility, the coverage.

`python scripts/generate.py` writes them; the tests call `pages()` and compare.
"""

from __future__ import annotations

import json
import runpy
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

_FAMILIES = {
    "input": "yours: the request, file or command is wrong (HTTP 400, exit 2)",
    "state": "not now: it would be right at another moment (HTTP 503, exit 3)",
    "trust": "not allowed, or not genuine (HTTP 403, exit 4)",
    "resource": "not enough of something (HTTP 503, exit 5)",
    "remote": "somebody else's program (HTTP 502, exit 6)",
    "bug": "ours (HTTP 500, exit 70)",
}


def pages() -> dict[Path, str]:
    """Path of each generated file → what it must hold."""
    errors = tomllib.loads((ROOT / "spec" / "errors.toml").read_text(encoding="utf-8"))["error"]
    coverage = runpy.run_path(str(ROOT / "scripts" / "coverage.py"))
    return {
        ROOT / "docs" / "errors.md": _errors(errors),
        ROOT / "python" / "dukou" / "base" / "error_pages.json": _error_pages(errors),
        ROOT / "spec" / "serving-table.schema.json": _schema(),
        ROOT / "docs" / "compatibility.md": _compatibility(),
        **coverage["pages"](),
    }


def _errors(errors: list[dict[str, Any]]) -> str:
    lines = [
        "# Error codes",
        "",
        "Every error that dukou reports has one of these codes, the same in every language and locale. "
        "`dukou help CODE` shows its page without a network. Made from `spec/errors.toml`.",
    ]
    for family, meaning in _FAMILIES.items():
        lines += ["", f"## {family}: {meaning}", ""]
        lines += ["| code | status | means | how it happens | what to do |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [
            f"| `{e['code']}` | {e.get('status', '')} | {e['summary']} | {e.get('cause', '')} "
            f"| {_remedy(e)} |"
            for e in errors
            if e["family"] == family
        ]
    return "\n".join(lines) + "\n"


def _remedy(error: dict[str, Any]) -> str:
    example = f" For example: `{error['example']}`" if "example" in error else ""
    return error["remedy"] + example


def _error_pages(errors: list[dict[str, Any]]) -> str:
    """What `dukou help CODE` reads: by code, all but the sides, which are no user's matter."""
    kept = ("family", "status", "summary", "cause", "remedy", "example")
    document = {e["code"]: {key: e[key] for key in kept if key in e} for e in errors}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _schema() -> str:
    from dukou.deploy.table import ServingTable

    return json.dumps(ServingTable.model_json_schema(), indent=1, sort_keys=True) + "\n"


_COMPATIBILITY = """\
# What real clients do with our server

Client libraries as their makers publish them, unmodified, in an environment of their own: an operation a row. Made
from `conformance/clients.json`, which `make compatibility` records; `tests/compatibility/test_clients.py` runs every
operation again and fails where one fares otherwise than this page says, be it worse or better. Numbers are compared
with those that ONNX Runtime gives by itself. What stands in no row was not tried.

**Not compared**: no TensorFlow Serving binary can be had where this is developed. Its clients are tried, their expected
answers are those of its documentation and source; no live one was asked the same, and no claim is made about its speed.
"""


_PEERS = """\
## Asked the same as other servers

The same requests, good and bad, were sent to our server and to others that hold the same weights: status, fields and
numbers are compared; the words of errors (but TorchServe's, which clients look at) and what ours say beside them are
not. Each difference stands here with its reason. Made from `conformance/peers.json`, which `make compare` records;
`tests/compatibility/test_peers.py` asks KServe's server again, and holds ours to the answers of Triton and TorchServe
that are kept in `conformance/answers`. Triton is the server in NVIDIA's wheel with its python backend, on a CPU;
TorchServe has token authorization off and the model API on.
"""


def _compatibility() -> str:
    """What passed, client by client; how answers differ, server by server."""
    text = (ROOT / "conformance" / "clients.json").read_text(encoding="utf-8")
    lines = [_COMPATIBILITY]
    for client in json.loads(text):
        lines += [f"## {client['name']}", ""]
        lines += [f"`{client['package']}` {client['version']}.", ""]
        lines += ["| operation | with our server |", "| --- | --- |"]
        lines += [f"| {name} | {state} |" for name, state in client["operations"].items()]
        lines.append("")
    lines.append(_PEERS)
    text = (ROOT / "conformance" / "peers.json").read_text(encoding="utf-8")
    for peer in json.loads(text):
        lines += [f"### {peer['title']}", "", f"`{peer['name']}` {peer['version']}.", ""]
        for protocol, questions in peer["protocols"].items():
            alike = sum(not differing for differing in questions.values())
            lines += [f"{protocol}: {alike} of {len(questions)} questions are answered alike.", ""]
            lines += ["| difference | why | asked |", "| --- | --- | --- |"]
            rows: dict[tuple[str, str], list[str]] = {}
            for question, differing in questions.items():
                for row in differing.items():
                    rows.setdefault(row, []).append(question)
            lines += [f"| {w} | {r} | {'; '.join(asked)} |" for (w, r), asked in rows.items()]
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
