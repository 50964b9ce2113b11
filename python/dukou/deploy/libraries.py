"""Which shared libraries a program needs to run where there is none: the C library and what stands on it.

The program's own loader says which files it would take (`ld.so --list`, what `ldd` runs): its search
path, its cache and its rules are its own, and this machine's answer is the one that was tested.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from dukou.base.errors import RemoteError

_PT_INTERP = 3
# `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f…)`
_FOUND = re.compile(r"\s*(?P<name>\S+) => (?P<path>/\S+) \(0x[0-9a-f]+\)\Z")
_ABSENT = re.compile(r"\s*(?P<name>\S+) => not found\Z")


def find_libraries(program: Path, libraries: Iterable[Path]) -> dict[str, Path]:
    """Every file that `program` and the libraries that it opens later need, loader included.

    Args:
        program: a dynamically linked ELF program.
        libraries: what it opens while it runs.

    Returns:
        The name under which each is looked for → the file; the loader under its file's own name.

    Raises:
        RemoteError: `standalone.library-missing`.
    """
    loader = find_loader(program)
    found = {loader.name: loader.resolve()}
    for one in (program, *libraries):
        found |= _needed(loader, one)
    return dict(sorted(found.items()))


def find_loader(program: Path) -> Path:
    """The dynamic loader that a program names; source: the ELF specification, `PT_INTERP`.

    Raises:
        RemoteError: `standalone.library-missing`: it is not such a program.
    """
    with program.open("rb") as file:
        head = file.read(64)
        if head[:6] == b"\x7fELF\x02\x01" and len(head) == 64:
            offset, size, count = (
                struct.unpack_from("<Q", head, 32)[0],
                *struct.unpack_from("<HH", head, 54),
            )
            file.seek(offset)
            table = file.read(size * count)
            for at in range(0, len(table) - 55, size or 56):
                kind, _, where, _, _, length = struct.unpack_from("<IIQQQQ", table, at)
                if kind == _PT_INTERP:
                    file.seek(where)
                    return Path(file.read(length).rstrip(b"\0").decode())
    raise RemoteError(
        "standalone.library-missing",
        f"`{program}` is no dynamically linked 64-bit program, so that nobody says what it needs",
    )


def _needed(loader: Path, file: Path) -> dict[str, Path]:
    asked = subprocess.run(
        [loader, "--list", file],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C"},
        timeout=60,
    )
    found: dict[str, Path] = {}
    for line in asked.stdout.splitlines():
        if absent := _ABSENT.match(line):
            raise RemoteError(
                "standalone.library-missing",
                f"`{file}` needs `{absent['name']}`, which is not on this machine",
            )
        if match := _FOUND.match(line):
            found[match["name"]] = Path(match["path"]).resolve()
    if asked.returncode != 0 or not found:
        said = (asked.stderr or asked.stdout).strip()
        raise RemoteError(
            "standalone.library-missing",
            f"`{loader} --list {file}` does not say what is needed: {said or 'nothing'}",
        )
    # A loader lists itself by its path where something needs it by name.
    return {name: path for name, path in found.items() if name != str(loader)}
