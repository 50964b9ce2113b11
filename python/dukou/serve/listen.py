"""Listening sockets: opened once by whoever starts an engine, and outliving every engine."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError, StateError, TrustError

# While an engine restarts, connections wait here; Python's default of 128 would refuse them.
BACKLOG = 4096


def open_listener(host: str, port: int, *, guarded: bool = False) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Off loopback only where the door is guarded.

    No `SO_REUSEPORT`: a second server on the same port is a mistake, and connections that the kernel
    gave to a member of such a group are lost with it.

    Raises:
        TrustError: `access.off-loopback`: other machines reach the address, and nothing guards it.
        StateError: `server.port-in-use`, naming the program where it can be seen.
        InputError: `usage.invalid`: no such address.
    """
    family, address = _resolve(host, port, guarded=guarded)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        shown = f"{_shown_host(str(address[0]))}:{port}"
        if error.errno == errno.EADDRINUSE:
            holder = _holder_of(port)
            raise StateError(
                "server.port-in-use", f"`{shown}` is taken{f' by {holder}' if holder else ''}"
            ) from error
        if error.errno == errno.EACCES:
            raise InputError(
                "usage.invalid",
                f"this user may not listen on port {port}",
                hint="choose a port from 1024 up",
            ) from error
        raise InputError(
            "usage.invalid", f"cannot listen on `{shown}`: {error.strerror}"
        ) from error
    return listener


def open_listeners(
    host: str, ports: Mapping[str, int], *, guarded: bool = False
) -> dict[str, socket.socket]:
    """One listening socket for each name, all of them or none.

    Raises:
        DukouError: as `open_listener`.
    """
    opened: dict[str, socket.socket] = {}
    try:
        for name, port in ports.items():
            opened[name] = open_listener(host, port, guarded=guarded)
    except BaseException:
        for listener in opened.values():
            listener.close()
        raise
    return opened


def address_of(listener: socket.socket, scheme: str = "http") -> str:
    """`http://127.0.0.1:8080`; of a listener on every address, the one on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://{_shown_host(host)}:{port}"


def is_loopback(host: str) -> bool:
    """Whether no other machine reaches what listens on this address.

    Raises:
        InputError: `usage.invalid`: no such address.
    """
    return all(_is_loopback(str(address[0])) for *_, address in _addresses(host, 0))


def _addresses(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        return list(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        )
    except (OSError, UnicodeError) as error:
        raise InputError("usage.invalid", f"`{host}` is not an address of this machine") from error


def _resolve(
    host: str, port: int, *, guarded: bool
) -> tuple[socket.AddressFamily, tuple[str, int]]:
    if not 0 <= port <= 65535:
        raise InputError("usage.invalid", f"`{port}` is not a port; ports are 0 to 65535")
    found = _addresses(host, port)
    for *_, address in found:
        if not guarded and not _is_loopback(str(address[0])):
            raise TrustError(
                "access.off-loopback",
                f"`{host}` can be reached from other machines, and neither TLS and keys nor "
                "`--insecure` were asked for",
            )
    family, _, _, _, address = found[0]
    return family, (str(address[0]), port)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _holder_of(port: int) -> str | None:
    """The program that listens on a port, where /proc shows it to this user."""
    wanted = _listening_inodes(port)
    if not wanted:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) in wanted:
                    name = (process / "comm").read_text(encoding="utf-8").strip()
                    return f"process {process.name} (`{name}`)"
        except OSError:
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            # local address, state (0A listens), inode
            if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{columns[9]}]")
    return inodes
