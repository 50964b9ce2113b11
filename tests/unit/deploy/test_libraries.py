"""What a program needs where nothing is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dukou.base.errors import RemoteError
from dukou.deploy.libraries import find_libraries, find_loader
from dukou.serve.find import find_engine, find_runtime


def test_everything_that_the_engine_and_the_runtime_need() -> None:
    found = find_libraries(find_engine(), [find_runtime()])
    assert {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1"} <= set(found)
    loader = find_loader(find_engine())
    assert found[loader.name] == loader.resolve()
    assert all(path.is_file() and not path.is_symlink() for path in found.values())
    assert not [name for name in found if "/" in name or "vdso" in name]


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + bytes(80)])
def test_what_is_no_program(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(content)
    with pytest.raises(RemoteError) as refused:
        find_loader(path)
    assert refused.value.code == "standalone.library-missing"
    assert str(path) in refused.value.message


def test_a_library_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "libbroken.so"
    broken.write_bytes(Path(sys.executable).resolve().read_bytes()[:4096])
    with pytest.raises(RemoteError) as refused:
        find_libraries(find_engine(), [broken])
    assert "libbroken.so" in refused.value.message
