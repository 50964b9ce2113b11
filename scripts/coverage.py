"""What was asked for and where it stands: prints `docs/coverage.toml`, and makes its two pages.

`make coverage` prints the table with the counts; `scripts/generate.py` calls `pages()`.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "docs" / "coverage.toml"
STATES = {"works": "可用", "thin": "初步可用", "not yet": "尚无"}

_HEAD = {
    "en": """\
# What was asked for, and where it stands

The demands that dukou was built for, one by one: what a user types, the tests that break where it does not hold, and
the state. **works**: it does what the demand says. **thin**: one good method, or in one place; the last column says
what there is and what is missing. **not yet**: nothing that a user could type does it. `make coverage` prints the
table; a test checks that every command and test named here exists. Made from `docs/coverage.toml`;
[in Chinese](coverage.zh-CN.md).
""",
    "zh": """\
# 需求与现状

dukou 为这些需求而建，逐条列出：用户输入的命令、一旦不成立就会失败的测试、目前的状态。
**可用**：做到了需求所说的。**初步可用**：只有一种好方法，或只在一个地方可用，最后一列说明已有什么、还缺什么。
**尚无**：还没有用户可以使用的命令。`make coverage` 打印这张表；有测试检查这里写到的命令和测试都存在。
由 `docs/coverage.toml` 生成；[英文版](coverage.md)。
""",
}
_COLUMNS = {
    "en": ("demand", "command", "tests", "state", "what there is, and what is missing"),
    "zh": ("需求", "命令", "测试", "状态", "已有什么，还缺什么"),
}


def load() -> dict[str, Any]:
    """The document: `chapters` and the list `demand`."""
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


def pages() -> dict[Path, str]:
    """Path of each page → what it must hold."""
    document = load()
    return {
        ROOT / "docs" / "coverage.md": _page(document, "en"),
        ROOT / "docs" / "coverage.zh-CN.md": _page(document, "zh"),
    }


def _page(document: dict[str, Any], language: str) -> str:
    lines = [_HEAD[language]]
    suffix = "_zh" if language == "zh" else ""
    counts = _counts(document["demand"])
    shown = [f"{_state(name, language)} {counts[name]}" for name in STATES]
    total = len(document["demand"])
    separator, end = ("，", "。") if suffix else (", ", ".")
    lines += [
        (f"共 {total} 项：" if suffix else f"{total} demands: ") + separator.join(shown) + end
    ]
    for chapter, titles in document["chapters"].items():
        lines += ["", f"## {chapter} {titles[1 if suffix else 0]}", ""]
        lines += ["| | " + " | ".join(_COLUMNS[language]) + " |"]
        lines += ["| --- " * (len(_COLUMNS[language]) + 1) + "|"]
        lines += [
            "| "
            + " | ".join(
                (
                    demand["id"],
                    demand[f"title{suffix}"],
                    "<br>".join(f"`{command}`" for command in demand["commands"]),
                    "<br>".join(f"[{_short(t)}](../{t})" for t in demand["tests"]),
                    _state(demand["state"], language),
                    demand.get(f"missing{suffix}", ""),
                )
            )
            + " |"
            for demand in document["demand"]
            if demand["id"].partition(".")[0] == chapter
        ]
    return "\n".join(lines) + "\n"


def _short(test: str) -> str:
    return test.removeprefix("tests/").removesuffix(".py")


def _state(name: str, language: str) -> str:
    return STATES[name] if language == "zh" else name


def _counts(demands: list[dict[str, Any]]) -> Counter[str]:
    return Counter(demand["state"] for demand in demands)


def main() -> None:
    """Prints the table and the counts."""
    demands = load()["demand"]
    for demand in demands:
        commands = ", ".join(demand["commands"]) or "-"
        tests = len(demand["tests"])
        title = demand["title"] if len(demand["title"]) <= 62 else demand["title"][:61] + "…"
        print(f"{demand['id']:<4} {demand['state']:<8} {title:<62} {tests:>2} tests  {commands}")
    counts = _counts(demands)
    print()
    print(f"{len(demands)} demands: " + ", ".join(f"{counts[s]} {s}" for s in STATES))


if __name__ == "__main__":
    main()
