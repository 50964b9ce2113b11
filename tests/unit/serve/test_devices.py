"""What `dukou devices` says of machines, told by the files that their kernels show."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.serve.devices import Offer, judge, look_for_hardware

CPU_ALONE = {"runtime": "1.32.0", "providers": ["AzureExecutionProvider", "CPUExecutionProvider"]}


def _machine(
    root: Path, *, pci: tuple[tuple[str, str, str], ...] = (), nodes: tuple[str, ...] = ()
) -> Path:
    """A file system that shows these PCI devices (vendor, device, class) and device nodes."""
    for index, (vendor, device, kind) in enumerate(pci):
        folder = root / "sys/bus/pci/devices" / f"0000:0{index}:00.0"
        folder.mkdir(parents=True)
        for name, text in (("vendor", vendor), ("device", device), ("class", kind)):
            (folder / name).write_text(f"0x{text}\n")
    for node in nodes:
        path = root / node.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def _offers(root: Path, **said: object) -> dict[str, Offer]:
    offers = judge({**CPU_ALONE, **said}, look_for_hardware(root))
    return {offer.provider.short: offer for offer in offers}


def test_a_bare_machine_has_the_cpu_and_says_what_lacks(tmp_path: Path) -> None:
    offers = _offers(tmp_path)
    assert offers["cpu"].state == "ready"
    for short in ("cuda", "tensorrt", "migraphx", "vitisai", "qnn", "openvino"):
        assert offers[short].state == "absent", short
        assert "looked at" in offers[short].says
    assert "`pip install onnxruntime-gpu`" in offers["cuda"].says
    assert "/dev/nvidia*" in offers["cuda"].says
    assert "/dev/xclmgmt*" in offers["vitisai"].says
    assert "AMD's Vitis AI" in offers["vitisai"].says
    assert offers["xnnpack"].state == "no-package"
    # What the runtime has and dukou does not know is shown all the same.
    assert offers["AzureExecutionProvider"].state == "ready"


def test_hardware_without_its_package(tmp_path: Path) -> None:
    card = ("10de", "2330", "030200")
    offers = _offers(_machine(tmp_path, pci=(card,), nodes=("/dev/nvidia0",)))
    for short in ("cuda", "tensorrt"):
        assert offers[short].state == "no-package"
        assert offers[short].devices == ("0000:00:00.0 (10de:2330)",)
        assert "onnxruntime-gpu" in offers[short].says
    assert offers["migraphx"].state == "absent"


def test_a_package_without_its_hardware(tmp_path: Path) -> None:
    offers = _offers(tmp_path, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert offers["cuda"].state == "no-device"
    assert "no device is here" in offers["cuda"].says


def test_a_card_without_its_node_is_a_container_without_its_device(tmp_path: Path) -> None:
    card = ("10de", "2330", "030200")
    said = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    offer = _offers(_machine(tmp_path, pci=(card,)), providers=said)["cuda"]
    assert offer.state == "no-device"
    assert "none of its device nodes" in offer.says
    assert "container" in offer.says


@pytest.mark.parametrize(
    ("pci", "nodes", "short"),
    [
        (("10de", "2330", "030200"), "/dev/nvidia0", "tensorrt"),
        (("1002", "740f", "120000"), "/dev/kfd", "migraphx"),
        (("10ee", "5000", "120000"), "/dev/xclmgmt256", "vitisai"),
        (("1022", "1502", "118000"), "/dev/accel/accel0", "vitisai"),
        (("8086", "7d1d", "120000"), "/dev/accel/accel0", "openvino"),
        (("8086", "56c0", "038000"), "/dev/dri/renderD128", "openvino"),
        (("19e5", "d802", "120000"), "/dev/davinci0", "cann"),
        (None, "/dev/adsprpc-smd", "qnn"),
    ],
)
def test_each_kind_of_hardware_is_found(
    tmp_path: Path, pci: tuple[str, str, str] | None, nodes: str, short: str
) -> None:
    root = _machine(tmp_path, pci=(pci,) if pci else (), nodes=(nodes,))
    names = {offer.provider.short: offer.provider.name for offer in _offers(root).values()}
    offer = _offers(root, providers=[names[short], "CPUExecutionProvider"])[short]
    assert offer.state == "ready", offer
    assert offer.devices
    assert _offers(root)[short].state == "no-package"


def test_a_plugin_s_devices_count_and_one_that_finds_none_says_so(tmp_path: Path) -> None:
    device = {"provider": "OpenVINOExecutionProvider", "kind": "cpu", "vendor": "GenuineIntel"}
    offer = _offers(tmp_path, devices=[{**device, "says": "ov_device=CPU"}])["openvino"]
    assert offer.state == "ready"
    assert offer.devices == ("cpu of GenuineIntel ov_device=CPU",)
    plugin = {"path": "/x/libonnxruntime_providers_openvino_plugin.so", "problem": None}
    offer = _offers(tmp_path, plugins=[plugin])["openvino"]
    assert "finds no device of its own" in offer.says
    offer = _offers(tmp_path, plugins=[{**plugin, "problem": "no such file"}])["openvino"]
    assert "cannot be loaded: no such file" in offer.says
