"""A child is started again at once, then ever more slowly; a long life forgives."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time

from dukou.serve.keep import Kept, delay_s
from dukou.serve.process import ChildProcess


def _sleeper() -> ChildProcess:
    return ChildProcess.spawn(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        places={},
        lifeline_place=3,
        environment=os.environ,
        log=None,
    )


def test_the_first_restarts_are_at_once_and_the_next_ones_are_bounded() -> None:
    delays = [delay_s(ends) for ends in range(12)]
    assert delays[:4] == [0.0, 0.0, 0.0, 0.1]
    assert all(before <= after for before, after in itertools.pairwise(delays))
    assert delays[-1] == 5.0


def _kill(kept: Kept, now: float) -> str:
    assert kept.child is not None
    os.kill(kept.child.pid, signal.SIGKILL)
    kept.child.wait()
    said = kept.reap(now)
    assert said is not None
    return said


def test_quick_ends_are_waited_for_and_a_long_life_forgives() -> None:
    kept = Kept("engine", _sleeper)
    assert kept.reap(0.0) is None
    for end in range(4):
        kept.start(100.0 + end)
        assert kept.restarts == end
        assert kept.reap(100.0 + end) is None
        assert _kill(kept, 101.0 + end) == "was ended by SIGKILL"
        assert kept.due == 101.0 + end + delay_s(end)
    kept.start(110.0)
    _kill(kept, 200.0)
    assert kept.due == 200.0


def test_a_child_sees_its_lifeline_close() -> None:
    child = ChildProcess.spawn(
        [sys.executable, "-c", 'import os; os.read(5, 1); print(\'{"event": "gone"}\')'],
        places={},
        lifeline_place=5,
        environment=os.environ,
        log=None,
    )
    assert child.poll() is None
    os.close(child._lifeline)
    child._lifeline = -1
    assert child.read_to_end() == {"event": "gone"}
    assert child.wait() == 0
    child.close()


def test_descriptors_come_where_they_should_whatever_they_are_here() -> None:
    """Each of our descriptors stands in the place of another: none may be overwritten on its way."""
    pipes = [os.pipe() for _ in range(3)]
    low = sorted(read for read, _ in pipes)
    places = dict(zip(low, reversed(low), strict=True))
    program = (
        f"import os, json\nprint(json.dumps({{str(n): os.read(n, 1).decode() for n in {low}}}))"
    )
    child = ChildProcess.spawn(
        [sys.executable, "-c", program],
        places=places,
        lifeline_place=max(low) + 1,
        environment=os.environ,
        log=None,
    )
    letters = {}
    for letter, (read, write) in zip("abc", pipes, strict=True):
        os.write(write, letter.encode())
        letters[read] = letter
    assert child.read_to_end() == {str(place): letters[here] for place, here in places.items()}
    assert child.wait() == 0
    child.close()
    for pair in pipes:
        for descriptor in pair:
            os.close(descriptor)


def test_a_number_that_may_be_anothers_by_now_gets_no_signal() -> None:
    child = _sleeper()
    child.signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while child.poll() is None and time.monotonic() < deadline:
        pass
    assert child.returncode == -signal.SIGKILL
    child.signal(signal.SIGTERM)  # would raise ProcessLookupError
    child.close()
