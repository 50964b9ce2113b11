"""Attacks are refused with the right status, cost nobody else anything, and leave their word in the log."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import serving
from tests.boundary.http2 import (
    CONTINUATION,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Http2,
    block,
    frame,
)
from tests.boundary.raw import Reply, Wire
from tests.secure import SecureClient, certificate_of, make_key, security_events, written_down
from tests.security.attacks import (
    ATTACKS,
    BODY_BYTES,
    HEADER_MS,
    INFER,
    MODEL,
    Attack,
    whole,
)
from tests.serving import BODY, House, RunningServer, exchange, wait_until, write_model

from dukou.base.errors import DukouError
from dukou.serve.local_api import LocalApi
from dukou.trust.access import KeyStore

ROOT = Path(__file__).parents[2]


class Target(NamedTuple):
    """Two servers of one house, and keys of every kind."""

    house: House
    servers: dict[str, RunningServer]
    keys: dict[str, str]

    def api(self, door: str) -> LocalApi:
        """The local API of a server."""
        return LocalApi(Path(self.servers[door].facts["socket"]))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    model = write_model(tmp_path_factory.mktemp("model") / f"{MODEL}.onnx")
    with serving.house() as house:
        keys = {
            "good": make_key(house, "good", "--model", MODEL),
            "other": make_key(house, "other", "--model", "another"),
            "expired": make_key(house, "expired"),
            "revoked": make_key(house, "revoked"),
            "fast": make_key(house, "fast", "--rate", "2/h", "--burst", "2"),
            "elsewhere": KeyStore(house.home / "another").add("x", []).text,
        }
        path = house.home / "access" / "keys.json"
        document = json.loads(path.read_text())
        by_name = {entry["name"]: entry for entry in document["keys"]}
        by_name["expired"]["expires"] = 1
        path.write_text(json.dumps(document))
        assert house.dukou("keys", "revoke", "revoked").returncode == 0
        prefix, key_id, secret = keys["good"].split("_", 2)
        keys["half"] = keys["good"][:-8]
        keys["forged"] = keys["good"][:-8] + "A" * 8
        keys["another_id"] = f"{prefix}_{key_id[::-1]}_{secret}"
        keys["hash"] = f"{prefix}_{key_id}_{by_name['good']['secret_sha256']}"
        with house.serving(model) as plain, house.serving("--secure", model) as secured:
            found = Target(house, {"plain": plain, "keys": secured}, keys)
            for door in found.servers:
                api = found.api(door)
                table = api.table()
                assert table is not None
                table["limits"] |= {"body_bytes": BODY_BYTES, "header_ms": HEADER_MS}
                # The supervisor counts from 1 where keys change; this stays ahead of it.
                table["sequence"] += 1000
                api.put_table(table)
            yield found


class SecureWire(Wire):
    """Bytes over TLS."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(server.address)
        context = ssl.create_default_context(cafile=server.facts["certificate"])
        self._socket = context.wrap_socket(self._socket, server_hostname=server.address[0])


def connect(target: Target, door: str) -> Wire:
    """A connection to a door."""
    server = target.servers[door]
    return SecureWire(server) if door == "keys" else Wire(server.address)


def events_of(target: Target, code: str) -> int:
    """How often the security logs say this."""
    return sum(event["count"] for event in security_events(target.house) if event["code"] == code)


@pytest.fixture(autouse=True)
def still_serving(target: Target) -> Iterator[None]:
    """Whatever was sent: the next good request is answered, by the same processes."""
    engines = {door: target.api(door).state()["pid"] for door in target.servers}
    yield
    for door, key in [("plain", ""), ("keys", target.keys["good"])]:
        with connect(target, door) as wire:
            wire.send(whole(INFER, f"Authorization: Bearer {key}"))
            reply = wire.read()
            assert reply is not None
            assert reply.status == 200, reply
        assert target.api(door).state()["pid"] == engines[door]


def test_there_are_enough() -> None:
    assert len(ATTACKS) >= 60


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(target: Target, name: str) -> None:
    attack: Attack = ATTACKS[name]
    sent = attack.sent
    for key, text in target.keys.items():
        sent = sent.replace(b"{%b}" % key.encode(), text.encode())
    event = attack.event or (attack.answer[1] if attack.answer else "")
    before = events_of(target, event)
    with connect(target, attack.door) as wire:
        wire.send(sent)
        replies = _all(wire)
    if attack.answer is None:
        assert replies == []
    else:
        said = replies[-1]
        assert (said.status, said.said["code"]) == attack.answer
        assert re.fullmatch("[0-9a-f]{16}", said.headers["dukou-request-id"])
        _leaks_nothing(target, said)
        # Of two requests where one was announced, one is answered at most.
        assert len(replies) <= (2 if name.startswith("garbage") else 1)
    if event != "none":
        wait_until(lambda: events_of(target, event) > before, f"an event `{event}`")


def _one(wire: Wire) -> Reply:
    reply = wire.read()
    assert reply is not None
    return reply


def _all(wire: Wire) -> list[Reply]:
    """Every answer, until the connection closes or a refusal leaves it open."""
    replies: list[Reply] = []
    while (reply := wire.read()) is not None:
        replies.append(reply)
        if reply.status >= 400 and reply.headers.get("connection") != "close":
            break
    return replies


def _leaks_nothing(target: Target, reply: Reply) -> None:
    """No path of the server's machine, no key, nothing of a language."""
    text = reply.body.decode()
    for forbidden in [str(target.house.home), "/tmp/", ".rs", ".py", "panicked", "Traceback"]:
        assert forbidden not in text, text
    for name, key in target.keys.items():
        assert key not in text, name


def test_no_secret_is_written_anywhere(target: Target) -> None:
    """Every key was shown to the servers by the attacks above, the good ones among them."""
    with SecureClient(target.servers["keys"]) as client:
        assert client.ask("POST", INFER, key=target.keys["good"], body=BODY).status == 200
        assert client.ask("POST", INFER, key=target.keys["forged"], body=BODY).status == 401
    text = written_down(target.house)
    assert '"principal":"good"' in text
    assert '"access.bad-key"' in text
    for name, key in target.keys.items():
        secret = key.split("_", 2)[2]
        # The hash stands in the table: it opens nothing.
        assert name == "hash" or secret not in text, name


def test_a_key_that_asks_too_often_hears_when(target: Target) -> None:
    with SecureClient(target.servers["keys"]) as client:
        answers = [client.ask("POST", INFER, key=target.keys["fast"], body=BODY) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]
        assert answers[2].code == "limits.rate"
        assert 1700 < int(answers[2].headers["retry-after"]) <= 1800
        # Others are not held back by it.
        assert client.ask("POST", INFER, key=target.keys["good"], body=BODY).status == 200


def test_who_shows_many_bad_keys_waits_and_others_do_not(target: Target) -> None:
    with (
        SecureClient(target.servers["keys"]) as client,
        SecureClient(target.servers["keys"]) as other,
    ):
        for _ in range(25):
            assert client.ask("POST", INFER, key=target.keys["forged"], body=BODY).status == 401
            assert other.ask("POST", INFER, key=target.keys["good"], body=BODY).status == 200
    counted = events_of(target, "access.bad-key")
    assert counted >= 20
    metrics = exchange(target.servers["plain"].address, "GET", "/v2")
    assert metrics[0] == 200


@pytest.mark.parametrize("name", ["clear", "old", "garbage", "silence"])
def test_what_is_no_handshake(target: Target, name: str) -> None:
    server = target.servers["keys"]
    code = "limits.slow-head" if name == "silence" else "access.bad-handshake"
    before = events_of(target, code)
    with socket.create_connection(server.address, timeout=20) as connection:
        if name == "clear":
            connection.sendall(whole(INFER))
            assert b"this listener speaks TLS" in connection.recv(4096)
        elif name == "old":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with pytest.warns(DeprecationWarning):
                context.minimum_version = ssl.TLSVersion.TLSv1_1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                context.wrap_socket(connection)
        elif name == "garbage":
            connection.sendall(b"\x16\x03\x01\x00\x05hello" + bytes(100))
            while connection.recv(4096):
                pass
        else:
            assert connection.recv(1) == b""
    wait_until(lambda: events_of(target, code) > before, f"an event `{code}`")


def _flood(name: str) -> bytes:
    """Frames that cost their sender nothing."""
    request = block(
        (":method", "POST"), (":scheme", "http"), (":path", INFER), (":authority", "localhost")
    )
    if name == "rapid reset":
        cancel = struct.pack(">I", 8)
        return b"".join(
            frame(HEADERS, 4, stream, request) + frame(RST_STREAM, 0, stream, cancel)
            for stream in range(1, 40_001, 2)
        )
    if name == "continuation":
        more = frame(CONTINUATION, 0, 1, block(("x", "a" * 100)) * 100)
        return frame(HEADERS, 0, 1, request) + more * 2000
    if name == "settings":
        return frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 1) * 50) * 5000
    return frame(PING, 0, 0, bytes(8)) * 50_000


@pytest.mark.parametrize("name", ["rapid reset", "continuation", "settings", "ping"])
def test_a_flood_of_frames(target: Target, name: str) -> None:
    """Its connection is cut off, or bears it; no memory is lost to it and nobody else notices."""
    server = target.servers["plain"]
    before = target.api("plain").state()["gauges"]["rss_bytes"]
    with Http2(server.address) as client:
        client._socket.settimeout(5)
        try:
            client.send(_flood(name))
        except OSError:
            cut_off = True
        else:
            cut_off = name in ("rapid reset", "continuation") and _is_cut_off(client)
    assert cut_off or name in ("settings", "ping")
    wait_until(lambda: target.api("plain").state()["gauges"]["connections"] <= 1, "it is gone")
    assert target.api("plain").state()["gauges"]["rss_bytes"] < before + 64 * 2**20


def _is_cut_off(client: Http2) -> bool:
    try:
        while (came := client.read()) is not None:
            if came[0] == GOAWAY:
                return True
    except OSError:
        return True
    return True


def test_two_hundred_slow_heads_keep_nobody_from_asking(target: Target) -> None:
    server = target.servers["plain"]
    slow = [socket.create_connection(server.address, timeout=20) for _ in range(200)]
    try:
        for connection in slow:
            connection.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: local")
        for _ in range(50):
            assert server.ask(MODEL)[0] == 200
        for connection in slow:
            assert connection.recv(1) == b"", "it is cut off"
    finally:
        for connection in slow:
            connection.close()


def test_addresses_are_let_in_by_list(target: Target) -> None:
    api, server = target.api("plain"), target.servers["plain"]
    table = api.table()
    assert table is not None
    with Wire(server.address) as kept:
        kept.send(whole(INFER))
        assert _one(kept).status == 200
        for lists in [{"deny": ["127.0.0.0/8"]}, {"allow": ["10.0.0.0/8", "::1"]}]:
            changed = json.loads(json.dumps(table))
            changed["listeners"][0] |= lists
            changed["sequence"] = table["sequence"] = table["sequence"] + 1
            api.put_table(changed)
            status, said, _ = exchange(server.address, "GET", "/v2")
            assert (status, said["code"]) == (403, "access.denied-address")
            # A connection that was there before hears the same.
            kept.send(whole(INFER))
            assert _one(kept).said["code"] == "access.denied-address"
    table["listeners"][0] |= {"allow": ["127.0.0.1"], "deny": ["10.0.0.0/8"]}
    table["sequence"] += 1
    api.put_table(table)
    assert exchange(server.address, "GET", "/v2")[0] == 200


def test_a_revoked_key_ends_on_a_connection_that_stands(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    with serving.house() as house:
        key = make_key(house, "leaving")
        with house.serving("--secure", model) as server, SecureClient(server) as client:
            assert client.ask("POST", INFER, key=key, body=BODY).status == 200
            assert house.dukou("keys", "revoke", "leaving").returncode == 0
            wait_until(
                lambda: client.ask("POST", INFER, key=key, body=BODY).status == 401, "it is revoked"
            )
            other = make_key(house, "coming")
            wait_until(
                lambda: client.ask("POST", INFER, key=other, body=BODY).status == 200, "it is known"
            )
            # An engine that is killed comes back with the keys that were good last.
            engine = server.status()["engine"]["pid"]
            os.kill(engine, signal.SIGKILL)
            wait_until(lambda: server.status()["engine"]["pid"] not in (engine, None), "it is back")
            with SecureClient(server) as again:
                assert again.ask("POST", INFER, key=key, body=BODY).status == 401
                assert again.ask("POST", INFER, key=other, body=BODY).status == 200


def test_a_renewed_certificate_is_shown_and_a_bad_one_is_not(
    target: Target, tmp_path: Path
) -> None:
    first, second = certificate_of(tmp_path, "first"), certificate_of(tmp_path, "second")
    shown = tmp_path / "shown.pem", tmp_path / "shown.key"
    for source, place in zip(first, shown, strict=True):
        shutil.copy(source, place)
    api, server = target.api("keys"), target.servers["keys"]
    table = api.table()
    assert table is not None
    original = dict(table["listeners"][0]["tls"])
    table["listeners"][0]["tls"] = {"certificate": str(shown[0]), "key": str(shown[1])}
    table["sequence"] += 1
    api.put_table(table)

    def trusts(certificate: Path) -> bool:
        context = ssl.create_default_context(cafile=certificate)
        try:
            with socket.create_connection(server.address, timeout=20) as plain:
                context.wrap_socket(plain, server_hostname="127.0.0.1").close()
        except ssl.SSLError:
            return False
        return True

    assert trusts(first[0])
    before = events_of(target, "access.bad-certificate")
    shown[0].write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    wait_until(lambda: events_of(target, "access.bad-certificate") > before, "the bad one is said")
    assert trusts(first[0]), "the old one goes on"
    for source, place in zip(second, shown, strict=True):
        shutil.copy(source, place)
    wait_until(lambda: trusts(second[0]), "the new one is shown")
    assert not trusts(first[0])
    # A table whose certificate cannot be read is not taken.
    table["listeners"][0]["tls"] = {"certificate": "/nowhere.pem", "key": "/nowhere.key"}
    table["sequence"] += 1
    with pytest.raises(DukouError) as refused:
        api.put_table(table)
    assert refused.value.code == "access.bad-certificate"
    table["listeners"][0]["tls"] = original
    table["sequence"] += 1
    api.put_table(table)


def _hostile(folder: Path) -> dict[str, tuple[Path, str]]:
    """Models that mean harm, and what each is refused for."""
    kept = ROOT / "conformance" / "models"
    models = {
        "an absolute path": (kept / "external_absolute.onnx", "formats.external-data-outside"),
        "a path upwards": (kept / "external_parent.onnx", "formats.external-data-outside"),
        "a path upwards in a branch": (
            kept / "external_subgraph.onnx",
            "formats.external-data-outside",
        ),
        "weights that are not there": (
            kept / "external_missing.onnx",
            "formats.external-data-missing",
        ),
        "half a file": (kept / "truncated.onnx", "formats.corrupt"),
    }
    (folder / "outside").mkdir()
    (folder / "outside" / "secret.bin").write_bytes(bytes(64))
    inside = folder / "inside"
    inside.mkdir()
    (inside / "link.bin").symlink_to(folder / "outside" / "secret.bin")
    shutil.copy(kept / "external_link.onnx", inside / "link.onnx")
    models["a link out of the folder"] = inside / "link.onnx", "formats.external-data-outside"
    models["a tensor beyond all memory"] = _huge(folder / "huge.onnx"), "formats.corrupt"
    (folder / "garbage.onnx").write_bytes(b"\xff" * 4096)
    models["garbage"] = folder / "garbage.onnx", "formats.not-a-model"
    (folder / "bomb.onnx").symlink_to("/dev/zero")
    models["a device"] = folder / "bomb.onnx", "formats.not-a-model"
    return models


def _huge(path: Path) -> Path:
    """Weights of 2^60 numbers, of which none is there."""
    weights = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    del weights.dims[:]
    weights.dims.extend([2**30, 2**30])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "huge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2**30])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2**30])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.load(str(path))
    return path


def test_hostile_models_are_not_loaded(target: Target, tmp_path: Path) -> None:
    api = target.api("plain")
    table = api.table()
    assert table is not None
    found: dict[str, Any] = {}
    wanted = _hostile(tmp_path)
    for name, (path, _) in wanted.items():
        changed = json.loads(json.dumps(table))
        changed["models"][0]["versions"][0]["source"] = {"file": str(path)}
        changed["sequence"] += 1
        with pytest.raises(DukouError) as refused:
            api.put_table(changed)
        found[name] = refused.value.code
    assert found == {name: code for name, (_, code) in wanted.items()}
    again = api.table()
    assert again is not None
    assert again["sequence"] == table["sequence"], "the old table serves on"
