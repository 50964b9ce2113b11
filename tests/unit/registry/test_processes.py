"""Real processes that write at once: one wins, the others wait or get a conflict; all is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from dukou.registry.registry import Registry

PRELUDE = """
import json, os, signal, sys
from pathlib import Path
from dukou.base.errors import StateError
from dukou.registry.registry import ANYTHING, Registry
home, me = Path(sys.argv[1]), int(sys.argv[2])
"""


def run_at_once(body: str, home: Path, count: int) -> list[tuple[int, list[object]]]:
    """Runs `body` in `count` processes that are let go together; their status and their lines."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + body, str(home), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=50)[0] for process in processes]
    return [
        (process.returncode, [json.loads(line) for line in output.splitlines()])
        for process, output in zip(processes, outputs, strict=True)
    ]


def test_opening_for_the_first_time_at_once(tmp_path: Path) -> None:
    done = run_at_once(
        """
sys.stdin.readline()
with Registry.open(home) as registry:
    print(registry.register_version("digits", f"sha256:{me:064x}"))
""",
        tmp_path,
        4,
    )
    assert [status for status, _ in done] == [0, 0, 0, 0]
    assert sorted(lines[0] for _, lines in done) == [1, 2, 3, 4]
    with Registry.open(tmp_path) as registry:
        assert registry.verify_audit() == 4


def test_one_wins_the_others_get_a_conflict(tmp_path: Path) -> None:
    with Registry.open(tmp_path) as registry:
        for number in range(4):
            registry.register_version("digits", f"sha256:{number:064x}")
    done = run_at_once(
        """
registry = Registry.open(home)
sys.stdin.readline()
won = 0
for turn in range(30):
    before = turn
    while True:
        current = registry.deployment("shared")
        if (current.revision if current else 0) >= turn:
            break
    try:
        registry.put_deployment("shared", {"turn": turn, "by": me}, expected=turn)
        won += 1
    except StateError as error:
        assert error.code == "registry.conflict", error
registry.close()
print(won)
""",
        tmp_path,
        3,
    )
    assert [status for status, _ in done] == [0, 0, 0]
    assert sum(lines[0] for _, lines in done) == 30, "each revision was won by exactly one"
    with Registry.open(tmp_path) as registry:
        current = registry.deployment("shared")
        assert current is not None
        assert current.revision == 30
        assert registry.verify_audit() == 34
        events = registry.audit_events(after=4)
        for event, revision in zip(events, range(1, 31), strict=True):
            stored = registry.deployment("shared", revision)
            assert stored is not None
            assert event.details["document"] == stored.document


def test_writers_of_different_things_wait_for_each_other(tmp_path: Path) -> None:
    Registry.open(tmp_path).close()
    done = run_at_once(
        """
registry = Registry.open(home)
sys.stdin.readline()
for number in range(25):
    registry.register_version(f"model-{me}", f"sha256:{number:064x}")
registry.close()
""",
        tmp_path,
        3,
    )
    assert [status for status, _ in done] == [0, 0, 0]
    with Registry.open(tmp_path) as registry:
        assert [m.versions for m in registry.models()] == [25, 25, 25]
        assert registry.verify_audit() == 75


def test_a_change_that_is_killed_before_its_event_is_not_there(tmp_path: Path) -> None:
    with Registry.open(tmp_path) as registry:
        registry.register_version("digits", "sha256:" + "0" * 64)
    done = run_at_once(
        """
import dukou.registry.registry as module
def append_event(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
module.append_event = append_event
Registry.open(home).register_version("digits", "sha256:" + "1" * 64)
""",
        tmp_path,
        1,
    )
    assert done[0][0] == -9
    with Registry.open(tmp_path) as registry:
        assert len(registry.versions("digits")) == 1
        assert registry.verify_audit() == 1
        assert registry.register_version("digits", "sha256:" + "1" * 64) == 2
