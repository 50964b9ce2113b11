"""Makes the generated files anew: the page of error codes and the schema of the serving table.

`python scripts/generate.py` writes them; the tests call `pages()` and compare.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

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
    return {
        ROOT / "docs" / "errors.md": _errors(),
        ROOT / "spec" / "serving-table.schema.json": _schema(),
    }


def _errors() -> str:
    spec = tomllib.loads((ROOT / "spec" / "errors.toml").read_text(encoding="utf-8"))
    lines = [
        "# Error codes",
        "",
        "Every error that dukou reports has one of these codes. Made from `spec/errors.toml`.",
    ]
    for family, meaning in _FAMILIES.items():
        lines += ["", f"## {family}: {meaning}", ""]
        lines += ["| code | status | means | what to do |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{e['code']}` | {e.get('status', '')} | {e['summary']} | {e['remedy']} |"
            for e in spec["error"]
            if e["family"] == family
        ]
    return "\n".join(lines) + "\n"


def _schema() -> str:
    from dukou.deploy.table import ServingTable

    return json.dumps(ServingTable.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
