"""The ports of the servers that dukou stands in for."""

from __future__ import annotations

import pytest

from dukou.base.errors import InputError
from dukou.deploy import defaults
from dukou.deploy.dropin.like import PEERS


def test_their_usual_ports() -> None:
    assert PEERS["tensorflow-serving"].ports_at(None) == {"http": 8501, "grpc": 8500}
    assert PEERS["triton"].ports_at(None) == {"http": 8000, "grpc": 8001, "metrics": 8002}
    assert list(PEERS["torchserve"].ports_at(None).values()) == [8080, 8081, 8082, 7070, 7071]


def test_elsewhere_they_keep_their_distances() -> None:
    assert PEERS["triton"].ports_at(9000) == {"http": 9000, "grpc": 9001, "metrics": 9002}
    assert PEERS["tensorflow-serving"].ports_at(9501) == {"http": 9501, "grpc": 9500}
    assert set(PEERS["torchserve"].ports_at(0).values()) == {0}
    with pytest.raises(InputError, match="puts the port for metrics at 65536"):
        PEERS["triton"].ports_at(65534)


@pytest.mark.parametrize("name", PEERS)
def test_every_dialect_is_spoken_and_its_own_comes_first(name: str) -> None:
    spoken = PEERS[name].dialects()
    assert sorted(spoken) == sorted(defaults.DIALECTS)
    if PEERS[name].dialect in defaults.DIALECTS:
        assert spoken[0] == PEERS[name].dialect
