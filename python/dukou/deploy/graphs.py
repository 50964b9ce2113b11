"""What must hold of a graph before anything is known of its models: names, references, no circles.

Pure, over plain values as a table holds them; the deployment document and the table are held to it
alike, and the engine checks the same. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The name by which nodes refer to what the graph is given.
INPUT = "input"
_MOST_NODES = 256
_MILLION = 1_000_000
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")

Problem = tuple[str, str]


def problem_with_graph(graph: Mapping[str, Any]) -> Problem | None:
    """The first field of a graph that is wrong, and what is wrong with it.

    Args:
        graph: `{nodes, outputs}`.
    """
    nodes: list[Mapping[str, Any]] = list(graph["nodes"])
    if not 1 <= len(nodes) <= _MOST_NODES:
        return "nodes", f"has {len(nodes)} entries, must have 1 to {_MOST_NODES}"
    names: set[str] = set()
    for index, node in enumerate(nodes):
        name = node["name"]
        if name == INPUT or not _NODE.match(name):
            return (
                f"nodes[{index}].name",
                f"`{name}` is no node's name: letters, digits, `_` and `-`, and not `{INPUT}`",
            )
        if name in names:
            return f"nodes[{index}].name", f"`{name}` is there twice"
        names.add(name)
    for index, node in enumerate(nodes):
        found = _problem_with_node(f"nodes[{index}]", node, names)
        if found is not None:
            return found
    found = _problem_with_outputs(graph["outputs"], names)
    if found is not None:
        return found
    circle = _circle({node["name"]: _waits_for(node) for node in nodes})
    return None if circle is None else ("nodes", f"{circle} wait for each other")


def problem_among_models(
    graphs: Iterable[tuple[str, str, Mapping[str, Any]]],
    served: Mapping[str, Iterable[str]],
) -> Problem | None:
    """The first node that asks a model which is not served, or graphs that use each other.

    Args:
        graphs: (model, place of the graph, graph).
        served: model → its versions and aliases.
    """
    edges: dict[str, list[str]] = {}
    for model, place, graph in graphs:
        for index, node in enumerate(graph["nodes"]):
            for asked in models_of(node):
                if asked not in served:
                    known = ", ".join(f"`{name}`" for name in sorted(served))
                    return (
                        f"{place}.nodes[{index}]",
                        f"node `{node['name']}` asks model `{asked}`, and this table serves {known}",
                    )
                edges.setdefault(model, []).append(asked)
            version = node.get("version")
            if version is not None and version not in served[node["model"]]:
                return (
                    f"{place}.nodes[{index}].version",
                    f"`{version}` is no version and no alias of `{node['model']}`",
                )
    circle = _circle(edges)
    return None if circle is None else ("models", f"the graphs {circle} use each other")


def models_of(node: Mapping[str, Any]) -> list[str]:
    """The models that may answer in a node."""
    if "switch" in node:
        otherwise = node["otherwise"]
        return [*node["cases"].values(), *([] if otherwise is None else [otherwise])]
    return [] if "ensemble" in node else [node["model"]]


def _problem_with_node(path: str, node: Mapping[str, Any], names: set[str]) -> Problem | None:
    if "ensemble" in node:
        return _problem_with_ensemble(path, node, names)
    if "switch" in node:
        found = _problem_with_reference(f"{path}.switch", node["switch"], names)
        if found is not None:
            return found
        if not node["cases"]:
            return f"{path}.cases", "is empty, must have at least one entry"
    return _problem_with_wiring(f"{path}.inputs", node["inputs"], names)


def _problem_with_ensemble(path: str, node: Mapping[str, Any], names: set[str]) -> Problem | None:
    members: Sequence[str] = node["ensemble"]
    if len(members) < 2:
        return f"{path}.ensemble", f"names {len(members)} outputs, must name two or more"
    for index, reference in enumerate(members):
        field = f"{path}.ensemble[{index}]"
        found = _problem_with_reference(field, reference, names)
        if found is not None:
            return found
        if _node_of(reference) == INPUT:
            return field, f"`{reference}` is given to the graph, and made by no node"
    weights = node["weights"]
    if weights is None:
        return None
    if len(weights) != len(members):
        return f"{path}.weights", f"has {len(weights)} numbers for {len(members)} outputs"
    for index, weight in enumerate(weights):
        if not 0 <= weight <= _MILLION:
            return f"{path}.weights[{index}]", f"is {weight}, must be 0 to {_MILLION}"
    if not any(weights):
        return f"{path}.weights", "all weights are 0, so that nothing would count"
    return None


def _problem_with_outputs(outputs: str | Mapping[str, str], names: set[str]) -> Problem | None:
    found = _problem_with_wiring("outputs", outputs, names)
    if found is not None or isinstance(outputs, str):
        return found
    if not outputs:
        return "outputs", "is empty, must have at least one entry"
    for name, reference in outputs.items():
        if _node_of(reference) == INPUT:
            return (
                f"outputs.{name}",
                f"`{reference}` is given to the graph, and made by none of its nodes",
            )
    return None


def _problem_with_wiring(
    path: str, wiring: str | Mapping[str, str] | None, names: set[str]
) -> Problem | None:
    if wiring is None:
        return None
    if isinstance(wiring, str):
        return None if wiring in names else (path, _unknown(wiring, names))
    for name, reference in wiring.items():
        found = _problem_with_reference(f"{path}.{name}", reference, names)
        if found is not None:
            return found
    return None


def _problem_with_reference(path: str, reference: str, names: set[str]) -> Problem | None:
    node = _node_of(reference)
    if node in names or (node == INPUT and len(reference) > len(INPUT) + 1):
        return None
    return path, _unknown(reference, names)


def _unknown(reference: str, names: set[str]) -> str:
    known = ", ".join(f"`{name}`" for name in sorted(names))
    return f"`{reference}` is neither `{INPUT}.NAME` nor an output of a node; the nodes are {known}"


def _node_of(reference: str) -> str:
    return reference.partition(".")[0]


def _waits_for(node: Mapping[str, Any]) -> list[str]:
    if "ensemble" in node:
        references = list(node["ensemble"])
    else:
        wiring = node["inputs"]
        references = [wiring] if isinstance(wiring, str) else list((wiring or {}).values())
        if "switch" in node:
            references.append(node["switch"])
    return [name for name in map(_node_of, references) if name != INPUT]


def _circle(edges: Mapping[str, Sequence[str]]) -> str | None:
    """The first circle, in words."""
    done: set[str] = set()
    way: list[str] = []

    def walk(name: str) -> str | None:
        if name in way:
            return " → ".join(f"`{passed}`" for passed in [*way[way.index(name) :], name])
        if name in done:
            return None
        done.add(name)
        way.append(name)
        for following in edges.get(name, ()):
            found = walk(following)
            if found is not None:
                return found
        way.pop()
        return None

    for name in sorted(edges):
        found = walk(name)
        if found is not None:
            return found
    return None
