"""A team's base file: a project that `extends` it may add and tighten, and never loosen.

The base is a project file like any other, whole or in part. What the project says stands, but for what
is a demand: there the stricter one is asked for, and a weaker one is refused with both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dukou.base.documents import load_toml
from dukou.base.durations import parse_duration
from dukou.base.errors import InputError

KEY = "extends"
_LONGEST_CHAIN = 8
# Tags, the loosest first. Two ways to generalize cannot be compared: only the same one is as strict.
_STRICTER = ("keep", "detect", "generalize", "hash", "mask", "drop")
_GENERALIZE = 2


def load_extended(path: Path) -> dict[str, Any]:
    """The project file with all that its base files demand.

    Raises:
        InputError: `project.not-found` for a base that is not there, `project.invalid` for one that
            leads back to itself, `project.loosens`.
    """
    return _load(path, ())


def _load(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    own = load_toml(path, code="project.invalid")
    said = own.pop(KEY, None)
    if said is None:
        return own
    if not isinstance(said, str) or not said:
        raise InputError("project.invalid", f"`{path}`: `{KEY}` must be a path in quotes")
    base = (path.parent / said).resolve()
    chain = (*before, path.resolve())
    if base in chain or len(chain) > _LONGEST_CHAIN:
        names = " → ".join(f"`{p.name}`" for p in (*chain, base))
        raise InputError("project.invalid", f"`{path}`: `{KEY}` leads back to itself: {names}")
    if not base.is_file():
        raise InputError(
            "project.not-found",
            f"`{path}`: `{KEY}` names `{said}`, and `{base}` is not there",
            hint="the path is relative to the file that says it",
        )
    return _merge(_load(base, chain), own, f"`{path}`", f"`{base}`")


def _merge(
    base: Mapping[str, Any], own: Mapping[str, Any], project: str, team: str, above: str = ""
) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        place = f"{above}{key}"
        demanded = merged.get(key)
        if key in merged and place in _DEMANDS:
            problem = _problem(place, demanded, value)
            if problem:
                raise InputError("project.loosens", f"{project}: `{place}` {problem}, in {team}")
            merged[key] = _JOINED.get(place, _own)(demanded, value)
        elif isinstance(value, dict) and isinstance(demanded, dict):
            merged[key] = _merge(demanded, value, project, team, f"{place}.")
        else:
            merged[key] = value
    return merged


def _problem(place: str, demanded: Any, value: Any) -> str:
    """What is weaker than it may be; empty where nothing is."""
    try:
        return _DEMANDS[place](demanded, value)
    except InputError as error:
        return f"is {value!r}, and cannot be read: {error.message}"
    except (TypeError, ValueError, AttributeError, KeyError):
        # Not left to the parser: it takes `"1"` for 1, and what is not compared could be anything.
        return f"is {value!r}, and cannot be compared with the demanded {demanded!r}"


# Comparisons are written so that what is no number fails them.


def _at_least(demanded: Any, value: Any) -> str:
    return "" if value >= demanded else f"is {value}, at least {demanded} is demanded"


def _at_most(demanded: Any, value: Any) -> str:
    return "" if value <= demanded else f"is {value}, at most {demanded} is demanded"


def _no_more_disagreement(demanded: Any, value: Any) -> str:
    if value == "none" and demanded != "none":
        return f"is `none`, at most {demanded} is demanded"
    return "" if demanded == "none" else _at_most(demanded, value)


def _no_longer(demanded: str, value: str) -> str:
    longest, own = (parse_duration(text, key="the interval") for text in (demanded, value))
    return f"is `{value}`, `{demanded}` or sooner is demanded" if own > longest else ""


def _the_same(demanded: Any, value: Any) -> str:
    if type(value) is type(demanded) and value == demanded:
        return ""
    return f"is {value!r}, {demanded!r} is demanded"


def _same_strategy(demanded: str, value: str) -> str:
    if demanded == "canary" and value != "canary":
        return f"is `{value}`, `canary` is demanded"
    return ""


def _every_step(demanded: list[float], value: list[float]) -> str:
    left_out = [step for step in demanded if step not in value]
    return f"leaves out {left_out[0]:g} %, which is demanded" if left_out else ""


def _as_careful_at_the_end(demanded: str, value: str) -> str:
    careful = ("promote", "hold", "rollback")
    if careful.index(value) < careful.index(demanded):
        return f"is `{value}`, `{demanded}` is demanded"
    return ""


def _not_on(demanded: bool, value: bool) -> str:
    return "is true, false is demanded" if value and not demanded else ""


def _not_off(demanded: bool, value: bool) -> str:
    return "is false, true is demanded" if demanded and not value else ""


def _as_strict(demanded: Mapping[str, str], value: Mapping[str, str]) -> str:
    for name, tag in value.items():
        # What the base says of every field holds for one that it does not name.
        wanted = demanded.get(name, demanded.get("*"))
        if wanted is None or tag == wanted:
            continue
        kinds = [_STRICTER.index(text.partition(":")[0]) for text in (wanted, tag)]
        if kinds[1] < kinds[0] or kinds == [_GENERALIZE, _GENERALIZE]:
            return f"tags `{name}` as `{tag}`, `{wanted}` or stricter is demanded"
    return ""


def _inside(demanded: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    for column, (low, high) in value.items():
        if column not in demanded:
            continue
        least, most = demanded[column]
        if not (low >= least and high <= most):
            return f"lets `{column}` go from {low} to {high}, {least} to {most} is demanded"
    return ""


def _nothing(_demanded: Any, _value: Any) -> str:
    return ""


def _gates_hold(demanded: list[str], value: list[str]) -> str:
    from dukou.evaluate.gates import parse_gate

    for text in value:
        gate = parse_gate(text)
        for other in map(parse_gate, demanded):
            same = (gate.metric, gate.bound, gate.label, gate.crossval) == (
                other.metric,
                other.bound,
                other.label,
                other.crossval,
            )
            if not same or gate.relation[0] != other.relation[0]:
                continue
            weaker = (
                gate.limit < other.limit if gate.relation[0] == ">" else gate.limit > other.limit
            )
            if weaker:
                return f"has `{gate.text}`, `{other.text}` is demanded"
    return ""


def _own(_demanded: Any, value: Any) -> Any:
    return value


def _all_gates(demanded: list[str], value: list[str]) -> list[str]:
    return list(dict.fromkeys([*demanded, *value]))


def _all_ranges(demanded: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    return {**demanded, **value}


def _all_columns(demanded: list[str], value: list[str]) -> list[str]:
    return list(dict.fromkeys([*demanded, *value]))


# key → what of it is weaker than the base demands.
_DEMANDS: dict[str, Callable[[Any, Any], str]] = {
    "data.test_fraction": _at_least,
    # Another cut, or another judge, may find the same model better.
    "data.seed": _the_same,
    "data.held_out": _the_same,
    "data.drop": _nothing,
    "data.min_rows": _at_least,
    "data.max_missing": _at_most,
    "data.max_duplicates": _at_most,
    "data.ranges": _inside,
    "evaluate.cross_validation": _at_least,
    "evaluate.bootstrap": _at_least,
    "evaluate.seed": _the_same,
    "evaluate.gates": _gates_hold,
    "improve.accuracy_budget": _at_most,
    "improve.alpha": _at_most,
    "improve.seed": _the_same,
    "optimize.accuracy_budget": _at_most,
    "package.encrypt": _not_off,
    "deploy.strategy": _same_strategy,
    "deploy.canary.steps": _every_step,
    "deploy.canary.min_seconds": _at_least,
    "deploy.canary.min_requests": _at_least,
    "deploy.canary.error_ratio": _at_most,
    "deploy.canary.error_slack": _at_most,
    "deploy.canary.slow_ratio": _at_most,
    "deploy.canary.slow_slack": _at_most,
    "deploy.canary.slo_ms": _at_most,
    "deploy.canary.max_disagreement": _no_more_disagreement,
    "deploy.canary.shadow_share": _at_least,
    # The chance of a needless rollback: with less of it harm is proven later.
    "deploy.canary.alpha": _at_least,
    "deploy.canary.on_deadline": _as_careful_at_the_end,
    "monitor.capture": _not_on,
    "privacy.fields": _as_strict,
    "privacy.capture_untagged": _not_on,
    "monitor.drift": _not_off,
    "monitor.keep": _no_longer,
    **{
        f"maintain.{name}": _no_longer
        for name in (
            "retrain",
            "backup",
            "backup_drill",
            "rotate_keys",
            "retention",
            "audit_dependencies",
        )
    },
}
# What both say together; where nothing stands here, the project's word stands.
_JOINED: dict[str, Callable[[Any, Any], Any]] = {
    "evaluate.gates": _all_gates,
    "data.ranges": _all_ranges,
    "privacy.fields": _all_ranges,
    "data.drop": _all_columns,
}
