"""The numbers that advice rests on, measured here, in the real engine, in a bounded time.

The engine serves the model's graph as `dukou serve` would, on a port that nobody else knows; `dukou-load`
asks it in a closed loop for capacity and with Poisson arrivals for latency. Both share this machine's
CPUs, so that capacity is counted from the engine's own CPU time and not from what was reached.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import DukouError, RemoteError
from dukou.lifecycle.advise.facts import Demand, Facts, Form, LoadPoint
from dukou.lifecycle.advise.subject import Subject
from dukou.lifecycle.measure import EngineMeasure, request_bodies

if TYPE_CHECKING:
    from dukou.model.model import Model
    from dukou.serve.engine import EngineProcess

_LISTENER = "http"
# Enough to keep every CPU of a small machine busy, and few enough that each has its turn.
_CONNECTIONS = 16
_WARMUP_S = 0.3
# Rates at which latency is measured, of what the closed loop reached.
_RATES = (0.1, 0.3, 0.6)
# A rate that is wanted is measured itself where the machine can send it.
_MOST_OF_REACHED = 0.8
_ROUNDS = 5
# A slow model is asked for longer, so that there are some requests to speak of.
_FEWEST_REQUESTS = 20
_LONGER = 5
_LONGEST_LOAD_S = 600.0
_TICKS = os.sysconf("SC_CLK_TCK")


def measure_subject(
    subject: Subject, demand: Demand, *, seconds: float, into: Path, say: Callable[[str], None]
) -> Facts:
    """What the model costs on this machine.

    Args:
        subject: the model with requests.
        demand: its rate is measured itself, where it can be sent.
        seconds: of each measurement under load.
        into: an empty folder for the forms' graphs.
        say: shows a line of progress.

    Raises:
        DukouError: the engine does not start, refuses the model, or its requests.
    """
    from dukou.lifecycle.doctor import read_memory_limit

    say(f"measuring {subject.name}: starts, capacity and latency, {seconds:g} s each")
    load_before = os.getloadavg()[0]
    bodies = request_bodies(subject.model, subject.samples)
    with tempfile.TemporaryDirectory(prefix="dukou-advise-") as folder:
        home = Path(folder)
        files = _write_bodies(bodies, home)
        with _serve(subject, home, bodies[0]) as (_, first_start_s, _, first_peak):
            pass
        with _serve(subject, home, bodies[0]) as (engine, start_s, url, _):
            version = engine.api.models()[0]["versions"][0]
            cpu_us, reached, full = _load_fully(engine, url, files, seconds)
            points = [_load_at(rate, url, files, seconds) for rate in _rates(reached, demand.rps)]
            peak = max(first_peak, _peak_memory(engine.pid))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Facts(
        name=subject.name,
        source=subject.source,
        cpus=len(os.sched_getaffinity(0)),
        machine_memory_bytes=min(total, read_memory_limit() or total),
        size_bytes=subject.model.size_bytes(),
        batchable=bool(version["batchable"]),
        cpu_us=cpu_us,
        reached_rps=reached,
        # A model that takes seconds may not have been asked at all at a low rate.
        points=tuple(point for point in points if point.requests) or (full,),
        memory_bytes=peak,
        first_start_s=first_start_s,
        start_s=start_s,
        forms=_forms(subject, into, seconds, say),
        load_before=load_before,
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request and the engine cost on this machine.

    Attributes:
        cpu_us: CPU time of the engine a request, under full load.
        memory_bytes: the most that the engine held, from its very first start to the end of the load.
        first_start_s: from starting the engine to its first answer, with nothing prepared.
    """

    cpu_us: float
    memory_bytes: int
    first_start_s: float


def measure_cost(subject: Subject, *, seconds: float) -> Cost:
    """What sizing needs, without latencies and without other forms of the model.

    Args:
        subject: the model with requests.
        seconds: of load.

    Raises:
        DukouError: the engine does not start, refuses the model, or its requests.
    """
    bodies = request_bodies(subject.model, subject.samples)
    with tempfile.TemporaryDirectory(prefix="dukou-measure-") as folder:
        home = Path(folder)
        files = _write_bodies(bodies, home)
        with _serve(subject, home, bodies[0]) as (engine, first_start_s, url, first_peak):
            cpu_us, _, _ = _load_fully(engine, url, files, seconds)
            return Cost(cpu_us, max(first_peak, _peak_memory(engine.pid)), first_start_s)


def _rates(reached: float, wanted: float | None) -> list[float]:
    rates = {round(share * reached, 3) for share in _RATES}
    if wanted is not None and wanted <= _MOST_OF_REACHED * reached:
        rates.add(wanted)
    return sorted(rates)


@contextmanager
def _serve(
    subject: Subject, home: Path, body: bytes
) -> Iterator[tuple[EngineProcess, float, str, int]]:
    """An engine, seconds from its start to its first answer, its address, its peak memory by then."""
    from dukou.base.ids import ModelName
    from dukou.serve.bare import bare_table
    from dukou.serve.client import Client
    from dukou.serve.engine import EngineProcess
    from dukou.serve.find import find_engine, find_runtime

    table = home / "first-table.json"
    document = bare_table({ModelName(subject.name): subject.model.graph}, listeners=[_LISTENER])
    table.write_text(json.dumps(document), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = Client(f"http://127.0.0.1:{port}")
        begun = time.monotonic()
        engine = EngineProcess.start(
            find_engine(),
            listeners={_LISTENER: listener},
            socket_path=home / "engine.sock",
            state_dir=home / "state",
            runtime=find_runtime(),
            table=table,
            log=home / "engine.log",
        )
        with engine:
            try:
                engine.wait_serving(_LONGEST_LOAD_S)
                client.infer(subject.name, json.loads(body))
            finally:
                client.close()
            took = time.monotonic() - begun
            url = f"http://127.0.0.1:{port}/v2/models/{subject.name}/infer"
            yield engine, took, url, _peak_memory(engine.pid)


def _write_bodies(bodies: Sequence[bytes], folder: Path) -> list[Path]:
    files = [folder / f"body-{index}.json" for index in range(len(bodies))]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(body)
    return files


def _load_fully(
    engine: EngineProcess, url: str, files: Sequence[Path], seconds: float
) -> tuple[float, float, LoadPoint]:
    """CPU microseconds of the engine a request, requests answered a second, and their latency."""
    before = _cpu_seconds(engine.pid)
    report = _load(
        url, files, seconds, "--connections", str(_CONNECTIONS), "--warmup", str(_WARMUP_S)
    )
    used = _cpu_seconds(engine.pid) - before
    measured, sent = report["measured"], report["measured"]["sent"] + report["warmup"]["sent"]
    if not measured["ok"]:
        raise RemoteError(
            "client.server-error",
            f"none of {measured['sent']} requests was answered well: "
            f"{measured['statuses'] or measured['errors']}",
        )
    rate = float(measured["rate"])
    # Of a request that takes long only a few were sent; a tick of the kernel's clock is the least.
    return max(used, 1 / _TICKS) * 1e6 / sent, rate, _point(rate, measured)


def _load_at(rate: float, url: str, files: Sequence[Path], seconds: float) -> LoadPoint:
    span = min(max(seconds, _FEWEST_REQUESTS / rate), _LONGER * seconds)
    report = _load(url, files, span, "--rate", f"{rate:.6g}", "--connections", "64")
    return _point(rate, report["measured"])


def _point(rate: float, measured: Mapping[str, Any]) -> LoadPoint:
    latency = measured["latency_us"]
    return LoadPoint(
        rate=rate,
        requests=measured["sent"] + measured["unsent"],
        failed=measured["failed"] + measured["unsent"],
        p50_ms=latency["p50"] / 1000,
        p99_ms=latency["p99"] / 1000,
    )


def _load(url: str, files: Sequence[Path], seconds: float, *more: str) -> dict[str, Any]:
    """One run of `dukou-load`."""
    from dukou.serve.find import find_load

    command = [str(find_load()), url, "--duration", f"{seconds:g}", *more]
    for file in files:
        command += ["--body", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds + 120
    )
    if done.returncode != 0:
        raise RemoteError(
            "client.server-error", f"nothing was measured: {done.stderr.strip()[-300:]}"
        )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_memory(pid: int) -> int:
    """Bytes that a process held at the most, so far."""
    for line in (
        Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    ):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


# --- forms ---


def _forms(
    subject: Subject, into: Path, seconds: float, say: Callable[[str], None]
) -> tuple[Form, ...]:
    if subject.optimization is not None:
        return _judged_forms(subject.optimization)
    return _made_forms(subject, into, seconds, say)


def _judged_forms(found: Mapping[str, Any]) -> tuple[Form, ...]:
    """What the project's own line found, judged on its held-out rows."""
    forms = []
    for candidate in found["candidates"]:
        alone, busy = candidate["latency_us"], candidate["busy_us"]
        forms.append(
            Form(
                name=candidate["variant"],
                size_bytes=candidate["size_bytes"],
                alone_us=alone and alone["value"],
                busy_us=busy and busy["value"],
                quality=candidate["quality"] if found["metric"] == "accuracy" else None,
                note=_verdict(candidate),
                served=candidate["variant"] == found["chosen"],
            )
        )
    forms += [
        Form(name, None, None, None, None, reason) for name, reason in found["refused"].items()
    ]
    return tuple(forms)


def _verdict(candidate: Mapping[str, Any]) -> str:
    """Why a form is not the one that is served, without the numbers that stand beside it."""
    if candidate["verdict"] != "dropped":
        return str(candidate["verdict"])
    return f"dropped: {str(candidate['reason']).partition(' (')[0].partition(':')[0]}"


def _made_forms(
    subject: Subject, into: Path, seconds: float, say: Callable[[str], None]
) -> tuple[Form, ...]:
    """What the passes make without rows: smaller and faster is measured, accuracy nobody can judge."""
    from dukou.optimize.table import list_passes, load_pass

    say("making and measuring what the optimizations make of it")
    made: list[Model] = []
    missing: list[Form] = []
    for name in list_passes():
        folder = into / name
        folder.mkdir(parents=True)
        try:
            form = load_pass(name).apply(subject.model, folder, None)
        except DukouError as error:
            missing.append(Form(name, None, None, None, None, error.message))
            continue
        if form is None:
            reason = "nothing to do here without rows to calibrate with"
            missing.append(Form(name, None, None, None, None, reason))
        else:
            made.append(form)
    models = [subject.model, *made]
    measure = EngineMeasure(rounds=_ROUNDS, budget_s=seconds)
    measured = measure(models, subject.samples)
    return (
        *(
            Form(
                name=model.variant,
                size_bytes=found.size_bytes,
                alone_us=found.latency_us.value,
                busy_us=found.busy_us.value,
                quality=None,
                note="as it is" if model is subject.model else "accuracy not judged: no rows",
                served=model is subject.model,
            )
            for model, found in zip(models, measured, strict=True)
        ),
        *missing,
    )
