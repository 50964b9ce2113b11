"""How much one replica asks for, and where each number comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.base.errors import InputError
from dukou.deploy.document import Deployment
from dukou.deploy.standalone import Contents, ServedModel
from dukou.lifecycle.sizing import _cpu_for, size_replica
from dukou.package.store import Store


def contents(tmp_path: Path, *documents: dict[str, object], models: int = 1) -> Contents:
    """What deployments of these documents serve."""
    deployments = tuple(Deployment.model_validate(document) for document in documents)
    served = tuple(ServedModel("m", str(n), "sha256:0", 1, True) for n in range(models))
    return Contents("m", {}, served, "", deployments, Store(tmp_path))


def document(**said: object) -> dict[str, object]:
    """A deployment of `m`."""
    run = {"instances": said.pop("instances", None), "threads": said.pop("threads", 1)}
    return {"name": "m", "models": [{"name": "m", "run": run}], **said}


def test_what_is_said_counts_before_what_is_kept(tmp_path: Path) -> None:
    kept = contents(tmp_path, document(instances=3, threads=2, memory_bytes=300 << 20))
    size = size_replica("m", kept, home=tmp_path, replicas=2)
    assert (size.cpu.value, size.memory.value) == (6, 300 << 20)
    assert "`instances`" in size.cpu.origin and "`memory_bytes`" in size.memory.origin
    size = size_replica("m", kept, home=tmp_path, replicas=2, cpu=0.25, memory_bytes=1 << 30)
    assert (size.cpu.value, size.memory.value) == (0.25, 1 << 30)
    assert "--cpu" in size.cpu.origin and "--memory" in size.memory.origin


def test_deployments_together_take_the_sum_of_their_memory(tmp_path: Path) -> None:
    both = contents(
        tmp_path,
        document(instances=1, memory_bytes=100),
        document(instances=4, memory_bytes=200),
    )
    size = size_replica("m", both, home=tmp_path, replicas=1)
    assert (size.cpu.value, size.memory.value) == (4, 300)


def test_several_versions_are_not_measured(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        size_replica("m", contents(tmp_path, models=2), home=tmp_path, replicas=1)
    assert "--cpu 1 --memory 512m" in refused.value.hint


def test_a_rate_becomes_processors() -> None:
    # 1,000 a second at 1 ms each keep one processor busy: two replicas at 70 %.
    found = _cpu_for(1000.0, 1000.0, 2)
    assert found.value == pytest.approx(1 / 2 / 0.7)
    assert "1000 requests a second at 1000 us each" in found.origin
    assert _cpu_for(10.0, 1.0, 2).value == 0.05
    assert _cpu_for(50.0, None, 2).value == 0.5
    with pytest.raises(InputError) as refused:
        _cpu_for(1000.0, 10_000_000.0, 2)
    assert "ask for more replicas" in refused.value.hint
