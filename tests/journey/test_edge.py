"""A device: its folder, updates by what changed, versions that it does not take, and a world out of reach."""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dukou.edge.collect import collecting
from dukou.trust.certificate import ensure_certificate
from tests import edge, serving
from tests.artifacts import make_layers
from tests.edge import answer, publish, running, status, until
from tests.oci_registry import PASSWORD, USER, OciRegistry, oci_registry

WIDE = 512
ROW = [0.5] * 8


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def push(house: serving.House, registry: OciRegistry, reference: str = "chain") -> None:
    done = house.dukou("push", reference, f"{registry.host}/devices/")
    assert done.returncode == 0, done.stderr


def blob_bytes(registry: OciRegistry) -> int:
    """Bytes of blobs that the registry has sent since it was last asked."""
    return sum(
        int(str(one["bytes"]))
        for one in registry.requests()
        if one["method"] == "GET" and "/blobs/" in str(one["path"]) and one["status"] in (200, 206)
    )


def took(folder: Path, code: str) -> Any:
    update = status(folder)["last_update"]
    return update is not None and update["code"] == code and update


@pytest.mark.timeout(240)
def test_a_device_lives_alone(tmp_path: Path) -> None:
    layers = make_layers(8, WIDE, WIDE, 4)
    folder = tmp_path / "device"
    port, report_port = free_port(), free_port()
    with serving.house() as house:
        publish(house, tmp_path / "one", layers)
        with oci_registry(tmp_path / "registry", port=port) as registry:
            push(house, registry)
            words = ("--from", f"{registry.host}/devices/", "--listen", "127.0.0.1:0")
            report = ("--report", f"http://127.0.0.1:{report_port}/", "--record", "1")
            done = house.dukou(
                "edge", "build", "chain", "--output", folder, "--every", "1", *words, *report
            )
            assert done.returncode == 0, done.stderr
            assert size_of(folder) <= 60e6
            assert not [path for path in folder.rglob("*") if path.suffix in (".py", ".pyc")]

            with running(folder) as device:
                assert device.ask(ROW)[0] == "1"
                assert resident(device.process.pid) <= 45e6

                # One layer of three is another: that layer travels, and little else.
                registry.requests()
                better = [layers[0], layers[1] * np.float32(1.5), layers[2]]
                publish(house, tmp_path / "two", better)
                push(house, registry)
                until(lambda: device.ask(ROW)[0] == "2", "version 2 does not come")
                np.testing.assert_allclose(device.ask(ROW)[1], answer(better, ROW), rtol=1e-4)
                moved = until(lambda: status(folder)["last_update"], "no update")["moved_bytes"]
                assert layers[1].nbytes <= moved <= 1.1 * layers[1].nbytes
                assert layers[1].nbytes <= blob_bytes(registry) <= 1.1 * layers[1].nbytes

                # Its golden samples are not reproduced: the version before serves on, and it is not
                # tried again.
                _, wrong = publish(house, tmp_path / "three", [*layers[:2], -layers[2]], off_by=1.0)
                push(house, registry)
                until(lambda: took(folder, "table.golden-mismatch"), "version 3 is not refused")
                assert [one["digest"] for one in status(folder)["refused"]] == [wrong.digest]
                assert device.ask(ROW)[0] == "2"
                registry.requests()
                polled = status(folder)["last_poll"]["time"]
                until(lambda: status(folder)["last_poll"]["time"] > polled + 1, "no more looks")
                assert blob_bytes(registry) == 0
                assert status(folder)["failed"] == 1

                # Nobody signed it: not a weight of it is fetched.
                unsigned = [*layers[:2], layers[2] * np.float32(3)]
                publish(house, tmp_path / "four", unsigned, signed=False)
                push(house, registry)
                until(lambda: took(folder, "trust.unsigned"), "version 4 is not refused")
                assert device.ask(ROW)[0] == "2"

                # What was moved back is taken up again from the other slot.
                house.dukou("push", "chain:1", f"{registry.host}/devices/", "--tag", "champion")
                until(lambda: device.ask(ROW)[0] == "1", "version 1 does not come back")
                waiting = folder / "state" / "report.jsonl"
                until(lambda: waiting.read_text().count('"installed":"sha256:') == 2, "no record")
                assert status(folder)["last_update"]["moved_bytes"] < 10_000

        # The registry is gone: answers go on, after a start too, and reports wait.
        with running(folder) as device:
            assert device.ask(ROW)[0] == "1"
            code = "remote.unreachable"
            until(lambda: status(folder)["last_poll"]["code"] == code, "nothing is missed")
            until(lambda: status(folder)["report"]["waiting"] >= 4, "no reports wait")
            assert status(folder)["report"]["dropped"] == 0
            assert device.ask(ROW)[0] == "1"
            shown = house.dukou("edge", "status", folder)
            assert shown.returncode == 0, shown.stderr
            assert re.search(r"looked .* ago: .*\[remote.unreachable\]", shown.stdout)

            with collecting(tmp_path / "reports.jsonl", report_port) as server:
                thread = threading.Thread(target=server.serve_forever)
                thread.start()
                until(lambda: status(folder)["report"]["waiting"] == 0, "reports wait on")
                server.shutdown()
                thread.join()
            assert device.stop() == 0
        check_reports(tmp_path / "reports.jsonl")


def check_reports(path: Path) -> None:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    ids = [record["id"] for record in records]
    assert len(ids) == len(set(ids))
    assert {record["device"] for record in records} == {"device"}
    assert len({record["epoch"] for record in records}) == 2
    events = [record["event"] for record in records if record["event"]]
    assert sum("installed" in event for event in events if isinstance(event, dict)) == 2
    codes = [event["code"] for event in events if isinstance(event, dict) and "code" in event]
    assert codes == ["table.golden-mismatch", "trust.unsigned"]
    first = [record for record in records if record["epoch"] == records[0]["epoch"]]
    assert first[-1]["requests"] >= 5
    assert sum(first[-1]["request_us"]["counts"]) == first[-1]["requests"]


def size_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def resident(pid: int) -> int:
    """Bytes that a process holds, but for pages of the runtime's library."""
    total, counted = 0, True
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counted = "libonnxruntime" not in line
        elif counted and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.timeout(120)
def test_by_tls_with_a_password_and_little_room(tmp_path: Path) -> None:
    """A registry that wants both, and a store that has room for one version only."""
    layers = make_layers(8, WIDE, WIDE, 4)
    folder = tmp_path / "device"
    pair = ensure_certificate(tmp_path / "access", "127.0.0.1")
    with serving.house() as house:
        house.environment |= {"DUKOU_CACERT": str(pair[0]), "DUKOU_REMOTE_PASSWORD": PASSWORD}
        publish(house, tmp_path / "one", layers)
        with oci_registry(tmp_path / "registry", tls=pair, password=True) as registry:
            login = ("--username", USER)
            remote = f"https://{registry.host}/devices/"
            words = ("--from", remote, "--listen", "127.0.0.1:0", "--every", "1", *login)
            bounds = ("--cacert", pair[0], "--store-size", "1500k", "--threads", "1")
            done = house.dukou("edge", "build", "chain", "--output", folder, *words, *bounds)
            assert done.returncode == 0, done.stderr
            assert (folder / "password").stat().st_mode & 0o777 == 0o600
            publish(house, tmp_path / "two", make_layers(8, WIDE, WIDE, 4, seed=8))
            assert house.dukou("push", "chain", remote, *login).returncode == 0
            with running(folder) as device:
                update = until(lambda: took(folder, "edge.no-room"), "nothing is refused")
                assert re.search(
                    r"needs \d+ bytes more, and the store.* has room for \d+", update["message"]
                )
                assert device.ask(ROW)[0] == "1"
            settings = json.loads((folder / "edge.json").read_text())
            (folder / "edge.json").write_text(json.dumps({**settings, "store_bytes": 0}))
            with running(folder) as device:
                until(lambda: device.ask(ROW)[0] == "2", "version 2 does not come")
            (folder / "password").write_text("another\n")
            with running(folder) as device:
                denied = "remote.denied"
                until(lambda: status(folder)["last_poll"]["code"] == denied, "nothing is denied")
                assert device.ask(ROW)[0] == "2"


def test_what_cannot_be_a_device_is_said(tmp_path: Path) -> None:
    with serving.house() as house:
        publish(house, tmp_path / "one", make_layers(4, 3))
        model = serving.write_model(tmp_path / "bare.onnx")
        share = tmp_path / "share"
        for words, said in (
            ((model, "--from", "127.0.0.1:1/a"), "one version of the registry"),
            (("chain", "--from", f"{share}/"), "is a folder"),
            (("chain", "--from", f"127.0.0.1:1/a@sha256:{'0' * 64}"), "one version for ever"),
            (("chain", "--every", "0"), "less than 1"),
            (("chain", "--bandwidth", "much"), "must be a size"),
            (("chain:9",), "[registry.unknown-version]"),
        ):
            refused = house.dukou("edge", "build", *words, "--output", tmp_path / "device")
            assert refused.returncode in (2, 3), refused.stderr
            assert said in refused.stderr, refused.stderr
            assert "hint:" in refused.stderr
        refused = house.dukou("edge", "status", tmp_path)
        assert (refused.returncode, "[edge.not-a-folder]" in refused.stderr) == (2, True)
        done = house.dukou("edge", "build", "chain", "--output", tmp_path / "still")
        assert done.returncode == 0, done.stderr
        (tmp_path / "still" / "edge.json").write_text("{}")
        refused = house.dukou("edge", "status", tmp_path / "still")
        assert "missing field" in refused.stderr


def test_two_agents_do_not_share_a_folder(tmp_path: Path) -> None:
    with serving.house() as house:
        publish(house, tmp_path / "one", make_layers(4, 3))
        words = ("--output", tmp_path / "device", "--listen", "127.0.0.1:0")
        done = house.dukou("edge", "build", "chain", *words)
        assert done.returncode == 0, done.stderr
    with running(tmp_path / "device") as device:
        assert device.ask([1.0] * 4)[0] == "1"
        with pytest.raises(AssertionError, match="another agent works"):
            edge.start(tmp_path / "device")
        assert status(tmp_path / "device")["running"] is True
