"""Finds the programs that serving and measuring need, and ONNX Runtime's library for the engine."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from dukou.base.errors import RemoteError
from dukou.base.settings import resolve_setting

PROGRAM = "dukou-engine"
LOAD_PROGRAM = "dukou-load"
# Where a folder that somebody names may have the runtime's library: `pip install --target`, an
# environment, a release of ONNX Runtime.
_RUNTIME_PLACES = (
    ".",
    "capi",
    "onnxruntime/capi",
    "lib/python*/site-packages/onnxruntime/capi",
    "lib",
)
# Packages with plugins of ONNX Runtime.
_PLUGINS = ("onnxruntime_ep_openvino",)


def find_engine(flag: str | None = None) -> Path:
    """The engine's program: named by `flag` or `DUKOU_ENGINE`, else the installed one, else a build.

    Raises:
        RemoteError: `engine.not-found`, with every place that was looked at.
    """
    said = resolve_setting("engine", flag)
    if said.value is not None:
        named = Path(said.value).expanduser().absolute()
        if _is_program(named):
            return named
        raise RemoteError(
            "engine.not-found", f"{said.origin} names `{named}`, and no program is there"
        )
    looked_at: dict[Path, None] = {}
    for place in _places():
        if _is_program(place):
            return place
        looked_at[place.parent] = None
    looked = ", ".join(f"`{folder}`" for folder in looked_at)
    raise RemoteError("engine.not-found", f"there is no `{PROGRAM}` in {looked}")


def find_load() -> Path:
    """The load generator, which is installed and built beside the engine.

    Raises:
        RemoteError: `engine.not-found`.
    """
    places = [find_engine().with_name(LOAD_PROGRAM), *_places(LOAD_PROGRAM)]
    for place in places:
        if _is_program(place):
            return place
    looked = ", ".join(f"`{folder}`" for folder in dict.fromkeys(p.parent for p in places))
    raise RemoteError("engine.not-found", f"there is no `{LOAD_PROGRAM}` in {looked}")


def find_runtime(flag: str | None = None) -> Path:
    """ONNX Runtime's shared library, of the installed `onnxruntime` unless another is named: its file, or a
    folder that it was installed in.

    The package is looked up, not imported: that would take half a second and 50 MB.

    Raises:
        RemoteError: `engine.runtime-missing`.
    """
    said = resolve_setting("runtime", flag)
    if said.value is not None:
        named = Path(said.value).expanduser().absolute()
        if named.is_file():
            return named
        for place in _RUNTIME_PLACES if named.is_dir() else ():
            libraries = sorted(named.glob(f"{place}/libonnxruntime.so*"))
            if libraries:
                return libraries[-1]
        raise RemoteError(
            "engine.runtime-missing",
            f"{said.origin} names `{named}`, and no library of ONNX Runtime is there",
        )
    spec = importlib.util.find_spec("onnxruntime")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise RemoteError(
            "engine.runtime-missing",
            f"`onnxruntime` is not installed in the environment of `{sys.executable}`",
        )
    for folder in folders:
        libraries = sorted(Path(folder, "capi").glob("libonnxruntime.so*"))
        if libraries:
            return libraries[-1]
    raise RemoteError(
        "engine.runtime-missing",
        f"`onnxruntime` is installed in `{folders[0]}`, without `capi/libonnxruntime.so*`",
    )


def find_plugins() -> tuple[Path, ...]:
    """Libraries of installed packages that bring execution providers to the installed runtime.

    The packages are looked up, not imported.
    """
    found = []
    for package in _PLUGINS:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            found += sorted(Path(folder).glob("libonnxruntime_providers_*_plugin.so"))
    return tuple(found)


def _places(program: str = PROGRAM) -> Iterator[Path]:
    yield Path(sys.executable).parent / program
    # Asking for the scripts' folder reads the interpreter's build settings: only when needed.
    import sysconfig

    yield Path(sysconfig.get_path("scripts")) / program
    # `pip install --user` puts programs beside neither.
    yield Path(sysconfig.get_path("scripts", f"{os.name}_user")) / program
    checkout = Path(__file__).parents[3]
    if (checkout / "Cargo.toml").is_file():
        for build in ("release", "debug"):
            yield checkout / "target" / build / program


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
