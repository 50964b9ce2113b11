"""Facts of a run → one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from dukou.lifecycle import STAGES
from dukou.lifecycle.report import plots
from dukou.lifecycle.report.improvement import draw_improvement
from dukou.lifecycle.report.stream import draw_stream


def write_report(document: Mapping[str, Any], path: Path) -> None:
    """Writes the report of a run record (`run.json`) to `path`.

    Whatever stage the run reached, the report shows what was found until then.
    """
    import jinja2

    template = resources.files("dukou.lifecycle.report") / "template.html"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["bytes"] = _bytes
    facts = {name: stage["facts"] for name, stage in document["stages"].items()}
    # Of the stage that stopped the line, what it had found until then.
    facts |= document.get("noted") or {}
    reached = {name: facts.get(name) for name in STAGES}
    page = environment.from_string(template.read_text(encoding="utf-8")).render(
        run=document, facts=reached, plots={**_draw(facts), "stream": _draw_retraining(document)}
    )
    path.write_text(page, encoding="utf-8")


def _draw(facts: Mapping[str, Any]) -> dict[str, str]:
    drawn: dict[str, str] = {}
    if "data" in facts:
        if facts["data"].get("target"):
            drawn["balance"] = plots.draw_histogram(**facts["data"]["target"])
        else:
            drawn["balance"] = plots.draw_balance(facts["data"]["counts"])
    if facts.get("crossval", {}).get("folds"):
        drawn["folds"] = plots.draw_folds(facts["crossval"]["folds"], facts["crossval"]["metric"])
    if "evaluate" in facts:
        drawn["metrics"] = plots.draw_metrics(facts["evaluate"]["metrics"])
        if facts["evaluate"]["confusion"]:
            drawn["confusion"] = plots.draw_confusion(
                facts["evaluate"]["labels"], facts["evaluate"]["confusion"]
            )
        if facts["evaluate"].get("answers"):
            drawn["answers"] = plots.draw_answers(facts["evaluate"]["answers"])
        if facts["evaluate"].get("calibration"):
            drawn["calibration"] = plots.draw_calibration(facts["evaluate"]["calibration"]["bins"])
    if "improve" in facts and facts["improve"].get("scaling"):
        drawn["improvement"] = draw_improvement(
            facts["evaluate"]["calibration"], facts["improve"]["evaluation"]["calibration"]
        )
    if "optimize" in facts:
        drawn["variants"] = plots.draw_variants(
            facts["optimize"]["candidates"], facts["optimize"]["chosen"]
        )
    return drawn


def _draw_retraining(run: Mapping[str, Any]) -> str:
    stream = (run.get("retraining") or {}).get("stream")
    return draw_stream(stream, run["retraining"].get("metric", "accuracy")) if stream else ""


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.2f} GiB"
