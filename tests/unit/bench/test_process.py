"""What /proc says of a server and of what it started."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.process import ServerProcess, cpu_seconds, peak_rss_mb, private_mb, rss_mb, tree_of
from bench.workplace import Unavailable

# Says when it has done its work, then waits to be ended.
_BUSY = """
import subprocess, sys, time
burn = "import time\\nwhile time.process_time() < 0.3: pass\\n"
subprocess.run([sys.executable, "-c", burn])
child = subprocess.Popen([sys.executable, "-c", burn + "print('child done', flush=True)\\ninput()"],
                         stdin=subprocess.PIPE)
print("started", child.pid, flush=True)
child.wait()
"""


def test_cpu_counts_children_that_live_and_that_have_ended(tmp_path: Path) -> None:
    with ServerProcess([sys.executable, "-c", _BUSY], tmp_path / "log") as server:
        child = int(server.wait_line(r"started (\d+)"))
        server.wait_line(r"(child done)")
        assert tree_of(server.pid) == [server.pid, child]
        # 0.3 s each of one that was waited for and one that lives, by clock ticks.
        assert cpu_seconds(server.pid) >= 0.56
        assert peak_rss_mb(server.pid) >= rss_mb(server.pid) > private_mb(server.pid) > 0
    # Ended with it. Nobody may be there to bury it, but the dead hold no memory.
    while rss_mb(child) > 0:
        time.sleep(0.001)


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    program = "import sys; sys.exit('no such model')"
    with (
        ServerProcess([sys.executable, "-c", program], tmp_path / "log") as server,
        pytest.raises(Unavailable, match=r"ended with status 1: no such model"),
    ):
        server.wait_line("listening on (.*)")


def test_a_program_that_is_missing_is_unavailable(tmp_path: Path) -> None:
    with (
        pytest.raises(Unavailable, match="cannot be run"),
        ServerProcess(["/does/not/exist"], tmp_path / "log"),
    ):
        pass


def test_a_process_that_is_gone_costs_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert cpu_seconds(ended.pid) == 0
    assert peak_rss_mb(ended.pid) == 0
