"""No copyleft in the wheel, nor in what installing it brings along."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = set(tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))["licenses"]["allow"])
# Not in the lock, so not everywhere; read where they are, with what they need.
ELSEWHERE = {"torch", "onnxruntime-ep-openvino"}  # BSD-3-Clause, MIT
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|General Public|EUPL|SSPL)", flags=re.IGNORECASE)


def _holds(expression: str) -> bool:
    """Whether an SPDX expression can be met with what is allowed: any side of OR, all of AND."""
    expression = expression.replace("/", " OR ").replace("(", "").replace(")", "")
    return all(
        any(choice.strip() in ALLOWED for choice in part.split(" OR "))
        for part in expression.split(" AND ")
    )


def test_every_crate_of_the_engine_is_allowed() -> None:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    packages = {p["id"]: p for p in document["packages"]}
    nodes = {n["id"]: n for n in document["resolve"]["nodes"]}
    roots = [i for i, p in packages.items() if p["name"] in ("dukou-engine", "dukou-load")]
    seen: set[str] = set()
    while roots:
        node = nodes[roots.pop()]
        if node["id"] in seen:
            continue
        seen.add(node["id"])
        roots += [d["pkg"] for d in node["deps"] if any(k["kind"] != "dev" for k in d["dep_kinds"])]
    assert len(seen) > 20
    refused = {
        packages[i]["name"]: packages[i]["license"]
        for i in seen
        if not _holds(packages[i]["license"] or "none")
    }
    assert not refused


def _words(distribution: metadata.Distribution) -> str:
    fields: Any = distribution.metadata
    classifiers = [c for c in fields.get_all("Classifier", []) if c.startswith("License")]
    license_text = (fields.get("License") or "").splitlines()[:1]
    said = [fields.get("License-Expression") or "", *license_text, *classifiers]
    if not any(said):
        # Metadata without a word: the licence itself is in the wheel, and begins with its name.
        texts = [f for f in distribution.files or () if re.match(r"LICEN[CS]E", f.name)]
        said = [" ".join(text.read_text().split()[:12]) for text in texts]
    return " | ".join(said)


def test_no_python_requirement_is_copyleft() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    pending = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    seen: dict[str, str] = {}
    while pending:
        requirement = Requirement(pending.pop())
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in ELSEWHERE and importlib.util.find_spec(name.replace("-", "_")) is None:
            continue
        if name not in seen:
            distribution = metadata.distribution(name)
            seen[name] = _words(distribution)
            pending += distribution.requires or []
    assert {"numpy", "sqlalchemy", "onnx"} <= set(seen)
    assert all(seen.values())
    assert {n: words for n, words in seen.items() if COPYLEFT.search(words)} == {}
