"""Who we are to a remote, as `dukou push`, `dukou pull` and `dukou edge` take it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dukou.package.remotes.contract import Traffic
    from dukou.package.remotes.credentials import Credentials


def add_login_arguments(parser: argparse.ArgumentParser) -> None:
    """What such a command takes."""
    parser.add_argument(
        "--username", metavar="NAME", help="at the registry (what `docker login` wrote, if absent)"
    )
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from stdin (DUKOU_REMOTE_PASSWORD, if absent)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="speak to another machine without TLS"
    )


def read_login(arguments: argparse.Namespace) -> Credentials | None:
    """The user and password that were said; None where nothing was.

    Raises:
        InputError: `usage.invalid`: one without the other.
    """
    from dukou.base.errors import InputError
    from dukou.base.settings import resolve_setting
    from dukou.package.remotes.credentials import Credentials

    if arguments.username is None:
        if arguments.password_stdin:
            raise InputError("usage.invalid", "`--password-stdin` came without `--username`")
        return None
    if arguments.password_stdin:
        return Credentials(arguments.username, sys.stdin.readline().rstrip("\r\n"), "stdin")
    password = resolve_setting("remote_password")
    if password.value is None:
        raise InputError(
            "usage.invalid",
            f"`--username {arguments.username}` came without a password",
            hint="set DUKOU_REMOTE_PASSWORD, or pipe the password in with `--password-stdin`",
        )
    return Credentials(arguments.username, password.value, password.origin)


def show_traffic(traffic: Traffic) -> str:
    """What moved and what did not, in one line."""
    from dukou.cli.show import show_bytes

    return (
        f"moved {traffic.moved} blobs, {show_bytes(traffic.moved_bytes)}; "
        f"already there: {traffic.present} blobs, {show_bytes(traffic.present_bytes)}"
    )


def traffic_document(traffic: Traffic) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "moved": traffic.moved,
        "moved_bytes": traffic.moved_bytes,
        "present": traffic.present,
        "present_bytes": traffic.present_bytes,
    }
