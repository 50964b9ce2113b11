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
            "project.not-found", f"`{path}`: `{KEY}` names `{said}`, and `{base}` is not there"
        )
    return _merge(_load(base, chain), own, f"`{path}`", f"`{base}`")


def _merge(
    base: Mapping[str, Any], own: Mapping[str, Any], project: str, team: str
) -> dict[str, Any]:
    merged = dict(base)
    for section, values in own.items():
        demanded = merged.get(section)
        if not isinstance(values, dict) or not isinstance(demanded, dict):
            merged[section] = values
            continue
        together = dict(demanded)
        for key, value in values.items():
            place = f"{section}.{key}"
            if key in demanded and place in _DEMANDS:
                problem = _problem(place, demanded[key], value)
                if problem:
                    raise InputError(
                        "project.loosens", f"{project}: `{place}` {problem}, in {team}"
                    )
                together[key] = _JOINED.get(place, _own)(demanded[key], value)
            else:
                together[key] = value
        merged[section] = together
    return merged


def _problem(place: str, demanded: Any, value: Any) -> str:
    """What is weaker than it may be; empty where nothing is. What is of a wrong type is for the parser."""
    try:
        return _DEMANDS[place](demanded, value)
    except (TypeError, ValueError, AttributeError, KeyError):
        return ""


def _at_least(demanded: Any, value: Any) -> str:
    return f"is {value}, at least {demanded} is demanded" if value < demanded else ""


def _at_most(demanded: Any, value: Any) -> str:
    return f"is {value}, at most {demanded} is demanded" if value > demanded else ""


def _no_longer(demanded: str, value: str) -> str:
    longest, own = (parse_duration(text, key="maintain") for text in (demanded, value))
    return f"is `{value}`, `{demanded}` or sooner is demanded" if own > longest else ""


def _same_strategy(demanded: str, value: str) -> str:
    if demanded == "canary" and value != "canary":
        return f"is `{value}`, `canary` is demanded"
    return ""


def _not_on(demanded: bool, value: bool) -> str:
    return "is true, false is demanded" if value and not demanded else ""


def _inside(demanded: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    for column, (low, high) in value.items():
        if column in demanded and (low < demanded[column][0] or high > demanded[column][1]):
            least, most = demanded[column]
            return f"lets `{column}` go from {low} to {high}, {least} to {most} is demanded"
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


# key → what of it is weaker than the base demands.
_DEMANDS: dict[str, Callable[[Any, Any], str]] = {
    "data.min_rows": _at_least,
    "data.max_missing": _at_most,
    "data.max_duplicates": _at_most,
    "data.ranges": _inside,
    "evaluate.cross_validation": _at_least,
    "evaluate.bootstrap": _at_least,
    "evaluate.gates": _gates_hold,
    "optimize.accuracy_budget": _at_most,
    "deploy.strategy": _same_strategy,
    "monitor.capture": _not_on,
    **{
        f"maintain.{name}": _no_longer
        for name in ("retrain", "backup_drill", "rotate_keys", "retention", "audit_dependencies")
    },
}
# What both say together; where nothing stands here, the project's word stands.
_JOINED: dict[str, Callable[[Any, Any], Any]] = {
    "evaluate.gates": _all_gates,
    "data.ranges": _all_ranges,
}
