"""What this machine and the installed runtime offer a model to run on, and what is missing where not.

The runtime is asked by the engine itself, which is what will load it; hardware is looked for where
the kernel shows it. Nothing is opened, nothing is run on a device.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dukou.base.errors import RemoteError
from dukou.deploy.providers import PROVIDERS, Provider, short_name

_NVIDIA, _AMD, _INTEL, _XILINX, _AMD_CPU = "0x10de", "0x1002", "0x8086", "0x10ee", "0x1022"
_HUAWEI = "0x19e5"
# The first two digits of a PCI device's class: what it is.
_DISPLAY, _PROCESSING = "03", "12"


class Found(NamedTuple):
    """Hardware of one kind that was looked for.

    Attributes:
        kind: as providers need it.
        devices: what was found, in words.
        looked: where.
        missing: why what was found cannot be used; empty where it can.
    """

    kind: str
    devices: tuple[str, ...]
    looked: str
    missing: str = ""


class Offer(NamedTuple):
    """What became of one provider.

    Attributes:
        provider: which.
        state: `ready`; `no-device` (the runtime has it, the machine not what it needs); `no-package`
            (the machine has the hardware, the runtime not the provider); `absent`, neither.
        says: in a sentence, with what to do.
        devices: what it would run on.
    """

    provider: Provider
    state: str
    says: str
    devices: tuple[str, ...] = ()


def ask_engine(engine: Path, runtime: Path, plugins: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What the engine says of itself with this runtime and these plugins (`--hello`).

    Raises:
        RemoteError: `engine.no-start`: it cannot be run, or does not say.
    """
    command: list[str | Path] = [engine, "--hello", "--runtime", runtime]
    for plugin in plugins:
        command += ["--plugin", plugin]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        said = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise RemoteError(
            "engine.no-start", f"`{engine}` does not say what it has: {error}"
        ) from error
    return said if isinstance(said, dict) else {}


def look_for_hardware(root: Path = Path("/")) -> dict[str, Found]:
    """What the kernel shows of each kind of hardware that a provider may need.

    Args:
        root: of the file system that is looked at.
    """
    return {kind: look(root) for kind, look in _LOOKS.items()}


def judge(said: Mapping[str, Any], hardware: Mapping[str, Found]) -> list[Offer]:
    """What became of every provider that dukou knows, and of those that the runtime has besides.

    Args:
        said: `ask_engine()`.
        hardware: `look_for_hardware()`.
    """
    built_in = {str(name) for name in said.get("providers", [])}
    plugged: dict[str, list[str]] = {}
    for device in said.get("devices", []):
        shown = f"{device['kind']} of {device['vendor']} {device['says']}".strip()
        plugged.setdefault(str(device["provider"]), []).append(shown)
    offers = [_judge(p, built_in, plugged.get(p.name, []), said, hardware) for p in PROVIDERS]
    known = {provider.name for provider in PROVIDERS}
    for name in sorted((built_in | set(plugged)) - known):
        stranger = Provider(short_name(name), name, "what its maker says", "")
        says = "the runtime has it; dukou knows nothing of what it needs"
        offers.append(Offer(stranger, "ready", says, tuple(plugged.get(name, []))))
    return offers


def _judge(
    provider: Provider,
    built_in: set[str],
    plugged: list[str],
    said: Mapping[str, Any],
    hardware: Mapping[str, Found],
) -> Offer:
    found = hardware.get(provider.needs)
    if plugged and provider.name not in built_in:
        return Offer(provider, "ready", "by its plugin", tuple(plugged))
    offered = provider.name in built_in
    if found is None:
        if offered:
            return Offer(provider, "ready", "the runtime has it")
        return Offer(provider, "no-package", f"not in this runtime: {provider.brought_by}")
    looked = f"looked at {found.looked}"
    usable = bool(found.devices) and not found.missing
    if offered and (usable or provider.short == "openvino"):
        # OpenVINO's own build takes any x86 processor, its maker's or not.
        return Offer(provider, "ready", "the runtime has it", found.devices)
    if found.missing:
        return Offer(provider, "no-device", found.missing, found.devices)
    if offered:
        return Offer(provider, "no-device", f"the runtime has it, and no device is here: {looked}")
    problem = _plugin_problem(provider, said)
    if usable:
        says = problem or f"not in this runtime: {provider.brought_by}"
        return Offer(provider, "no-package", says, found.devices)
    without = problem or f"not in this runtime ({provider.brought_by})"
    return Offer(provider, "absent", f"{without}, and no device is here: {looked}")


def _plugin_problem(provider: Provider, said: Mapping[str, Any]) -> str:
    """What became of an installed plugin that brings this provider; empty where there is none."""
    for plugin in said.get("plugins", []):
        path = Path(str(plugin["path"]))
        if provider.short not in path.name.lower():
            continue
        if plugin.get("problem"):
            return f"its plugin `{path}` cannot be loaded: {plugin['problem']}"
        return f"its plugin `{path.name}` is installed and finds no device of its own here"
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _pci(root: Path, vendor: str, *classes: str) -> Iterator[str]:
    """`0000:01:00.0 (10de:2330)` of each PCI device of a vendor and of these classes (all, where none)."""
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        kind = _read(device / "class").removeprefix("0x")
        if _read(device / "vendor") == vendor and (not classes or kind.startswith(classes)):
            number = _read(device / "device").removeprefix("0x")
            yield f"{device.name} ({vendor.removeprefix('0x')}:{number})"


def _nodes(root: Path, *patterns: str) -> tuple[str, ...]:
    """Device nodes, as paths of the machine itself."""
    found = (path for pattern in patterns for path in sorted(root.glob(pattern)))
    return tuple(f"/{path.relative_to(root)}" for path in found)


def _with_nodes(
    kind: str, devices: tuple[str, ...], nodes: tuple[str, ...], looked: str, driver: str
) -> Found:
    """Hardware that programs reach by device nodes: where it is seen and has none, that is what is missing."""
    if devices and not nodes:
        missing = (
            f"{devices[0]} is there, and none of its device nodes ({looked}): {driver}, or hand the "
            "device to this container"
        )
        return Found(kind, devices, looked, missing)
    return Found(kind, devices or nodes, looked)


def _nvidia(root: Path) -> Found:
    cards = tuple(_pci(root, _NVIDIA, _DISPLAY))
    nodes = _nodes(root, "dev/nvidia[0-9]*")
    looked = "/dev/nvidia* and PCI vendor 10de"
    return _with_nodes("nvidia", cards, nodes, looked, "install NVIDIA's driver")


def _amd_gpu(root: Path) -> Found:
    cards = tuple(_pci(root, _AMD, _DISPLAY, _PROCESSING))
    nodes = _nodes(root, "dev/kfd")
    return _with_nodes(
        "amd-gpu", cards, nodes, "/dev/kfd and PCI vendor 1002", "install AMD's ROCm driver"
    )


def _xilinx(root: Path) -> Found:
    boards = (*_pci(root, _XILINX), *_pci(root, _AMD_CPU, "1180", _PROCESSING))
    nodes = _nodes(root, "dev/xclmgmt*", "dev/xfpga/*", "dev/accel/accel*", "dev/dri/renderD*")
    looked = "/dev/xclmgmt*, /dev/accel/* and PCI vendors 10ee and 1022 (NPU)"
    if not boards:
        # A render node alone is some GPU's.
        return Found("xilinx", _nodes(root, "dev/xclmgmt*", "dev/xfpga/*"), looked)
    return _with_nodes("xilinx", boards, nodes, looked, "install AMD's XRT driver")


def _intel(root: Path) -> Found:
    looked = "/proc/cpuinfo, /dev/dri, /dev/accel and PCI vendor 8086"
    devices = []
    if "GenuineIntel" in _read(root / "proc/cpuinfo"):
        devices.append("a processor of Intel")
    if _nodes(root, "dev/dri/renderD*"):
        devices += [f"GPU {card}" for card in _pci(root, _INTEL, _DISPLAY)]
    if _nodes(root, "dev/accel/accel*"):
        devices += [f"NPU {card}" for card in _pci(root, _INTEL, _PROCESSING)]
    return Found("intel", tuple(devices), looked)


def _qualcomm(root: Path) -> Found:
    nodes = _nodes(root, "dev/adsprpc*", "dev/fastrpc*")
    return Found("qualcomm", nodes, "/dev/adsprpc* and /dev/fastrpc*")


def _ascend(root: Path) -> Found:
    cards = tuple(_pci(root, _HUAWEI, _PROCESSING))
    nodes = _nodes(root, "dev/davinci[0-9]*")
    looked = "/dev/davinci* and PCI vendor 19e5"
    return _with_nodes("ascend", cards, nodes, looked, "install Huawei's driver")


def _apple(_root: Path) -> Found:
    here = (f"a processor of Apple ({platform.machine()})",) if sys.platform == "darwin" else ()
    return Found("apple", here, f"the system, which is {platform.system()}")


def _windows(_root: Path) -> Found:
    here = ("Windows",) if sys.platform == "win32" else ()
    return Found("windows", here, f"the system, which is {platform.system()}")


_LOOKS: dict[str, Callable[[Path], Found]] = {
    "nvidia": _nvidia,
    "amd-gpu": _amd_gpu,
    "xilinx": _xilinx,
    "intel": _intel,
    "qualcomm": _qualcomm,
    "ascend": _ascend,
    "apple": _apple,
    "windows": _windows,
}
