"""Alerts reach a webhook that listens; one that does not keeps nobody waiting, and none is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.serving import wait_until

from dukou.base.errors import InputError, RemoteError
from dukou.monitor.alerts import AlertBox, RefusedError, check_webhook, send_alert


class Receiver:
    """A webhook that answers with these statuses in turn, 204 after them, and keeps what it got."""

    def __init__(self, *statuses: int) -> None:
        receiver = self
        self.got: list[dict] = []
        self.statuses = list(statuses)
        self.asleep = threading.Event()
        self.asleep.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(json.loads(body))
                receiver.asleep.wait(30)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alarm"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> Receiver:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.asleep.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def box(tmp_path: Path, said: list[str]) -> Iterator[AlertBox]:
    made = AlertBox(tmp_path, say=said.append)
    yield made
    made.close()


def waiting(box: AlertBox) -> int:
    return len(list(box.folder.glob("*.json"))) if box.folder.is_dir() else 0


def test_an_alert_is_one_post_of_json() -> None:
    with Receiver(200) as receiver:
        send_alert(receiver.url, {"kind": "drift", "model": "数字", "message": "moved"})
    assert receiver.got == [
        {"source": "dukou", "kind": "drift", "model": "数字", "message": "moved"}
    ]


def test_alerts_arrive_in_their_order_and_leave_nothing_behind(box: AlertBox) -> None:
    with Receiver() as receiver:
        for number in range(5):
            box.put(receiver.url, {"number": number})
        wait_until(lambda: len(receiver.got) == 5 and not waiting(box), "five alerts")
        assert [alert["number"] for alert in receiver.got] == list(range(5))


def test_a_receiver_that_stumbles_is_tried_again_and_one_that_refuses_is_not(
    box: AlertBox, said: list[str]
) -> None:
    with Receiver(500, 204, 403, 204) as receiver:
        for number in range(3):
            box.put(receiver.url, {"number": number})
        wait_until(lambda: not waiting(box), "an empty box")
        assert [alert["number"] for alert in receiver.got] == [0, 0, 1, 2]
    assert len(said) == 2
    assert "answered 500" in said[0]
    assert "tried again" in said[0]
    assert "answered 403" in said[1]
    assert "not asked again" in said[1]


def test_a_receiver_that_hangs_keeps_nobody_waiting(box: AlertBox) -> None:
    with Receiver() as receiver:
        receiver.asleep.clear()
        box.put(receiver.url, {"number": 0})
        wait_until(lambda: bool(receiver.got), "the first try")
        before = time.monotonic()
        for number in range(1, 50):
            box.put(receiver.url, {"number": number})
        # The receiver sleeps for as long as this test wants: had one of them waited, none would pass.
        assert waiting(box) == 50
        assert time.monotonic() - before < 30
        receiver.asleep.set()
        wait_until(lambda: not waiting(box), "an empty box")


def test_what_was_not_delivered_is_delivered_by_whoever_comes_next(
    tmp_path: Path, said: list[str]
) -> None:
    with Receiver() as receiver:
        url = receiver.url
    first = AlertBox(tmp_path, say=said.append)
    first.put(url, {"number": 1})
    wait_until(lambda: bool(said), "word of the trouble")
    first.close()
    assert url in said[0]
    (letter,) = first.folder.glob("*.json")
    assert letter.stat().st_mode & 0o777 == 0o600
    # The receiver comes back under the same port.
    again = Receiver()
    content = json.loads(letter.read_text(encoding="utf-8"))
    letter.write_text(json.dumps({**content, "url": again.url}), encoding="utf-8")
    (first.folder / "0000000000.json").write_text("{half", encoding="utf-8")
    with again:
        second = AlertBox(tmp_path, say=said.append)
        wait_until(lambda: not waiting(second), "an empty box")
        second.close()
        assert [alert["number"] for alert in again.got] == [1]
    assert "is no alert any more" in said[-1]


def test_a_box_that_nobody_empties_is_bounded(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dukou.monitor.alerts._MOST_WAITING", 3)
    with Receiver() as receiver:
        receiver.asleep.clear()
        box = AlertBox(tmp_path, say=said.append)
        for number in range(6):
            box.put(receiver.url, {"number": number})
        assert waiting(box) == 3
        receiver.asleep.set()
        wait_until(lambda: not waiting(box), "an empty box")
        box.close()
        assert receiver.got[-1]["number"] == 5
    assert any("the oldest is given up" in text for text in said)


def test_nobody_there_is_said_with_the_address() -> None:
    with Receiver() as receiver:
        url = receiver.url
    with pytest.raises(RemoteError) as failed:
        send_alert(url, {"kind": "drift"})
    assert failed.value.code == "monitor.webhook-failed"
    assert url in failed.value.message
    with Receiver(404) as receiver, pytest.raises(RefusedError, match="answered 404"):
        send_alert(receiver.url, {"kind": "drift"})


@pytest.mark.parametrize(
    "wrong", ["file:///etc/passwd", "hooks.example/x", "ftp://a/b", "", "http://[x", "http://a:b/"]
)
def test_only_http_is_a_webhook(wrong) -> None:
    with pytest.raises(InputError) as refused:
        check_webhook(wrong)
    assert refused.value.code == "monitor.bad-webhook"
