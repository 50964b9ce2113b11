"""The project's `[deploy]` becomes its part of the deployment, and nothing but its part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dukou.base.documents import parse_document
from dukou.base.errors import InputError
from dukou.deploy.document import Deployment
from dukou.lifecycle.deployment import put_deployment
from dukou.lifecycle.project import FILE_NAME, Project, load_project
from dukou.registry.registry import Registry

SAID = """\
profile = "container"
replicas = 2
instances = 3
threads = 2
batch_rows = 16
queue = 40
deadline = "1.5s"
memory = "96m"
"""


def make_project(folder: Path, deploy: str) -> Project:
    (folder / "rows.csv").write_text("a,b\n1,2\n")
    (folder / FILE_NAME).write_text(
        'version = 1\n[model]\nname = "m"\n[data]\npath = "rows.csv"\ntarget = "b"\n'
        f'[train]\ncommand = "true"\n[deploy]\n{deploy}'
    )
    return load_project(folder)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(tmp_path / "home") as found:
        yield found


def kept(registry: Registry) -> Deployment:
    entry = registry.deployment("m")
    assert entry is not None
    return parse_document(Deployment, entry.document, code="deploy.invalid")


def test_all_of_it_arrives(tmp_path: Path, registry: Registry) -> None:
    put_deployment(registry, make_project(tmp_path, SAID))
    found = kept(registry)
    assert (found.profile, found.replicas, found.memory_bytes) == ("container", 2, 96 << 20)
    (model,) = found.models
    assert (model.run.instances, model.run.threads) == (3, 2)
    assert model.batching.max_rows == 16
    assert (model.limits.queue, model.limits.deadline_ms) == (40, 1500)


def test_a_line_that_is_gone_is_gone_and_the_words_of_others_stay(
    tmp_path: Path, registry: Registry
) -> None:
    put_deployment(registry, make_project(tmp_path, SAID))
    entry = registry.deployment("m")
    assert entry is not None
    document = dict(entry.document)
    document["models"][0]["limits"]["concurrency"] = 7
    registry.put_deployment("m", document, expected=entry.revision)
    put_deployment(registry, make_project(tmp_path, "queue = 9\n"))
    found = kept(registry)
    assert (found.profile, found.replicas, found.memory_bytes) == ("centralized", 1, None)
    (model,) = found.models
    assert model.run.instances is None
    assert (model.limits.queue, model.limits.concurrency) == (9, 7)
    assert model.limits.deadline_ms == 30_000


def test_nothing_said_leaves_nothing_behind(tmp_path: Path, registry: Registry) -> None:
    put_deployment(registry, make_project(tmp_path, 'profile = "centralized"\nreplicas = 1\n'))
    assert registry.deployment("m") is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('profile = "cloud"', "`deploy.profile` is"),
        ("replicas = 0", "`deploy.replicas` is"),
        ("instances = 1000", "`deploy.instances` is"),
        ("threads = 0", "`deploy.threads` is"),
        ("batch_rows = 0", "`deploy.batch_rows` is"),
        ("queue = 0", "`deploy.queue` is"),
        ('deadline = "soon"', "must be a duration"),
        ('memory = "much"', "must be a size of memory"),
        ('profil = "edge"', "`deploy.profil` is not a key"),
    ],
)
def test_what_it_may_not_say(tmp_path: Path, said: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        make_project(tmp_path, said + "\n")
    assert refused.value.code == "project.invalid"
    assert words in refused.value.message
