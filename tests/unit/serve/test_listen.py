"""Listening sockets: loopback alone, a deep backlog, and a taken port that says who has it."""

from __future__ import annotations

import os
import socket

import pytest

from dukou.base.errors import InputError, StateError, TrustError
from dukou.serve.listen import address_of, is_loopback, open_listener


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3", "::1"])
def test_loopback_addresses_are_opened(host: str) -> None:
    with open_listener(host, 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert address_of(listener).endswith(f":{port}")
        with socket.create_connection((host, port), timeout=10):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_are_refused(host: str) -> None:
    with pytest.raises(TrustError) as refused:
        open_listener(host, 0)
    assert refused.value.code == "access.off-loopback"
    assert host in refused.value.message
    assert not is_loopback(host)


def test_a_guarded_listener_may_stand_anywhere() -> None:
    with open_listener("0.0.0.0", 0, guarded=True) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener, "https") == f"https://127.0.0.1:{port}"
    assert is_loopback("localhost")


def test_a_taken_port_names_its_address_and_process() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StateError) as refused:
            open_listener("127.0.0.1", port)
    assert refused.value.code == "server.port-in-use"
    assert f"127.0.0.1:{port}" in refused.value.message
    assert f"process {os.getpid()}" in refused.value.message


def test_a_port_just_left_is_free_again() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        accepted, _ = listener.accept()
        accepted.close()  # the side that closes first is the one that lingers
        client.close()
    open_listener("127.0.0.1", port).close()


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(InputError) as refused:
        open_listener("127.0.0.1", port)
    assert refused.value.code == "usage.invalid"
    assert str(port) in refused.value.message


def test_what_is_no_address() -> None:
    with pytest.raises(InputError) as refused:
        open_listener("no such host.invalid", 0)
    assert refused.value.code == "usage.invalid"
