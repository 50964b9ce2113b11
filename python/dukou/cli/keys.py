"""`dukou keys`: who may ask a server that other machines reach, and for what.

  dukou keys add billing --role predict --model fraud --rate 100/s --expires 90d
  dukou keys list
  dukou keys rotate billing --overlap 24h      another key; the old one is good for a day more
  dukou keys revoke billing                    no key of this name is good from now on

Roles: predict (ask a model, read what it takes), manage (change what is served), read-metrics (of the
whole server). A key is shown once, when it is made. Running servers know of a change within a second.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dukou.trust.access import AccessKey, Grant, NewKey, Rate

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a key")
    add.add_argument("name", help="whose it is: a person, a job, a service")
    add.add_argument(
        "--role",
        action="append",
        default=[],
        help="predict (where none is named), manage, read-metrics",
    )
    add.add_argument(
        "--model", action="append", default=[], help="for this model alone; as often as needed"
    )
    add.add_argument("--rate", metavar="RATE", help="how often it may ask: 100/s, 10/min, 1000/h")
    add.add_argument("--burst", type=int, metavar="N", help="of these, how many at once (all)")
    add.add_argument("--expires", metavar="TIME", help="how long it is good: 90d, 24h")
    rotate = actions.add_parser("rotate", help="make another in its place")
    rotate.add_argument("name", help="its name, or its id")
    rotate.add_argument(
        "--overlap", metavar="TIME", help="how long the old one is good beside it (not at all)"
    )
    revoke = actions.add_parser("revoke", help="end it, at once")
    revoke.add_argument("name", help="its name (every key of it), or its id")
    listing = actions.add_parser("list", help="what keys there are")
    for action in (add, rotate, revoke, listing):
        action.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Changes or shows the keys."""
    from dukou.base.settings import dukou_home
    from dukou.lifecycle import access

    home = dukou_home()
    if arguments.action == "add":
        made = access.add_key(
            home,
            arguments.name,
            _grants(arguments.role, arguments.model),
            rate=_rate(arguments.rate, arguments.burst),
            expires=_end(arguments.expires),
        )
        _show_new(made, as_json=arguments.json)
    elif arguments.action == "rotate":
        overlap = _length("--overlap", arguments.overlap) if arguments.overlap else 0.0
        made = access.rotate_key(home, arguments.name, overlap_s=overlap)
        _show_new(made, as_json=arguments.json)
    elif arguments.action == "revoke":
        gone = access.revoke_keys(home, arguments.name)
        if arguments.json:
            print(json.dumps({"revoked": [_public(key) for key in gone]}))
        else:
            print("\n".join(f"revoked `{key.name}` ({key.id})" for key in gone))
    else:
        _list(as_json=arguments.json)
    return 0


def _grants(roles: list[str], models: list[str]) -> list[Grant]:
    from dukou.trust.access import EVERY_MODEL, Grant

    return [
        Grant(role, tuple(dict.fromkeys(models)) or (EVERY_MODEL,))
        for role in dict.fromkeys(roles or ["predict"])
    ]


def _rate(text: str | None, burst: int | None) -> Rate | None:
    from dukou.base.errors import InputError
    from dukou.trust.access import Rate

    if text is None:
        if burst is not None:
            raise InputError("usage.invalid", "`--burst` says nothing without `--rate`")
        return None
    found = re.fullmatch(r"(\d{1,9})/(s|min|h|d)", text)
    if found is None or int(found[1]) < 1:
        raise InputError(
            "usage.invalid",
            f"`--rate {text}` is not a rate",
            hint="a number of requests and a time: `100/s`, `10/min`, `1000/h`",
        )
    requests = int(found[1])
    if burst is not None and not 1 <= burst <= 1_000_000_000:
        raise InputError("usage.invalid", f"`--burst {burst}` is less than one request")
    return Rate(requests, _SECONDS[found[2]], burst or requests)


def _end(text: str | None) -> int | None:
    return None if text is None else int(time.time() + _length("--expires", text))


def _length(flag: str, text: str) -> float:
    from dukou.base.durations import parse_duration

    return parse_duration(text, key=flag, code="usage.invalid").total_seconds()


def _show_new(made: NewKey, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**_public(made.key), "key": made.text}))
        return
    print(made.text)
    print(
        f"  the key of `{made.key.name}`: {_show_grants(made.key)}; "
        "it is shown this once, and kept nowhere"
    )


def _list(*, as_json: bool) -> None:
    from dukou.base.settings import dukou_home
    from dukou.cli.show import show_table
    from dukou.trust.access import KeyStore

    keys = KeyStore(dukou_home()).read()
    if as_json:
        print(json.dumps({"keys": [_public(key) for key in keys]}))
        return
    if not keys:
        print("no keys; `dukou keys add NAME` makes one")
        return
    rows = [
        [
            key.name,
            key.id,
            _show_grants(key),
            _show_rate(key),
            _show_day(key.created),
            _show_end(key),
        ]
        for key in keys
    ]
    print(show_table(["name", "id", "may", "rate", "made", "expires"], rows))


def _public(key: AccessKey) -> dict[str, object]:
    """Without the hash: it opens nothing, and nobody needs it."""
    document = key.to_json()
    del document["secret_sha256"]
    return document


def _show_grants(key: AccessKey) -> str:
    return "; ".join(f"{grant.role} {', '.join(grant.models)}" for grant in key.grants) or "nothing"


def _show_rate(key: AccessKey) -> str:
    if key.rate is None:
        return "-"
    unit = {seconds: name for name, seconds in _SECONDS.items()}.get(
        key.rate.seconds, f"{key.rate.seconds}s"
    )
    return f"{key.rate.requests}/{unit}"


def _show_day(second: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(second))


def _show_end(key: AccessKey) -> str:
    if key.expires is None:
        return "never"
    if key.expires <= time.time():
        return "expired"
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(key.expires))
