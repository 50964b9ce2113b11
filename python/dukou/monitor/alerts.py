"""Alerts to a webhook: one POST of JSON for each new alarm, from a box on disk that is emptied in the order
in which it was filled. Whoever watches puts an alert in and goes on; who is not there is tried again.

    HOME/monitor/.alerts/0000000012.json     an alert that was not delivered yet
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError, InputError, RemoteError
from dukou.base.settings import make_private_folder

_TIMEOUT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
# More than this wait for nobody: the oldest goes. Every alarm is in the registry all the same.
_MOST_WAITING = 1000
# Taken out of the folder's name space: no model's name begins with a dot.
_FOLDER = ".alerts"


def check_webhook(url: str) -> str:
    """Gives the address back.

    Raises:
        InputError: `monitor.bad-webhook`: no http or https address.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            "monitor.bad-webhook", f"the webhook is `{url}`, must be an http or https address"
        )
    return url


class RefusedError(RemoteError):
    """The receiver answered, and does not want it: it is not asked again."""


def send_alert(url: str, alert: Mapping[str, Any]) -> None:
    """Sends an alert, once.

    Args:
        url: the webhook.
        alert: `kind`, `model`, `message`, `began`, `ended` and what was found; JSON-able.

    Raises:
        RemoteError: `monitor.webhook-failed`; `RefusedError` where the receiver says that it is no use.
    """
    body = json.dumps({"source": "dukou", **alert}, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "dukou"}
    try:
        request = urllib.request.Request(check_webhook(url), body, headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        kind = RefusedError if error.code < 500 and error.code not in (408, 429) else RemoteError
        said = f"it answered {error.code}"
        error.close()
    except (OSError, ValueError) as error:
        kind, said = RemoteError, str(getattr(error, "reason", error))
    raise kind("monitor.webhook-failed", f"the webhook `{url}` was not told: {said}")


class AlertBox:
    """Alerts on their way: kept on disk until the receiver has them, sent by a thread of its own.

    Args:
        home: DUKOU_HOME.
        say: told what could not be delivered, once for each trouble.
    """

    def __init__(self, home: Path, *, say: Callable[[str], None]) -> None:
        self.folder = home / "monitor" / _FOLDER
        self._say = say
        self._said = ""
        self._unwritten: list[dict[str, Any]] = []
        self._news = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if self._waiting():
            self._start()

    def put(self, url: str, alert: Mapping[str, Any]) -> None:
        """Takes an alert; returns at once, whatever becomes of it."""
        letter = {"url": url, "alert": dict(alert)}
        try:
            make_private_folder(self.folder)
            with self._held(fcntl.LOCK_EX, ".numbers"):
                waiting = self._waiting()
                for old in waiting[: max(0, len(waiting) - _MOST_WAITING + 1)]:
                    old.unlink(missing_ok=True)
                    self._say(
                        f"{_MOST_WAITING} alerts wait for their webhook: the oldest is given up"
                    )
                number = int(waiting[-1].stem) + 1 if waiting else 1
                incoming = self.folder / f".{number}.new"
                incoming.touch(mode=0o600)
                incoming.write_text(json.dumps(letter, ensure_ascii=False), encoding="utf-8")
                incoming.replace(self.folder / f"{number:010d}.json")
        except (OSError, DukouError):
            # A full disk silences no alarm: it is sent from memory.
            self._unwritten = [*self._unwritten, letter][-_MOST_WAITING:]
        self._start()
        self._news.set()

    def close(self) -> None:
        """Ends the thread; what is on disk is sent by whoever watches next."""
        self._ended.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(_TIMEOUT_S)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="alerts", daemon=True)
            self._thread.start()

    def _deliver(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._ended.is_set():
            self._news.clear()
            try:
                self._deliver_all()
                self._said, pause = "", _FIRST_PAUSE_S
                # Another server's watcher may have died with letters in the box.
                self._news.wait(_LONGEST_PAUSE_S)
            except (RemoteError, OSError) as error:
                self._tell(f"monitor: {error}; it is tried again until it is there")
                self._ended.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _deliver_all(self) -> None:
        while self._unwritten and not self._ended.is_set():
            self._send(self._unwritten[0])
            self._unwritten = self._unwritten[1:]
        if not self.folder.is_dir():
            return
        # Of several watchers of one home, one sends.
        with self._held(fcntl.LOCK_EX | fcntl.LOCK_NB, ".lock") as mine:
            for letter in self._waiting() if mine else ():
                if self._ended.is_set():
                    return
                try:
                    content = json.loads(letter.read_text(encoding="utf-8"))
                    url, alert = content["url"], content["alert"]
                except FileNotFoundError:
                    continue
                except (ValueError, LookupError, TypeError):
                    self._say(f"monitor: `{letter}` is no alert any more and is removed")
                    letter.unlink(missing_ok=True)
                    continue
                self._send({"url": url, "alert": alert})
                letter.unlink(missing_ok=True)

    def _send(self, letter: Mapping[str, Any]) -> None:
        try:
            send_alert(letter["url"], letter["alert"])
        except (RefusedError, InputError) as error:
            self._tell(f"monitor: {error}; it is not asked again")

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)

    def _waiting(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.json"))

    @contextlib.contextmanager
    def _held(self, how: int, name: str) -> Iterator[bool]:
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, how)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)
