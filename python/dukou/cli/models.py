"""`dukou models`: what the registry holds, and of one version its card.

`dukou models NAME` lists the versions of a model; `dukou models NAME:VERSION` or `NAME@ALIAS` shows
what a person should know of one: what it is, how good, and its limitations.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME[:VERSION]",
        help="one model, with its versions; or one version, with its card",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Reads the registry and shows it."""
    from dukou.base.settings import dukou_home
    from dukou.registry.registry import Registry

    with Registry.open(dukou_home()) as registry:
        if arguments.name is None:
            _show_models(registry, as_json=arguments.json)
        elif any(sign in arguments.name for sign in ":@"):
            _show_card(registry, dukou_home(), arguments.name, as_json=arguments.json)
        else:
            _show_versions(registry, arguments.name, as_json=arguments.json)
    return 0


def _show_models(registry: Any, *, as_json: bool) -> None:
    from dukou.cli.show import show_table

    models = registry.models()
    if as_json:
        document = [
            {
                "name": m.name,
                "created": m.created,
                "versions": m.versions,
                "latest": m.latest,
                "aliases": dict(m.aliases),
            }
            for m in models
        ]
        print(json.dumps({"models": document}, indent=1))
    elif not models:
        print("the registry is empty; `dukou ship` in a project fills it")
    else:
        rows = (
            [
                m.name,
                str(m.versions),
                str(m.latest),
                _show_aliases(m.aliases),
                _show_time(m.created),
            ]
            for m in models
        )
        print(show_table(["model", "versions", "latest", "aliases", "since"], rows))


def _show_versions(registry: Any, name: str, *, as_json: bool) -> None:
    from dukou.cli.show import show_table

    versions = registry.versions(name)
    if as_json:
        document = [
            {
                "version": v.number,
                "digest": v.digest,
                "variant": v.variant,
                "status": v.status,
                "aliases": list(v.aliases),
                "metrics": dict(v.metrics),
                "created": v.created,
            }
            for v in versions
        ]
        print(json.dumps({"model": name, "versions": document}, indent=1))
        return
    rows = (
        [
            f"{name}:{v.number}",
            ", ".join(v.aliases) or "-",
            v.variant,
            v.status,
            _show_metrics(v.metrics),
            _show_time(v.created),
            v.digest[:19],
        ]
        for v in reversed(versions)
    )
    header = ["version", "aliases", "variant", "status", "metrics", "created", "digest"]
    print(show_table(header, rows))


def _show_card(registry: Any, home: Path, reference: str, *, as_json: bool) -> None:
    from dukou.cli.show import show_table
    from dukou.package.layout import parse_card, parse_limitations
    from dukou.package.store import Store
    from dukou.package.unpack import read_card

    entry = registry.resolve(reference)
    where = f"card of {reference}"
    document = read_card(Store(home / "store"), entry.digest)
    card, lineage = parse_card(document, where)
    limitations = parse_limitations(document, where)
    if as_json:
        print(json.dumps({"version": entry.number, "digest": entry.digest, **document}, indent=1))
        return
    facts = {
        "title": card.title,
        "task": card.task,
        "description": card.description,
        "license": card.license,
        "classes": ", ".join(card.labels[:20]) + (" …" if len(card.labels) > 20 else ""),
        "from": f"{lineage.source}, {lineage.framework}",
        "variant": entry.variant,
        "aliases": ", ".join(entry.aliases),
        "digest": entry.digest,
    }
    print(f"{entry.model}:{entry.number}\n")
    print("\n".join(f"{key:<12} {value}" for key, value in facts.items() if value))
    metrics = (document.get("evaluation") or {}).get("metrics") or {}
    if metrics:
        rows = [
            [
                metric,
                _show_number(m["value"]),
                f"{_show_number(m['low'])} – {_show_number(m['high'])}",
            ]
            for metric, m in metrics.items()
        ]
        print("\n" + show_table(["metric", "value", "95 % interval"], rows))
    print("\nlimitations")
    if limitations is None:
        print("  none stated: the version was packaged before they were computed")
    for limitation in limitations or ():
        print(f"  - {limitation['sentence']}")


def _show_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _show_aliases(aliases: Mapping[str, int]) -> str:
    return ", ".join(f"{alias}→{number}" for alias, number in sorted(aliases.items())) or "-"


def _show_time(text: str) -> str:
    return text[:16].replace("T", " ")


def _show_metrics(metrics: Mapping[str, Any]) -> str:
    """The numbers among the metrics; what is deeper is in `--json`."""
    shown = []
    for name, value in metrics.items():
        number = value.get("value") if isinstance(value, Mapping) else value
        if isinstance(number, int | float) and not isinstance(number, bool):
            shown.append(f"{name} {number:.4g}")
    return ", ".join(shown[:4]) or "-"
