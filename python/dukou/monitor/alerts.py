"""An alert to a webhook: one POST of JSON for each new alarm. Whoever is not there is tried three times."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from dukou.base.errors import InputError, RemoteError

_TRIES = 3
_TIMEOUT_S = 5.0
_PAUSES_S = (0.5, 2.0)


def check_webhook(url: str) -> str:
    """Gives the address back.

    Raises:
        InputError: `monitor.bad-webhook`: no http or https address.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            "monitor.bad-webhook", f"the webhook is `{url}`, must be an http or https address"
        )
    return url


def send_alert(
    url: str, alert: Mapping[str, Any], *, pause: Callable[[float], None] = time.sleep
) -> None:
    """Sends an alert.

    Args:
        url: the webhook.
        alert: `kind`, `model`, `message`, `began`, `ended` and what was found; JSON-able.
        pause: waits between tries.

    Raises:
        RemoteError: `monitor.webhook-failed`, with what the last try met.
    """
    body = json.dumps({"source": "dukou", **alert}, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "dukou"}
    request = urllib.request.Request(check_webhook(url), body, headers)
    said = ""
    for attempt in range(_TRIES):
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            said = f"it answered {error.code}"
            if error.code < 500:
                break
        except (OSError, ValueError) as error:
            said = str(getattr(error, "reason", error))
        if attempt < len(_PAUSES_S):
            pause(_PAUSES_S[attempt])
    raise RemoteError("monitor.webhook-failed", f"the webhook `{url}` was not told: {said}")
