"""Reports are taken once each, and acknowledged only when they are on the disk."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from dukou.base.errors import ResourceError
from dukou.edge.collect import Collected, collecting


def lines(*ids: str) -> bytes:
    return "".join(f'{{"id": "{name}"}}\n' for name in ids).encode()


def test_what_comes_twice_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    collected = Collected(path)
    assert collected.take(lines("a", "b") + b"not a record\n[1]\n") == ["a", "b"]
    assert collected.take(lines("b", "c")) == ["b", "c"]
    # Another start knows what is there; half a line of a power failure is none.
    with path.open("a") as file:
        file.write('{"id": "d')
    assert Collected(path).take(lines("a", "c")) == ["a", "c"]
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()[:3]] == ["a", "b", "c"]


def test_what_cannot_be_kept_is_not_acknowledged(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be written"):
        Collected(tmp_path / "nowhere" / "reports.jsonl").take(lines("a"))


def test_it_answers_over_http(tmp_path: Path) -> None:
    with collecting(tmp_path / "reports.jsonl") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def post(body: bytes, **headers: str) -> tuple[int, Any]:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
            document = json.loads(response.read())
            connection.close()
            return response.status, document

        assert post(lines("a")) == (200, {"acknowledged": ["a"]})
        assert post(b"") == (200, {"acknowledged": []})
        assert post(b"", **{"Content-Length": "99999999999"})[0] == 413
        server.shutdown()
        thread.join()
