"""start: from the command to the first right answer, and what a server holds while it waits."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from bench.check import ask, check_answers
from bench.digits import TOLERANCE, Digits, load_digits
from bench.harness import Entry, Figures, Options, fresh_folder, open_entries, say
from bench.peers.dukou import dukou_command, serve
from bench.process import private_mb, rss_mb, tree_of
from bench.report import Goal, Panel, Result, Table, shown
from bench.workplace import Unavailable

NAME = "start"
PEERS = ("naive-rust", "dukou", "triton", "mosec")
_FURTHER_MODELS = 50
_SAYS = (
    "From the start of the process to the first right answer over HTTP, Python's own start included "
    "where there is one; then resident memory before any load. "
    f"A further model is one of {_FURTHER_MODELS} more, each a file of its own."
)


def run(options: Options) -> Result:
    """A start in each round; ours also by process, by command and by model."""
    digits = load_digits()
    opened = open_entries(options.peers)
    for at in range(options.rounds):
        for peer, entry in opened:
            if entry.unavailable is not None:
                continue
            try:
                with peer.start(digits, fresh_folder(NAME, peer.name)) as running:
                    entry.command = running.command
                    ask(running.url, digits.bodies[0])
                    seconds = time.monotonic() - running.started_at
                    check_answers(running.url, digits.bodies, digits.answers["1"], TOLERANCE)
                    figures = {"first_answer_s": seconds, **_memory(running.pid)}
                if peer.name == "dukou":
                    figures |= _ours(digits)
            except Unavailable as error:
                entry.unavailable = str(error)
                say(f"round {at + 1}  {peer.name}: {error}")
                continue
            entry.rounds.append(figures)
            shown_figures = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
            say(f"round {at + 1}/{options.rounds}  {peer.name:<11}{shown_figures}")
    entries = [entry for _, entry in opened]
    tables = [_table(entries), *_our_table(entries)]
    bars = {entry.name: entry.spread("first_answer_s") for entry in entries if entry.rounds}
    memory = {entry.name: entry.spread("rss_mb") for entry in entries if entry.rounds}
    panels = [Panel("first right answer (s)", bars), Panel("resident memory, idle (MB)", memory)]
    return Result(NAME, _SAYS, options, entries, tables, _goals(entries), panels)


def _memory(pid: int) -> Figures:
    tree = tree_of(pid)
    return {
        "processes": len(tree),
        "rss_mb": sum(rss_mb(each) for each in tree),
        "private_mb": sum(private_mb(each) for each in tree),
    }


def _ours(digits: Digits) -> Figures:
    """Each of our processes, the price of a further model, and `dukou --help`."""
    file = digits.files["1"]
    with serve([file], fresh_folder(NAME, "dukou-one")) as (server, _):
        supervisor, engine = server.pid, _engine_of(server.pid)
        figures = {
            "supervisor_rss_mb": rss_mb(supervisor),
            "supervisor_private_mb": private_mb(supervisor),
            "engine_rss_mb": rss_mb(engine),
            "engine_private_mb": private_mb(engine),
        }
    folder = fresh_folder(NAME, "dukou-many")
    copies = [_distinct_copy(file, folder / f"copy-{at}.onnx", at) for at in range(_FURTHER_MODELS)]
    with serve([file, *copies], folder) as (server, _):
        many = rss_mb(_engine_of(server.pid))
    figures["further_model_mb"] = (many - figures["engine_rss_mb"]) / _FURTHER_MODELS
    begun = time.monotonic()
    command = [*dukou_command(), "--help"]
    subprocess.run(command, capture_output=True, check=True)
    figures["help_s"] = time.monotonic() - begun
    return figures


def _engine_of(supervisor: int) -> int:
    for pid in tree_of(supervisor):
        if Path(f"/proc/{pid}/comm").read_text("utf-8").strip() == "dukou-engine":
            return pid
    raise Unavailable(f"process {supervisor} has no engine below it")


def _distinct_copy(file: Path, copy: Path, at: int) -> Path:
    """The same model in a file of other bytes: nothing can be shared by digest or by path."""
    import onnx

    model = onnx.load(file)
    model.doc_string = f"copy {at}"
    onnx.save(model, copy)
    return copy


def _table(entries: list[Entry]) -> Table:
    header = ("server", "first right answer s", "processes", "resident MB", "private MB")
    rows = [
        (
            entry.name,
            shown(entry.spread("first_answer_s"), 2),
            f"{entry.spread('processes').median:.0f}",
            shown(entry.spread("rss_mb"), 0),
            shown(entry.spread("private_mb"), 0),
        )
        for entry in entries
        if entry.rounds
    ]
    return Table("A start, and an idle server", header, rows)


def _our_table(entries: list[Entry]) -> list[Table]:
    ours = _ours_in(entries)
    if ours is None:
        return []
    rows = [
        ("`dukou --help` (s)", shown(ours.spread("help_s"), 2)),
        ("supervisor, resident (MB)", shown(ours.spread("supervisor_rss_mb"))),
        ("supervisor, private (MB)", shown(ours.spread("supervisor_private_mb"))),
        (
            "engine, resident, the runtime's library included (MB)",
            shown(ours.spread("engine_rss_mb")),
        ),
        ("engine, private (MB)", shown(ours.spread("engine_private_mb"))),
        ("a further small model (MB)", shown(ours.spread("further_model_mb"), 2)),
    ]
    return [Table("Ours in its parts", ("part", "measured"), rows)]


def _goals(entries: list[Entry]) -> list[Goal]:
    ours = _ours_in(entries)
    if ours is None:
        return []
    wanted = (
        ("first right answer", "first_answer_s", 0.5, "s", 2),
        ("`dukou --help`", "help_s", 0.3, "s", 2),
        ("supervisor, private", "supervisor_private_mb", 15.0, "MB", 1),
        ("engine, private", "engine_private_mb", 45.0, "MB", 1),
        ("a further small model", "further_model_mb", 0.5, "MB", 2),
    )
    goals = []
    for what, figure, most, unit, digits in wanted:
        median = ours.spread(figure).median
        came = f"{median:.{digits}f} {unit}"
        goals.append(Goal(what, f"≤ {most:g} {unit}", came, median <= most))
    return goals


def _ours_in(entries: list[Entry]) -> Entry | None:
    return next((entry for entry in entries if entry.name == "dukou" and entry.rounds), None)
