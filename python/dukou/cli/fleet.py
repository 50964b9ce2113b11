"""`dukou fleet`: several replicas of what is served, behind one address.

  dukou fleet up digits --replicas 3     three servers here and a gateway before them; Ctrl-C ends them
  dukou fleet up digits --ray            the same, placed by a Ray cluster
  dukou fleet status                     each replica: where, revision, requests a second
  dukou fleet scale digits 5             five from now on
  dukou fleet down digits                answer what is in flight, and end
  dukou fleet manifests digits --image IMAGE    Kubernetes objects, sized by what the model costs

Replicas follow the registry by themselves: promote, roll out and roll back as with one server.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.cli import manifests

if TYPE_CHECKING:
    from dukou.fleet.replica import FleetOrder, Place
    from dukou.fleet.supervisor import FleetSupervisor

# What a person never types: the second half of `up`, in a process without what planning imported.
_PLANNED = "--planned"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_up(actions.add_parser("up", help="start replicas and a gateway, in the foreground"))
    status = actions.add_parser("status", help="what runs, and how it does")
    status.add_argument("name", nargs="?", help="of the fleet; all where absent")
    scale = actions.add_parser("scale", help="another number of replicas")
    scale.add_argument("name", help="of the fleet")
    scale.add_argument("replicas", type=int, metavar="N", help="how many there are to be")
    down = actions.add_parser("down", help="answer what is in flight, and end")
    down.add_argument("name", help="of the fleet")
    manifests.add_arguments(
        actions.add_parser("manifests", help="Kubernetes objects for a model's image")
    )
    for action in (status, scale, down):
        action.add_argument("--json", action="store_true", help="as JSON")


def _add_up(up: argparse.ArgumentParser) -> None:
    up.add_argument("model", metavar="MODEL", help="as `dukou serve` takes it")
    up.add_argument("--replicas", type=int, metavar="N", help="as the deployment says, else 3")
    up.add_argument("--name", help="of the fleet; the model's where absent")
    up.add_argument("--ray", action="store_true", help="have a Ray cluster place the replicas")
    up.add_argument(
        "--address", metavar="ADDRESS", help="of the Ray cluster; the one of this machine"
    )
    up.add_argument("--host", default="127.0.0.1", help="the gateway's; off loopback TLS and keys")
    up.add_argument(
        "--port", type=int, default=8080, help="the gateway's (8080); 0 takes a free one"
    )
    up.add_argument("--secure", action="store_true", help="TLS and keys on loopback too")
    up.add_argument("--insecure", action="store_true", help="off loopback for anybody, in clear")
    up.add_argument("--tls-certificate", type=Path, metavar="PATH", help="of the gateway; PEM")
    up.add_argument("--tls-key", type=Path, metavar="PATH", help="the certificate's private key")
    up.add_argument(
        "--allow", action="append", default=[], metavar="NETWORK", help="who may connect"
    )
    up.add_argument(
        "--deny", action="append", default=[], metavar="NETWORK", help="who may not connect"
    )
    up.add_argument("--threads", type=int, help="worker threads of each replica's engine")
    up.add_argument("--engine", metavar="PATH", help="another engine program")
    up.add_argument("--runtime", metavar="PATH", help="another ONNX Runtime library")
    up.add_argument(
        "--ready-file", type=Path, metavar="PATH", help="write the address here, once ready"
    )
    up.add_argument("--json", action="store_true", help="print the address as one line of JSON")
    up.add_argument(_PLANNED, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Starts a fleet, or shows, changes or ends one."""
    if arguments.action == "up":
        return _up(arguments)
    if arguments.action == "status":
        return _status(arguments)
    if arguments.action == "scale":
        return _scale(arguments)
    if arguments.action == "manifests":
        return manifests.run(arguments)
    return _down(arguments)


# --- up ---


def _up(arguments: argparse.Namespace) -> int:
    from dukou.base.errors import DukouError

    try:
        return _plan(arguments) if arguments.planned is None else _run_fleet(arguments)
    except DukouError as error:
        if not arguments.json:
            raise
        failure = {"code": error.code, "message": error.message, "hint": error.hint}
        print(json.dumps({"event": "error", **failure}), flush=True)
        return error.exit_status


def _plan(arguments: argparse.Namespace) -> int:
    from dukou.base.errors import InputError
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.fleet import plan_fleet
    from dukou.serve.choose import choose_door

    if arguments.replicas is not None:
        _check_count("--replicas", arguments.replicas)
    if arguments.address is not None and not arguments.ray:
        raise InputError("usage.invalid", "`--address` is a Ray cluster's, and goes with `--ray`")
    # Said before anything starts.
    choose_door(
        arguments.host,
        secure=arguments.secure,
        insecure=arguments.insecure,
        certificate=arguments.tls_certificate,
        key=arguments.tls_key,
        allow=arguments.allow,
        deny=arguments.deny,
    )
    if arguments.ray:
        from dukou.fleet.ray import check_ray

        check_ray()
    plan = plan_fleet(
        dukou_home(), arguments.model, name=arguments.name, replicas=arguments.replicas
    )
    planned = json.dumps([plan.name, plan.replicas, plan.memory_bytes, plan.cpus])
    sys.stdout.flush()
    noun, action, *rest = sys.argv[1:]
    # A process that lives as long as the fleet holds no database and no document library.
    words = [noun, action, f"{_PLANNED}={planned}", *rest]
    os.execv(sys.executable, [sys.executable, "-P", "-m", "dukou", *words])


def _run_fleet(arguments: argparse.Namespace) -> int:
    from dukou.base.settings import dukou_home
    from dukou.fleet.folder import new_fleet_folder
    from dukou.fleet.replica import FleetOrder
    from dukou.fleet.supervisor import FleetSupervisor

    name, replicas, memory_bytes, cpus = json.loads(arguments.planned)
    programs = _given(arguments, "engine", "runtime")
    order = FleetOrder(
        name=name,
        model=arguments.model,
        replicas=replicas,
        home=dukou_home(),
        gateway=_gateway_words(arguments) + programs,
        replica=programs + _given(arguments, "threads"),
        memory_bytes=memory_bytes,
        cpus=cpus,
    )

    def on_ready(fleet: FleetSupervisor) -> None:
        facts = {
            "event": "ready",
            "name": name,
            "url": fleet.url,
            "pid": os.getpid(),
            "models": fleet.gateway.facts["models"],
            "replicas": [replica._asdict() for replica in fleet.place.replicas()],
        }
        if "certificate" in fleet.gateway.facts:
            facts["certificate"] = fleet.gateway.facts["certificate"]
        if arguments.ready_file is not None:
            incoming = arguments.ready_file.with_name(f".{arguments.ready_file.name}.{os.getpid()}")
            incoming.write_text(json.dumps(facts) + "\n", encoding="utf-8")
            incoming.replace(arguments.ready_file)
        key = fleet.gateway.facts.get("key")
        if arguments.json:
            # Shown once, to whoever started it; never in a file.
            print(json.dumps(facts if key is None else {**facts, "key": key}), flush=True)
        else:
            print(_announce(facts, key), flush=True)

    place = _place(arguments, order)
    return FleetSupervisor(
        order,
        new_fleet_folder(name),
        place,
        on_ready,
        lambda text: print(text, file=sys.stderr, flush=True),
    ).run()


def _place(arguments: argparse.Namespace, order: FleetOrder) -> Place:
    if arguments.ray:
        from dukou.fleet.ray import RayPlace

        return RayPlace(order, arguments.address)
    from dukou.fleet.local import LocalPlace

    return LocalPlace(order)


def _gateway_words(arguments: argparse.Namespace) -> list[str]:
    words = _given(arguments, "host", "port", "tls_certificate", "tls_key")
    for name in ("allow", "deny"):
        for network in getattr(arguments, name):
            words += [f"--{name}", network]
    return words + [f"--{name}" for name in ("secure", "insecure") if getattr(arguments, name)]


def _given(arguments: argparse.Namespace, *names: str) -> list[str]:
    words = []
    for name in names:
        value = getattr(arguments, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def _announce(facts: dict[str, Any], key: str | None) -> str:
    from dukou.cli.show import show_table

    replicas = facts["replicas"]
    lines = [
        f"serving {', '.join(facts['models'])} at {facts['url']}, by {len(replicas)} replicas",
        "",
    ]
    rows = [[r["name"], r["where"], str(r["pid"] or "-"), r["url"] or "-"] for r in replicas]
    lines += [
        f"  {line}" for line in show_table(["", "where", "pid", "address"], rows).splitlines()
    ]
    if "certificate" in facts:
        lines += ["", f"  certificate  {facts['certificate']}"]
        lines += (
            ["  keys         `dukou keys list` shows them, `dukou keys add NAME` makes one"]
            if key is None
            else [f"  first key    {key}", "               (it is shown this once: keep it)"]
        )
    name = facts["name"]
    return "\n".join(
        [
            *lines,
            "",
            f"  ask     dukou predict {facts['models'][0]} INPUT --url {facts['url']}",
            f"  look    dukou fleet status {name}",
            f"  change  dukou fleet scale {name} {len(replicas) + 1}",
            f"  stop    Ctrl-C here, or `dukou fleet down {name}`",
        ]
    )


# --- status, scale, down ---


def _status(arguments: argparse.Namespace) -> int:
    from dukou.fleet.folder import find_fleet, running_fleets
    from dukou.fleet.look import look_at_fleets

    found = list(running_fleets())
    if arguments.name is not None:
        found = [find_fleet(arguments.name)]
    fleets = look_at_fleets([document for _, document in found])
    if arguments.json:
        print(json.dumps({"fleets": fleets}, indent=1))
    elif fleets:
        print("\n\n".join(_show(fleet) for fleet in fleets))
    else:
        print("no fleet runs here; `dukou fleet up MODEL` starts one")
    return 0


def _show(fleet: dict[str, Any]) -> str:
    from dukou.cli.show import show_table

    placed = "" if fleet["place"] == "local" else f", placed by {fleet['place'].capitalize()}"
    lines = [
        f"{fleet['name']} at {fleet['url'] or 'no address: the gateway is down'}: "
        f"{fleet['healthy']} of {fleet['wanted']} replicas healthy{placed}"
    ]
    rows = [
        [
            replica["name"],
            replica["where"],
            str(replica["pid"] or "-"),
            replica["url"] or "-",
            replica["revision"] or "-",
            _health(replica),
            "-" if replica["requests_per_s"] is None else f"{replica['requests_per_s']:.1f}",
            "-" if replica["requests"] is None else str(replica["requests"]),
            _memory(replica["rss_bytes"], fleet["memory_bytes"]),
            str(replica["restarts"]),
        ]
        for replica in fleet["replicas"]
    ]
    header = [
        "",
        "where",
        "pid",
        "address",
        "revision",
        "",
        "req/s",
        "requests",
        "memory",
        "restarts",
    ]
    lines += [f"  {line}" for line in show_table(header, rows).splitlines()]
    return "\n".join(lines)


def _health(replica: dict[str, Any]) -> str:
    if replica["leaving"]:
        return "leaving"
    if replica["healthy"]:
        return "healthy"
    return "down" if replica["url"] is None else str(replica["why"] or "not healthy")


def _memory(held: int | None, allowed: int | None) -> str:
    if held is None:
        return "-"
    from dukou.base.sizes import write_size

    text = f"{held / 1e6:.0f} MB"
    return text if allowed is None or held <= allowed else f"{text} of {write_size(allowed)}!"


def _scale(arguments: argparse.Namespace) -> int:
    from dukou.fleet.folder import find_fleet

    _check_count("N", arguments.replicas)
    folder, document = find_fleet(arguments.name)
    folder.write(folder.wanted, {"format": 1, "replicas": arguments.replicas})
    if arguments.json:
        print(json.dumps({"name": arguments.name, "replicas": arguments.replicas}))
    else:
        print(f"`{arguments.name}` goes from {document['wanted']} to {arguments.replicas} replicas")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    from dukou.fleet.folder import find_fleet
    from dukou.fleet.look import end_fleet

    folder, document = find_fleet(arguments.name)
    end_fleet(folder, int(document["pid"]))
    if arguments.json:
        print(json.dumps({"name": arguments.name, "ended": True}))
    else:
        print(f"`{arguments.name}` has ended")
    return 0


def _check_count(flag: str, count: int) -> None:
    from dukou.base.errors import InputError

    if not 1 <= count <= 256:
        raise InputError(
            "usage.invalid",
            f"`{flag}` is {count}, and a fleet has between 1 and 256 replicas",
            hint="`dukou fleet down NAME` ends a fleet" if count < 1 else None,
        )
