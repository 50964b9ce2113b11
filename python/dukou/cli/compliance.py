"""`dukou compliance`: evidence for twelve controls, measured on what runs and lies here now.

Each names where ISO/IEC 27001:2022 Annex A, the GDPR, China's PIPL and 等保 2.0 ask for it. The status
is 0 where nothing is missing, else 1. It is evidence for whoever judges, and no certificate.
"""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("control", nargs="?", metavar="CONTROL", help="one alone; all if absent")
    parser.add_argument("--json", action="store_true", help="as one JSON document")
    parser.add_argument("--zh", action="store_true", help="titles in Chinese")


def run(arguments: argparse.Namespace) -> int:
    """Measures, and shows what was found."""
    import difflib
    from datetime import UTC, datetime

    from dukou.base.errors import InputError
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.compliance.controls import CONTROLS, measure
    from dukou.lifecycle.compliance.facts import gather

    chosen = [c for c in CONTROLS if arguments.control in (None, c.id)]
    if not chosen:
        names = [control.id for control in CONTROLS]
        near = difflib.get_close_matches(arguments.control, names, n=1, cutoff=0.4)
        raise InputError(
            "usage.invalid",
            f"`{arguments.control}` is not a control",
            hint=f"did you mean `{near[0]}`?" if near else f"there are {', '.join(names)}",
        )
    facts = gather(dukou_home())
    judged = [(control, measure(facts, control)) for control in chosen]
    missing = sum(found.outcome == "missing" for _, found in judged)
    if arguments.json:
        document = {
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "is": "evidence, not a certificate",
            "controls": [
                {
                    "id": control.id,
                    "title": control.title,
                    "title_zh": control.title_zh,
                    "asked_by": control.asked_by,
                    **found._asdict(),
                }
                for control, found in judged
            ],
        }
        print(json.dumps(document, indent=1, ensure_ascii=False))
        return 1 if missing else 0
    marks = {"holds": "holds", "missing": "MISSING", "does not apply": "n/a"}
    for control, found in judged:
        title = control.title_zh if arguments.zh else control.title
        print(f"{marks[found.outcome]:<8} {control.id:<20} {title}")
        print(f"{'':<8} {'':<20} {found.evidence}")
        if found.remedy:
            print(f"{'':<8} {'':<20} → {found.remedy}")
        places = "; ".join(f"{name} {where}" for name, where in control.asked_by.items())
        print(f"{'':<8} {'':<20} {places}\n")
    holds = sum(found.outcome == "holds" for _, found in judged)
    print(
        f"{holds} hold, {missing} missing, {len(judged) - holds - missing} do not apply here. "
        "Evidence measured now, no certificate."
    )
    return 1 if missing else 0
