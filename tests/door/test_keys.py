"""`dukou keys`, and servers with TLS and keys as a person meets them."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.registry_house import move_alias, publish
from tests.secure import SecureClient, make_key, security_events
from tests.serving import BODY, House, wait_until, write_model

from dukou.registry.registry import Registry

KEY = r"dk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}"


def test_a_key_s_life(house: House) -> None:
    assert "no keys" in house.dukou("keys", "list").stdout
    with Registry.open(house.home):
        pass
    made = house.dukou(
        "keys", "add", "billing", "--model", "digits", "--rate", "10/min", "--expires", "90d"
    )
    assert made.returncode == 0, made.stderr
    first, second = made.stdout.splitlines()
    assert re.fullmatch(KEY, first)
    assert "predict digits" in second
    listed = house.dukou("keys", "list").stdout
    assert "billing" in listed
    assert "10/min" in listed
    assert first.split("_")[2] not in listed
    rotated = json.loads(
        house.dukou("keys", "rotate", "billing", "--overlap", "1h", "--json").stdout
    )
    assert rotated["key"] != first
    assert len(json.loads(house.dukou("keys", "list", "--json").stdout)["keys"]) == 2
    assert house.dukou("keys", "revoke", "billing").stdout.count("revoked `billing`") == 2
    with Registry.open(house.home) as registry:
        events = registry.audit_events()
        registry.verify_audit()
    assert [event.action for event in events] == [
        "key.added",
        "key.rotated",
        "key.revoked",
        "key.revoked",
    ]
    assert {event.subject for event in events} == {"key/billing"}
    told = json.dumps([dict(event.details) for event in events])
    assert first.split("_")[2] not in told
    assert stat.S_IMODE((house.home / "access" / "keys.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (["add", "a", "--role", "admin"], "usage.invalid", "admin"),
        (["add", "a", "--role", "read-metrics", "--model", "m"], "usage.invalid", "metrics"),
        (["add", "a/b"], "config.invalid", "a/b"),
        (["add", "a", "--rate", "fast"], "usage.invalid", "fast"),
        (["add", "a", "--rate", "0/s"], "usage.invalid", "0/s"),
        (["add", "a", "--burst", "5"], "usage.invalid", "--burst"),
        (["add", "a", "--expires", "soon"], "usage.invalid", "soon"),
        (["rotate", "nobody"], "access.unknown-key", "nobody"),
        (["revoke", "nobody"], "access.unknown-key", "nobody"),
    ],
)
def test_what_keys_cannot_be_told(house: House, words: list[str], code: str, word: str) -> None:
    done = house.dukou("keys", *words)
    assert done.returncode == 2, done.stderr
    first, second = done.stderr.splitlines()
    assert word in first
    assert first.endswith(f"[{code}]")
    assert second.startswith("hint: ")


def test_a_first_start_off_loopback_makes_what_it_needs(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    with house.serving("--host", "0.0.0.0", model) as server:
        assert server.url == f"https://127.0.0.1:{server.address[1]}"
        assert re.fullmatch(KEY, server.facts["key"])
        certificate = Path(server.facts["certificate"])
        assert stat.S_IMODE(certificate.with_suffix(".key").stat().st_mode) == 0o600
        with SecureClient(server) as client:
            assert client.ask("GET", "/metrics").status == 401
            metrics = client.ask("GET", "/metrics", key=server.facts["key"])
            assert b'dukou_security_events_total{code="access.no-key"} 1' in metrics.body
        # From a terminal: the key by flag or environment, the certificate found where it was made.
        words = ["predict", "m", "[[1, 2, 3, 4]]", "--json"]
        asked = house.dukou(*words, "--key", server.facts["key"])
        assert asked.returncode == 0, asked.stderr
        asked = house.dukou(*words, "--url", server.url)
        assert asked.returncode == 4
        assert "[access.no-key]" in asked.stderr
        environment = {**house.environment, "DUKOU_KEY": "dk_0_" + "A" * 43}
        asked = _run(environment, *words)
        assert "[access.bad-key]" in asked.stderr
        environment = {**house.environment, "DUKOU_HOME": str(tmp_path / "another")}
        asked = _run(environment, *words, "--url", server.url)
        assert "[trust.unknown-certificate]" in asked.stderr
        asked = _run(
            environment,
            *words,
            "--url",
            server.url,
            "--key",
            server.facts["key"],
            "--cacert",
            str(certificate),
        )
        assert asked.returncode == 0, asked.stderr
    with house.serving("--host", "0.0.0.0", model) as server:
        assert "key" not in server.facts, "a first key is made once, and shown once"
        wait_until(lambda: len(security_events(house)) >= 3, "what was refused is written down")
        shown = house.dukou("logs", "--security")
        assert shown.returncode == 0
        assert "nothing was refused" in shown.stdout
        shown = house.dukou("logs", "--security", "--folder", house.home / "logs", "--json")
        codes = {entry["code"]: entry["count"] for entry in json.loads(shown.stdout)}
        assert codes["access.no-key"] >= 2
        assert codes["access.bad-key"] >= 1
        usual = house.dukou("logs", "--folder", house.home / "logs")
        assert usual.returncode == 0, usual.stderr
        assert "cannot be read" not in usual.stdout


def _run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dukou", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_a_start_says_what_a_client_needs(house: House, tmp_path: Path) -> None:
    """The line that is printed can be pasted, and works."""
    model = write_model(tmp_path / "m.onnx")
    server = subprocess.Popen(
        [sys.executable, "-m", "dukou", "serve", str(model), "--secure", "--port", "0"],
        env=house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    lines: list[str] = []
    for line in server.stdout:
        lines.append(line.strip())
        if line.strip().startswith("stop"):
            break
    try:
        exports = next(line for line in lines if line.startswith("export "))
        curl = next(line for line in lines if line.startswith("curl "))
        done = subprocess.run(
            ["bash", "-eu", "-c", f"{exports}\n{curl}"],
            env=house.environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )
        assert "outputs" in json.loads(done.stdout), done.stdout
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=40)


def test_the_registry_s_models_follow_the_keys_too(house: House, tmp_path: Path) -> None:
    """Beside a file, so that there is something to serve: control puts the tables then."""
    publish(house, tmp_path, seed=1)
    move_alias(house, 1)
    model = write_model(tmp_path / "m.onnx")
    key = make_key(house, "leaving", "--model", "m")
    with house.serving("--secure", model, "chain") as server, SecureClient(server) as client:
        path = "/v2/models/m/infer"
        assert client.ask("POST", path, key=key, body=BODY).status == 200
        assert client.ask("GET", "/v2/models/chain", key=key).status == 403
        assert house.dukou("keys", "revoke", "leaving").returncode == 0
        wait_until(
            lambda: client.ask("POST", path, key=key, body=BODY).status == 401, "it is revoked"
        )
