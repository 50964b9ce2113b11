"""An alert reaches a webhook that listens, and says plainly that it reached none."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dukou.base.errors import InputError, RemoteError
from dukou.monitor.alerts import check_webhook, send_alert


class Receiver:
    """A webhook that answers with these statuses in turn, and keeps what it got."""

    def __init__(self, *statuses: int) -> None:
        receiver = self
        self.got: list[dict] = []
        self.statuses = list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(json.loads(body))
                self.send_response(receiver.statuses.pop(0))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alarm"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> Receiver:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_an_alert_is_one_post_of_json() -> None:
    with Receiver(200) as receiver:
        send_alert(receiver.url, {"kind": "drift", "model": "数字", "message": "moved"})
    assert receiver.got == [
        {"source": "dukou", "kind": "drift", "model": "数字", "message": "moved"}
    ]


def test_a_receiver_that_stumbles_is_tried_again_and_one_that_refuses_is_not() -> None:
    waited: list[float] = []
    with Receiver(500, 503, 204) as receiver:
        send_alert(receiver.url, {"kind": "drift"}, pause=waited.append)
        assert len(receiver.got) == 3
    assert waited == [0.5, 2.0]
    with Receiver(403) as receiver, pytest.raises(RemoteError, match="answered 403"):
        send_alert(receiver.url, {"kind": "drift"}, pause=waited.append)
    assert len(receiver.got) == 1


def test_nobody_there_is_said_with_the_address() -> None:
    with Receiver() as receiver:
        url = receiver.url
    with pytest.raises(RemoteError) as failed:
        send_alert(url, {"kind": "drift"}, pause=lambda _seconds: None)
    assert failed.value.code == "monitor.webhook-failed"
    assert url in failed.value.message


@pytest.mark.parametrize("wrong", ["file:///etc/passwd", "hooks.example/x", "ftp://a/b", ""])
def test_only_http_is_a_webhook(wrong) -> None:
    with pytest.raises(InputError) as refused:
        check_webhook(wrong)
    assert refused.value.code == "monitor.bad-webhook"
