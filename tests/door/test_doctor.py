"""`dukou doctor`: a sound installation is well, each thing that is broken is said, nothing is changed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.registry_house import move_alias, publish
from tests.serving import House, wait_until, write_model

from dukou.lifecycle.doctor import (
    _EXTRAS,
    check_variables,
    find_cjk_font,
    read_cpu_limit,
    read_memory_limit,
)
from dukou.registry.registry import Registry

ROOT = Path(__file__).resolve().parents[2]


def _examine(house: House, status: int) -> list[dict[str, Any]]:
    done = house.dukou("doctor", "--json")
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr == ""
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return findings


def _of(findings: list[dict[str, Any]], topic: str, level: str) -> dict[str, Any]:
    found = [f for f in findings if (f["topic"], f["level"]) == (topic, level)]
    assert found, findings
    return found[0]


def _snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(p): (p.lstat().st_size, p.lstat().st_mtime_ns, p.lstat().st_mode)
        for p in [folder, *folder.rglob("*")]
    }


@pytest.fixture
def published(house: House, tmp_path: Path) -> House:
    house.home.mkdir(mode=0o700)
    publish(house, tmp_path, seed=1)
    move_alias(house, 1)
    return house


def test_a_machine_where_dukou_was_never_used(house: House) -> None:
    findings = _examine(house, 0)
    assert {f["level"] for f in findings} <= {"ok", "warning"}
    topics = {f["topic"] for f in findings}
    assert {
        "python",
        "engine",
        "runtime",
        "extras",
        "home",
        "disk",
        "servers",
        "machine",
        "time",
    } <= topics
    # Nothing was made: neither the home nor the folder for sockets.
    assert not house.home.exists()
    assert list(house.home.parent.iterdir()) == []


def test_a_sound_installation_is_well_and_stays_as_it_is(published: House) -> None:
    before = _snapshot(published.home)
    findings = _examine(published, 0)
    assert "1 model, 1 version; the audit chain verifies" in _of(findings, "registry", "ok")["says"]
    assert _of(findings, "store", "ok") and _of(findings, "keys", "ok")
    assert _snapshot(published.home) == before
    shown = published.dukou("doctor", "--quiet")
    assert shown.returncode == 0
    assert "ok       registry" not in shown.stdout


def _break_blob(home: Path) -> None:
    blobs = sorted((home / "store" / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    blobs[-1].unlink()


def _cut_blob(home: Path) -> None:
    blobs = sorted((home / "store" / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    blobs[-1].chmod(0o644)
    blobs[-1].write_bytes(blobs[-1].read_bytes()[:-1])


def _forge_event(home: Path) -> None:
    import sqlite3

    with sqlite3.connect(home / "registry.db") as database:
        database.execute("UPDATE audit_events SET actor = 'nobody' WHERE sequence = 1")
    database.close()


def _make_newer(home: Path) -> None:
    import sqlite3

    with sqlite3.connect(home / "registry.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()


def _lose_key(home: Path) -> None:
    (home / "keys" / "signing.pem").unlink()


def _show_key(home: Path) -> None:
    (home / "keys" / "signing.pem").chmod(0o644)


def _overwrite_registry(home: Path) -> None:
    for file in home.glob("registry.db*"):
        file.unlink()
    (home / "registry.db").write_bytes(b"not a database" * 100)


def _bad_trust(home: Path) -> None:
    (home / "trust" / "other.pem").write_text("no key")


@pytest.mark.parametrize(
    ("damage", "topic", "code"),
    [
        (_break_blob, "store", "package.incomplete"),
        (_cut_blob, "store", "package.digest-mismatch"),
        (_forge_event, "registry", "registry.audit-broken"),
        (_make_newer, "registry", "registry.unreadable"),
        (_overwrite_registry, "registry", "registry.unreadable"),
        (_lose_key, "keys", "trust.missing-key"),
        (_show_key, "keys", None),
        (_bad_trust, "keys", "config.invalid"),
    ],
)
def test_what_is_broken_is_said_with_a_remedy(
    published: House, damage: Any, topic: str, code: str | None
) -> None:
    damage(published.home)
    finding = _of(_examine(published, 1), topic, "problem")
    assert finding["code"] == code
    assert finding["remedy"]
    shown = published.dukou("doctor")
    assert shown.returncode == 1
    assert "Traceback" not in shown.stdout + shown.stderr
    assert "PROBLEM" in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith("1 problem")


def test_a_byte_that_changed_is_found_where_every_byte_is_read(published: House) -> None:
    blobs = published.home / "store" / "blobs" / "sha256"
    leaf = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    leaf.chmod(0o644)
    leaf.write_bytes(leaf.read_bytes()[:-1] + b"\0")
    _of(_examine(published, 0), "store", "ok")
    done = published.dukou("doctor", "--full", "--json")
    assert done.returncode == 1
    finding = _of(json.loads(done.stdout)["findings"], "store", "problem")
    assert finding["code"] == "package.digest-mismatch" and leaf.name in finding["says"]


def test_a_home_that_others_can_read(published: House) -> None:
    published.home.chmod(0o755)
    finding = _of(_examine(published, 0), "home", "warning")
    assert "755" in finding["says"] and "chmod 700" in finding["remedy"]


def test_programs_that_are_not_there(house: House) -> None:
    house.environment["DUKOU_ENGINE"] = "/nowhere/engine"
    house.environment["ORT_DYLIB_PATH"] = "/etc/passwd"
    assert _of(_examine(house, 1), "engine", "problem")["code"] == "engine.not-found"
    del house.environment["DUKOU_ENGINE"]
    findings = _examine(house, 1)
    assert _of(findings, "runtime", "problem")["code"] == "engine.runtime-missing"


def test_an_engine_that_cannot_run(house: House, tmp_path: Path) -> None:
    """What the loader says is what helps: here, on a machine with an older C library."""
    engine = tmp_path / "engine"
    said = "libc.so.6: version GLIBC_2.38 not found (required by dukou-engine)"
    engine.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 1\n')
    engine.chmod(0o700)
    house.environment["DUKOU_ENGINE"] = str(engine)
    finding = _of(_examine(house, 1), "engine", "problem")
    assert "does not say what it is: it ended with status 1 and said: libc.so.6" in finding["says"]
    assert "GLIBC_2.38" in finding["says"]
    served = house.dukou("serve", write_model(tmp_path / "m.onnx"), "--port", "0")
    assert served.returncode == 6
    assert "GLIBC_2.38" in served.stderr.splitlines()[0]


def test_a_clock_that_is_behind_the_registrys(published: House) -> None:
    assert not [
        f for f in _examine(published, 0) if (f["topic"], f["level"]) == ("time", "warning")
    ]
    later = datetime.now(UTC) + timedelta(days=400)
    with Registry.open(published.home, clock=lambda: later) as registry:
        registry.set_alias("chain", "challenger", 1, expected=None)
    finding = _of(_examine(published, 0), "time", "warning")
    assert later.isoformat()[:19] in finding["says"] and "clock is wrong" in finding["remedy"]


@pytest.mark.timeout(90)
def test_servers(house: House, tmp_path: Path) -> None:
    with house.serving(write_model(tmp_path / "m.onnx")) as server:
        said = _of(_examine(house, 0), "servers", "ok")["says"]
        assert server.url in said and "answers" in said
        folder = Path(server.facts["socket"]).parent
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(30)
    wait_until(lambda: not (folder / "engine.sock").exists(), "the engine's end")
    # What a killed supervisor left is a warning, and the diagnosis leaves it there.
    finding = _of(_examine(house, 0), "servers", "warning")
    assert folder.name in finding["says"]
    assert folder.is_dir()


def test_the_project_of_the_folder(house: House, tmp_path: Path, monkeypatch: Any) -> None:
    project = tmp_path / "iris"
    assert house.dukou("init", project, "--example", "digits").returncode == 0
    monkeypatch.chdir(project)
    assert "`iris`" in _of(_examine(house, 0), "project", "ok")["says"]
    file = project / "dukou.toml"
    file.write_text(file.read_text().replace("[data]", "[dta]"))
    finding = _of(_examine(house, 1), "project", "problem")
    assert finding["code"] == "project.invalid"
    assert "data" in finding["remedy"]


def test_another_database_that_cannot_be_reached(house: House) -> None:
    house.home.mkdir(mode=0o700)
    for url in ("nonsense", "oracle+nodriver://h/x", "sqlite:////nowhere/at/all.db"):
        house.environment["DUKOU_REGISTRY"] = url
        assert _of(_examine(house, 1), "registry", "problem")["code"] == "registry.unreadable"
    house.environment["DUKOU_REGISTRY"] = "postgresql://u:secret@nowhere.invalid/x"
    done = house.dukou("doctor", "--json")
    assert "secret" not in done.stdout


def test_a_home_that_cannot_be(house: House) -> None:
    for home in ("/etc/passwd", "/etc/passwd/home", "/tmp/" + "x" * 300):
        house.environment["DUKOU_HOME"] = home
        findings = _examine(house, 1)
        assert _of(findings, "home", "problem")["remedy"]
        assert not any("failed itself" in f["says"] for f in findings)


def test_every_extra_of_the_package_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(_EXTRAS) == set(project["optional-dependencies"])


def test_every_variable_that_is_read_is_known() -> None:
    sources = [*(ROOT / "python" / "dukou").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    said = {n for p in sources for n in re.findall(r'"(DUKOU_[A-Z_]+)"', p.read_text("utf-8"))}
    assert "DUKOU_HOME" in said
    unknown = [f.says for f in check_variables(dict.fromkeys(said, "x")) if f.level != "ok"]
    assert not unknown, "add it to SETTINGS, or to _OTHER_VARIABLES of lifecycle/doctor.py"


def test_unknown_variables() -> None:
    findings = list(check_variables({"DUKOU_HOMW": "x", "DUKOU_HOME": "y", "PATH": "z"}))
    assert [(f.level, f.remedy) for f in findings] == [("warning", "did you mean `DUKOU_HOME`?")]
    [well] = check_variables({"DUKOU_HOME": "y"})
    assert well.level == "ok"


@pytest.mark.parametrize(
    ("files", "own", "cpus", "memory"),
    [
        ({"cpu.max": "150000 100000", "memory.max": "1000"}, "0::/", 1.5, 1000),
        ({"cpu.max": "max 100000", "memory.max": "max"}, "0::/", None, None),
        (
            {
                "cpu.max": "max 100000",
                "a/cpu.max": "400000 100000",
                "a/b/cpu.max": "max 100000",
                "a/memory.max": "500",
            },
            "0::/a/b",
            4.0,
            500,
        ),
        (
            {
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "cpu/x/cpu.cfs_quota_us": "50000",
                "cpu/x/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9000",
            },
            "3:cpu,cpuacct:/x\n4:memory:/",
            0.5,
            9000,
        ),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path, files: dict[str, str], own: str, cpus: float | None, memory: int | None
) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    assert read_cpu_limit(tmp_path / "cgroup", tmp_path / "own") == cpus
    assert read_memory_limit(tmp_path / "cgroup", tmp_path / "own") == memory


def test_a_font_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "dejavu").mkdir()
    (tmp_path / "dejavu" / "DejaVuSans.ttf").touch()
    assert find_cjk_font([tmp_path]) is None
    (tmp_path / "NotoSansCJK-Regular.ttc").touch()
    assert find_cjk_font([tmp_path / "none", tmp_path]) == tmp_path / "NotoSansCJK-Regular.ttc"


def test_a_home_in_a_chinese_folder(published: House, tmp_path: Path) -> None:
    home = tmp_path / "家 目录" / "渡口#1?"
    shutil.copytree(published.home, home)
    home.chmod(0o700)
    published.environment["DUKOU_HOME"] = str(home)
    assert str(home) in _of(_examine(published, 0), "registry", "ok")["says"]
