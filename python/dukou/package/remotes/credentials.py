"""Who we are to a registry: what was said, or what `docker login` and `podman login` have written.

A password is never on a command line: everybody on the machine can read those.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError, RemoteError

_HELPER_S = 30


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password. It cannot be printed.

    Attributes:
        username: may be shown.
        origin: where it was found, for sentences.
    """

    username: str
    password: str = field(repr=False)
    origin: str = "the command line"

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def find_credentials(host: str) -> Credentials | None:
    """What the login files say of a host; None where they say nothing.

    Raises:
        InputError: `config.invalid`: a file that is not as docker writes it.
        RemoteError: `remote.refused`: a credential helper failed.
    """
    for path in _files():
        if not path.is_file():
            continue
        try:
            document = json.loads(path.read_bytes())
            if not isinstance(document, dict):
                raise ValueError("it is no JSON object")
        except (OSError, ValueError) as error:
            raise InputError(
                "config.invalid", f"the login file `{path}` cannot be read: {error}"
            ) from error
        found = _in_file(document, host, path)
        if found is not None:
            return found
    return None


def _files() -> list[Path]:
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        return [Path(named)]
    docker = os.environ.get("DOCKER_CONFIG")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    files = [Path(docker) / "config.json" if docker else Path("~/.docker/config.json").expanduser()]
    if runtime:
        files.append(Path(runtime) / "containers" / "auth.json")
    return files


def _in_file(document: dict[str, Any], host: str, path: Path) -> Credentials | None:
    helpers = document.get("credHelpers")
    helper = helpers.get(host) if isinstance(helpers, dict) else None
    helper = helper or document.get("credsStore")
    if isinstance(helper, str):
        found = _ask_helper(helper, host)
        if found is not None:
            return found
    logins = document.get("auths")
    login = logins.get(host) if isinstance(logins, dict) else None
    said = login.get("auth") if isinstance(login, dict) else None
    if not isinstance(said, str) or not said:
        return None
    try:
        username, colon, password = base64.b64decode(said, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise InputError(
            "config.invalid", f"the login file `{path}` holds no user and password for `{host}`"
        )
    return Credentials(username, password, f"`{path}`")


def _ask_helper(helper: str, host: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=host,
            capture_output=True,
            text=True,
            timeout=_HELPER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RemoteError(
            "remote.refused", f"the credential helper `{program}` did not answer: {error}"
        ) from error
    if done.returncode != 0:
        return None  # It has no word on this host.
    try:
        document = json.loads(done.stdout)
        return Credentials(str(document["Username"]), str(document["Secret"]), f"`{program}`")
    except (ValueError, KeyError, TypeError):
        raise RemoteError(
            "remote.refused", f"the credential helper `{program}` answered with no user and secret"
        ) from None
