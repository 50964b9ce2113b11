"""What `[deploy]` says is what `dukou serve PROJECT` does, and what it does not do yet it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.registry_house import move_alias, publish
from tests.serving import House, wait_until

from dukou.lifecycle.deployment import put_deployment
from dukou.lifecycle.project import FILE_NAME, Project, load_project
from dukou.registry.registry import Registry
from dukou.serve.local_api import LocalApi


def make_project(folder: Path, deploy: str, *, model: str = "chain") -> Project:
    folder.mkdir(exist_ok=True)
    (folder / "rows.csv").write_text("a,b\n1,2\n")
    (folder / FILE_NAME).write_text(
        f'version = 1\n[model]\nname = "{model}"\n[data]\npath = "rows.csv"\ntarget = "b"\n'
        f'[train]\ncommand = "true"\n[deploy]\n{deploy}'
    )
    return load_project(folder)


def deploy(house: House, project: Project) -> None:
    with Registry.open(house.home) as registry:
        put_deployment(registry, project)


def test_a_projects_settings_are_served_and_followed(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=1)
    move_alias(house, 1)
    folder = tmp_path / "a project"
    deploy(
        house,
        make_project(
            folder,
            'profile = "edge"\nreplicas = 2\ninstances = 1\nthreads = 2\nbatch_rows = 8\n'
            'queue = 5\ndeadline = "250ms"\nmemory = "1g"\n',
        ),
    )
    with house.serving(folder) as server:
        api = LocalApi(Path(server.facts["socket"]))

        def served() -> tuple[int, ...]:
            table = api.table()
            assert table is not None
            (model,) = table["models"]
            backend, limits = model["versions"][0]["backend"], model["limits"]
            return (
                backend["instances"],
                backend["threads"],
                model["batching"]["max_rows"],
                limits["queue"],
                limits["deadline_ms"],
            )

        assert served() == (1, 2, 8, 5, 250)
        assert server.ask("chain")[0] == 200
        wait_until(lambda: bool(server.status()["unplaced"]), "the profile that is not carried out")
        shown = house.dukou("status").stdout
        assert "of the 1g allowed" in shown
        assert "[deploy.elsewhere]" in shown
        deploy(house, make_project(folder, 'queue = 6\nmemory = "1m"\n'))
        wait_until(lambda: served()[3:] == (6, 30_000), "the new limits")
        wait_until(lambda: server.status()["unplaced"] == [], "nothing unplaced")
        assert "MORE THAN the 1m allowed" in house.dukou("status").stdout
        status, stderr = server.end()
    assert status == 0
    assert stderr.count("[deploy.elsewhere]") == 1
    assert '`profile = "edge"`, `replicas = 2`' in stderr
    assert "`dukou edge build chain` carries that out" in stderr


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("not = [toml", 2, "project.invalid"),
        ('[data]\npath = "x"\n', 2, "project.invalid"),
        ('[model]\nname = "a/b"\n', 2, "config.invalid"),
        ('[model]\nname = "nobody"\n', 3, "registry.unknown-model"),
    ],
)
def test_a_folder_that_is_no_served_project(
    house: House, tmp_path: Path, text: str, status: int, code: str
) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    done = house.dukou("serve", tmp_path, "--port", "0", "--json")
    assert done.returncode == status, done.stderr
    assert json.loads(done.stdout)["code"] == code
