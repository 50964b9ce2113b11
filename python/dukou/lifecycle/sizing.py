"""How much of a processor and of memory one replica asks for: said, kept in the deployment, or measured.

Each number carries where it comes from, for whoever reads the manifest a year later.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dukou.base.errors import InputError
from dukou.deploy.standalone import Contents

_MIB = 1 << 20
# Room above what was measured: other requests, other batches, a second version while one replaces it.
_ROOM = 1.5
_STEP = 16 * _MIB
# Connections, bodies and batches want room, however small the model.
_LEAST = 128 * _MIB
_MEASURED_S = 1.0
# A request at its rate keeps a processor less than busy: an autoscaler needs something to see.
_BUSY = 0.7
_MOST_CPUS = 256.0


class Sized(NamedTuple):
    """An amount, and where it comes from.

    Attributes:
        value: processors, or bytes.
        origin: in words.
    """

    value: float
    origin: str


class Size(NamedTuple):
    """Of one replica.

    Attributes:
        cpu: processors.
        memory: bytes.
    """

    cpu: Sized
    memory: Sized


def size_replica(
    word: str,
    contents: Contents,
    *,
    home: Path,
    replicas: int,
    cpu: float | None = None,
    memory_bytes: int | None = None,
    rps: float | None = None,
    trust_pickle: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Size:
    """What one replica asks for. What is said counts, then the deployment, then what is measured here.

    Args:
        word: what was named: a version, a project, a file.
        contents: what it turned out to be.
        home: DUKOU_HOME.
        replicas: that share the load.
        cpu: processors, as said.
        memory_bytes: as said.
        rps: requests a second of all callers together.
        trust_pickle: whether pickles may be loaded.
        say: shows a line of progress.

    Raises:
        DukouError: the engine does not start, or refuses the model or its requests.
    """
    said_cpu = None if cpu is None else Sized(cpu, "as `--cpu` says")
    said_memory = None if memory_bytes is None else Sized(memory_bytes, "as `--memory` says")
    kept_cpu, kept_memory = _of_deployment(contents)
    known_cpu = said_cpu or (kept_cpu if rps is None else None)
    known_memory = said_memory or kept_memory
    if known_cpu is not None and known_memory is not None:
        return Size(known_cpu, known_memory)
    cost_us, peak = _measured(word, contents, home, trust_pickle=trust_pickle, say=say)
    if known_cpu is None:
        known_cpu = _cpu_for(cost_us, rps, replicas)
    if known_memory is None:
        # Replaced while it serves, a version is held beside its successor.
        needed = _ROOM * peak
        known_memory = Sized(
            max(_LEAST, math.ceil(needed / _STEP) * _STEP),
            f"measured: the engine held {peak / _MIB:.0f} MiB at the most under load; half as much "
            f"again, and {_LEAST // _MIB} MiB at least",
        )
    return Size(known_cpu, known_memory)


def _of_deployment(contents: Contents) -> tuple[Sized | None, Sized | None]:
    runs = [m.run for d in contents.deployments for m in d.models if m.run.instances is not None]
    cpu = None
    if runs:
        wanted = max((run.instances or 1) * run.threads for run in runs)
        cpu = Sized(wanted, "the deployment's `instances` times its `threads`")
    memories = [d.memory_bytes for d in contents.deployments if d.memory_bytes is not None]
    memory = None
    if memories and len(memories) == len(contents.deployments):
        memory = Sized(sum(memories), "the deployment's `memory_bytes`")
    return cpu, memory


def _cpu_for(cost_us: float, rps: float | None, replicas: int) -> Sized:
    if rps is None:
        return Sized(
            0.5,
            f"half a processor: about {0.5e6 / cost_us:,.0f} requests a second at {cost_us:.0f} us "
            "each, measured; `--rps` sizes it for a load",
        )
    wanted = rps * cost_us / 1e6 / replicas / _BUSY
    if wanted > _MOST_CPUS:
        raise InputError(
            "usage.invalid",
            f"`--rps {rps:g}` on {replicas} replicas asks for {wanted:.0f} processors each, and "
            f"{_MOST_CPUS:.0f} are the most: {cost_us:.0f} us a request were measured",
            hint="ask for more replicas",
        )
    return Sized(
        max(0.05, wanted),
        f"{rps:g} requests a second at {cost_us:.0f} us each, measured, on {replicas} replicas that "
        f"are {_BUSY:.0%} busy",
    )


def _measured(
    word: str,
    contents: Contents,
    home: Path,
    *,
    trust_pickle: bool,
    say: Callable[[str], None],
) -> tuple[float, int]:
    """CPU microseconds a request, and the most bytes that the engine held."""
    from dukou.lifecycle.advise.measure import measure_cost
    from dukou.lifecycle.advise.subject import open_subject

    if len(contents.models) > 1:
        raise InputError(
            "usage.invalid",
            f"`{word}` serves {len(contents.models)} versions, and one is measured at a time",
            hint="say what a replica may take: `--cpu 1 --memory 512m`",
        )
    model = contents.models[0]
    if not model.digest:
        raise InputError(
            "usage.invalid",
            f"`{word}` is answered by others, so that there is nothing to measure here",
            hint="say what a replica may take: `--cpu 1 --memory 256m`",
        )
    subject_word = word
    if model.is_packaged:
        # The version that the contents name, whatever its alias means by now.
        subject_word = f"{contents.deployments[0].models[0].line}:{model.version}"
    say(f"measuring {model.name} here: a start and {_MEASURED_S:g} s of load")
    with tempfile.TemporaryDirectory(prefix="dukou-size-") as folder:
        subject = open_subject(
            subject_word, home=home, into=Path(folder), trust_pickle=trust_pickle, say=say
        )
        cost = measure_cost(subject, seconds=_MEASURED_S)
    return cost.cpu_us, cost.memory_bytes
