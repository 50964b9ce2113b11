"""`dukou doctor`: looks at this installation and says what is well, doubtful or broken, with a remedy.

Offline; nothing is changed. In a project's folder the project file is looked at too. The status is 0
where there is no problem, else 1; a warning is none.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dukou.lifecycle.doctor import Finding

_MARKS = {"ok": "ok", "warning": "warning", "problem": "PROBLEM"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--json", action="store_true", help="as one JSON document")
    parser.add_argument(
        "--full", action="store_true", help="read every byte of the store, not the sizes alone"
    )
    parser.add_argument("--quiet", action="store_true", help="leave out what is well")


def run(arguments: argparse.Namespace) -> int:
    """Prints every finding as it comes, and a last line that counts them."""
    from dukou.lifecycle.doctor import examine

    findings = []
    for finding in examine(every_byte=arguments.full):
        findings.append(finding)
        if not arguments.json and not (arguments.quiet and finding.level == "ok"):
            print(_show(finding), flush=True)
    counts = {level: sum(f.level == level for f in findings) for level in _MARKS}
    if arguments.json:
        document = {"findings": [f._asdict() for f in findings], "counts": counts}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print(_sum_up(counts))
    return 1 if counts["problem"] else 0


def _show(finding: Finding) -> str:
    code = f" [{finding.code}]" if finding.code else ""
    line = f"{_MARKS[finding.level]:<8} {finding.topic:<10} {finding.says}{code}"
    return f"{line}\n{'':<20}→ {finding.remedy}" if finding.remedy else line


def _sum_up(counts: dict[str, int]) -> str:
    said = [f"{count} {level}{'s' if count > 1 else ''}" for level, count in counts.items()][1:]
    shown = [
        text
        for text, count in zip(said, (counts["warning"], counts["problem"]), strict=True)
        if count
    ]
    return ", ".join(shown) if shown else "everything is well"
