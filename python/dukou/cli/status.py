"""`dukou status`: the servers of this user on this machine, and how they do.

Requests, errors and times are counted since the engine's last start.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--json", action="store_true", help="everything, as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Asks every server and shows what it says."""
    servers = [_look_at(folder, document) for folder, document in _running()]
    backup = _look_at_backups()
    if arguments.json:
        print(json.dumps({"servers": servers, "backup": backup}, indent=1))
        return 0
    if servers:
        print("\n\n".join(_show(server) for server in servers))
    else:
        print("no dukou server runs here; `dukou serve MODEL` starts one")
    if backup is not None:
        print(_show_backup(backup))
    return 0


def _running() -> list[tuple[Any, dict[str, Any]]]:
    from dukou.serve.folder import running_servers

    return list(running_servers())


def _look_at(folder: Any, document: dict[str, Any]) -> dict[str, Any]:
    """What a server says of itself, and its engine's exact counters where it answers."""
    from dukou.base.errors import DukouError
    from dukou.serve.local_api import LocalApi

    server = {**document, "state": None, "problem": None, "trouble": None, "rollouts": []}
    server |= {"unplaced": [], "memory_bytes": None}
    control = folder.read(folder.control)
    if control is not None:
        server["trouble"] = control.get("trouble")
        server["rollouts"] = control.get("rollouts", [])
        server["unplaced"] = control.get("unplaced", [])
        server["memory_bytes"] = control.get("memory_bytes")
    server["monitor"] = (folder.read(folder.monitor) or {}).get("models", {})
    try:
        server["state"] = LocalApi(folder.socket, timeout_s=2.0).state()
    except DukouError as error:
        server["problem"] = str(error)
    return server


def _look_at_backups() -> dict[str, Any] | None:
    """Where backups are, and how many seconds ago one was taken and proved; None where none ever was."""
    from dukou.base.settings import dukou_home_path
    from dukou.serve.backup_age import backup_times, read_backup_facts

    home = dukou_home_path()
    facts = read_backup_facts(home)
    if facts is None:
        return None
    times = backup_times(home)
    ages = {f"{name}_age_s": time.time() - when for name, when in times.items()}
    return {"folder": facts.get("folder"), "taken_age_s": None, "verified_age_s": None, **ages}


def _show_backup(backup: dict[str, Any]) -> str:
    from dukou.cli.show import show_age

    said = []
    for name, never in (("taken", "never taken"), ("verified", "never verified")):
        age = backup[f"{name}_age_s"]
        said.append(never if age is None else f"{name} {show_age(age)} ago")
    hint = "" if backup["verified_age_s"] is not None else "; `dukou backup verify` proves it"
    return f"\nbackup  {', '.join(said)}, in {backup['folder']}{hint}"


def _show(server: dict[str, Any]) -> str:
    from dukou.cli.show import show_age

    state = server["state"]
    part = f"  ({server['replica_of']})" if server.get("replica_of") else ""
    lines = [f"{server['url']}  {', '.join(server['models']) or 'nothing served yet'}{part}"]
    age = show_age(time.time() - server["started"])
    parts = [f"up {age}", f"pid {server['pid']}", _show_process("engine", server["engine"])]
    if server["control"] is not None:
        parts.append(_show_process("control", server["control"]))
    if state is not None:
        parts.append(_show_memory(state["gauges"]["rss_bytes"], server["memory_bytes"]))
    lines.append("  " + " · ".join(parts))
    if state is None:
        lines.append(f"  {server['problem']}")
    else:
        gauges = state["gauges"]
        lines.append(
            f"  table {state['revision'] or 'none'} · {gauges['connections']} connections · "
            f"{gauges['in_flight']} in flight · {gauges['queued']} queued"
        )
        lines += ["  " + line for line in _show_arms(state).splitlines()]
        lines += [f"  {line}" for line in _show_caches(state)]
        lines += [f"  {line}" for line in _show_providers(state)]
        lines += [f"  {line}" for line in _show_replicas(state)]
        if state.get("table_unsaved"):
            lines.append(f"  the table is not kept on disk: {state['table_unsaved']}")
    for rollout in server["rollouts"]:
        reason = f": {rollout['reason']}" if rollout["reason"] else ""
        lines.append(
            f"  rollout of {rollout['model']}:{rollout['challenger']} against "
            f"{rollout['model']}:{rollout['champion']} at {rollout['share']:g} %{reason}"
        )
    if server["trouble"] is not None:
        trouble = server["trouble"]
        since = show_age(time.time() - trouble["since"])
        lines.append(f"  kept as it is, for {since}: {trouble['message']} [{trouble['code']}]")
    lines += [f"  {asked['message']} [{asked['code']}]" for asked in server["unplaced"]]
    lines += [
        f"  {line}"
        for model, found in server["monitor"].items()
        for line in _show_monitor(model, found)
    ]
    lines.append(f"  log {server['log']}")
    return "\n".join(lines)


def _show_monitor(model: str, found: dict[str, Any]) -> list[str]:
    """The last window of drift, and of quality."""
    lines = []
    if "quality" in found:
        quality = found["quality"]
        metrics = ", ".join(
            f"{name.removesuffix('_macro')} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]"
            for name, m in quality["metrics"].items()
        )
        lines.append(
            f"quality of {model}: {metrics} on the newest {quality['rows']} labelled rows "
            f"({quality['labels']} labels in all)"
        )
    if "drift" in found:
        drift = found["drift"]
        state = "ALARM, " if drift["alarm"] else ""
        lines.append(
            f"drift of {model}:{drift['version']}: {state}{drift['moved']} of {drift['tested']} "
            f"features moved in {drift['rows']} rows; `dukou drift {model}` says which"
        )
    if "lost" in found:
        lines.append(
            f"captures of {model}: {found['lost']['requests']} requests could not be written and are lost"
        )
    if found.get("damaged", {}).get("parts"):
        damaged = found["damaged"]
        lines.append(
            f"captures of {model}: {damaged['parts']} files could not be read and are set aside, the last "
            f"`{damaged['last']}`"
        )
    return lines


def _show_replicas(state: dict[str, Any]) -> list[str]:
    """The servers that answer remote models, and why one is not asked."""
    from dukou.cli.show import show_duration, show_table

    rows = [
        [
            f"{row['model']} at {row['replica']}",
            row["revision"] or "-",
            str(row["requests"]),
            str(row["failures"]),
            str(row["retries"]),
            str(row["outstanding"]),
            show_duration(row["latency_us"]),
            row["why"] or ("asked" if row["healthy"] else "not asked"),
        ]
        for row in state.get("replicas", [])
    ]
    if not rows:
        return []
    header = ["replica", "serves", "requests", "failures", "retries", "open", "takes", "state"]
    return show_table(header, rows).splitlines()


def _show_memory(held: int, allowed: int | None) -> str:
    """What the engine holds, and whether that is more than its deployments allow."""
    from dukou.base.sizes import write_size

    text = f"{held / 1e6:.0f} MB"
    if allowed is None:
        return text
    relation = "MORE THAN" if held > allowed else "of"
    return f"{text} {relation} the {write_size(allowed)} allowed"


def _show_process(name: str, process: dict[str, Any]) -> str:
    pid = process["pid"] if process["pid"] is not None else "down"
    restarts = process["restarts"]
    times = "" if not restarts else f" (restarted {restarts} time{'s' if restarts > 1 else ''})"
    return f"{name} {pid}{times}"


def _show_arms(state: dict[str, Any]) -> str:
    from dukou.cli.show import show_duration, show_table
    from dukou.serve.histogram import quantile

    rows = []
    bounds = state["bounds_us"]
    for (version, arm), count in _by_arm(state["arms"]).items():
        if arm == "direct" and not count["requests"]:
            continue  # nobody asked for a version by its number
        rows.append(
            [
                version,
                arm,
                str(count["requests"]),
                str(count["errors"]),
                show_duration(quantile(bounds, count["request_us"], 0.5)),
                show_duration(quantile(bounds, count["request_us"], 0.99)),
                f"{count['rows_run'] / count['batches']:.1f}" if count["batches"] else "-",
            ]
        )
    if not rows:
        return "no requests yet"
    header = ["version", "arm", "requests", "errors", "p50", "p99", "rows a batch"]
    text = show_table(header, rows)
    refused = sum(state["refused"].values())
    if refused:
        what = ", ".join(f"{count} {code}" for code, count in sorted(state["refused"].items()))
        text += f"\nrefused before a version was chosen: {what}"
    return text


def _show_providers(state: dict[str, Any]) -> list[str]:
    """What versions run on, where that is not the CPU alone as nobody asked otherwise."""
    from dukou.deploy.providers import short_name

    lines = []
    for version in state["runs_on"]:
        first, *rest = [short_name(name) for name in version["providers"]]
        if not rest and not version["passed_over"]:
            continue
        behind = f", then {', '.join(rest)}" if rest else ""
        line = f"{version['model']}:{version['version']} runs on {first}{behind}"
        for passed_over in version["passed_over"]:
            line += f"; not on {short_name(passed_over['provider'])}: {passed_over['reason']}"
        lines.append(line)
    return lines


def _show_caches(state: dict[str, Any]) -> list[str]:
    """What the caches hold, and what they did about requests."""
    from dukou.cli.show import show_bytes

    lines = []
    for cache in state["caches"]:
        done = dict.fromkeys(("hit", "wait", "miss"), 0)
        for arm in state["arms"]:
            if arm["model"] == cache["model"] and arm["cache"] is not None:
                done = {name: count + arm["cache"][name] for name, count in done.items()}
        asked = sum(done.values())
        spared = (
            f"{(done['hit'] + done['wait']) / asked:.0%} of {asked} answers" if asked else "nothing"
        )
        lines.append(
            f"cache of {cache['model']}: {spared} not run (hit {done['hit']}, wait {done['wait']}, "
            f"miss {done['miss']}); {cache['entries']} kept, {show_bytes(cache['bytes'])} of "
            f"{show_bytes(cache['max_bytes'])}, {cache['evicted']} pushed out, {cache['expired']} expired"
        )
    return lines


def _by_arm(arms: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """The counters of each version and arm, those of its tables added together."""
    added: dict[tuple[str, str], dict[str, Any]] = {}
    for arm in arms:
        counts = arm["request_us"]["counts"]
        total = added.setdefault(
            (f"{arm['model']}:{arm['version']}", arm["arm"]),
            {"requests": 0, "errors": 0, "rows_run": 0, "batches": 0}
            | {"request_us": [0] * len(counts)},
        )
        for name in ("requests", "batches"):
            total[name] += arm[name]
        # What the cache answered rode in no batch.
        total["rows_run"] += arm["rows"] - (arm["cache"] or {}).get("rows_not_run", 0)
        total["errors"] += arm["requests"] - arm["codes"].get("ok", 0)
        total["request_us"] = [a + b for a, b in zip(total["request_us"], counts, strict=True)]
    return added
