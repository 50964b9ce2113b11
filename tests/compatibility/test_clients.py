"""Real client libraries, unmodified, each in its own environment: an operation a case.

`conformance/clients.json` holds what became of each, and docs/compatibility.md is made of it: a case that fares
otherwise than it says fails here, be it worse or better. `make compatibility` records anew.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import serving
from tests.compatibility.models import write_models

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "clients-venv" / "bin" / "python"
RECORDED = json.loads((ROOT / "conformance" / "clients.json").read_text(encoding="utf-8"))
CASES = [
    pytest.param(client["module"], operation, id=f"{client['name']}: {operation}")
    for client in RECORDED
    for operation in client["operations"]
]
Runs = Callable[[str], dict[str, Any]]


def run_client(module: str, facts: Path) -> dict[str, Any]:
    """Every case of a client, in one process of its environment."""
    assert PYTHON.is_file(), f"`make .stamps/clients-venv` makes `{PYTHON.parents[1]}`"
    here = Path(__file__).parent / "clients"
    done = subprocess.run(
        [PYTHON, here / "case.py", module, facts],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("clients")
    (folder / "models").mkdir()
    expected = write_models(folder / "models")
    with serving.house() as house, house.serving(folder / "models", "--versions", "all") as server:
        address = f"{server.address[0]}:{server.address[1]}"
        facts = folder / "facts.json"
        facts.write_text(json.dumps({**expected, "url": server.url, "address": address}))
        yield functools.cache(functools.partial(run_client, facts=facts))


@pytest.mark.parametrize(("module", "operation"), CASES)
def test_an_operation_fares_as_recorded(runs: Runs, module: str, operation: str) -> None:
    (client,) = (each for each in RECORDED if each["module"] == module)
    found = runs(module)["found"][operation]
    assert found == "works" or client["operations"][operation] != "works", found
    assert client["operations"][operation] == "works" or found != "works", "`make compatibility`"


@pytest.mark.parametrize("client", RECORDED, ids=lambda client: client["name"])
def test_every_operation_is_recorded(runs: Runs, client: dict[str, Any]) -> None:
    run = runs(client["module"])
    assert list(run["found"]) == list(client["operations"]), "`make compatibility` records anew"
    assert (run["package"], run["version"]) == (client["package"], client["version"])
