"""The folder that a device runs from: a serving folder with two slots and an agent's settings beside it.

Source: `spec/edge.md`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError, RemoteError
from dukou.deploy.standalone import PROGRAM, Contents, FolderFacts, write_folder
from dukou.package.disk import translate_errors
from dukou.package.remotes.address import Address
from dukou.package.remotes.credentials import Credentials

RUN, SETTINGS = "run", "edge.json"
_SLOTS = "slots"
_STATUS_S = 60


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """What an agent does, as `edge.json` says it.

    Attributes:
        device: what it is called in reports.
        listen: `address:port`.
        threads: that answer requests; 0: one a processor.
        follow: the repository and tag; None: nothing is followed.
        every_s: seconds between two questions to the registry.
        bytes_per_s: of a download; 0: as fast as it comes.
        report: the address of reports; None: they wait.
        record_s: seconds between two records.
        waiting_bytes: records that wait, at most.
        store_bytes: of the store, at most; 0: what the disk has.
        spare_bytes: of the disk that an update leaves free.
    """

    device: str
    listen: str = "127.0.0.1:8080"
    threads: int = 0
    follow: Address | None = None
    every_s: int = 300
    bytes_per_s: int = 0
    report: str | None = None
    record_s: int = 60
    waiting_bytes: int = 1 << 20
    store_bytes: int = 0
    spare_bytes: int = 16 << 20

    def to_json(self, username: str | None) -> dict[str, Any]:
        """As the agent reads it."""
        follow = None
        if self.follow is not None:
            scheme = "http" if self.follow.plain else "https"
            follow = {
                "registry": f"{scheme}://{self.follow.host}",
                "repository": self.follow.repository,
                "tag": self.follow.tag or "champion",
                "every_s": self.every_s,
                "bytes_per_s": self.bytes_per_s,
                "username": username,
            }
        return {
            "format": 1,
            "device": self.device,
            "listen": self.listen,
            "threads": self.threads,
            "follow": follow,
            "report": None if self.report is None else {"url": self.report},
            "record_s": self.record_s,
            "waiting_bytes": self.waiting_bytes,
            "store_bytes": self.store_bytes,
            "spare_bytes": self.spare_bytes,
        }


def build_folder(
    contents: Contents,
    into: Path,
    settings: EdgeSettings,
    *,
    engine: Path,
    runtime: Path,
    runtime_version: str | None = None,
    credentials: Credentials | None = None,
    authorities: Path | None = None,
) -> FolderFacts:
    """Writes a folder that serves alone and keeps itself up to date.

    Args:
        contents: one model with one packaged version: slot A.
        into: a folder that is not there yet, or empty.
        settings: what the agent does.
        engine: the engine's program.
        runtime: ONNX Runtime's library.
        runtime_version: of that library.
        credentials: who the device is to the registry; the password lies in the folder, for its owner alone.
        authorities: certificates that it trusts beside its system's.

    Raises:
        InputError: `usage.invalid`: several versions, a bare file, an address that cannot be followed.
        TrustError: `trust.unsigned` and the like: a device takes nothing that nobody signed.
        DukouError: as `write_folder`.
    """
    _check(contents, settings)
    facts = write_folder(
        contents,
        into,
        engine=engine,
        runtime=runtime,
        runtime_version=runtime_version,
        c_library=False,
    )
    (model,) = contents.models
    slot = {
        "format": 1,
        "digest": model.digest,
        "version": model.version,
        "labels": list(contents.table["models"][0]["labels"]),
        "sequence": 1,
        "installed": int(time.time()),
    }
    with translate_errors(into):
        (into / _SLOTS).mkdir()
        _write(into / _SLOTS / "a.json", json.dumps(slot, indent=1) + "\n")
        _write(into / _SLOTS / "current", "a")
        username = None if credentials is None else credentials.username
        _write(into / SETTINGS, json.dumps(settings.to_json(username), indent=1) + "\n")
        if credentials is not None:
            _write(into / "password", credentials.password + "\n", 0o600)
        if authorities is not None:
            shutil.copyfile(authorities, into / "ca.pem")
        (into / RUN).symlink_to(PROGRAM)
    return facts


def read_status(folder: Path) -> dict[str, Any]:
    """What a folder says of itself, whether its agent runs or not.

    Raises:
        InputError: `edge.not-a-folder`.
        RemoteError: `engine.no-start`: its engine cannot be run on this machine.
    """
    program = folder / RUN
    if not (folder / SETTINGS).is_file() or not program.exists():
        raise InputError(
            "edge.not-a-folder", f"`{folder}` has no `{SETTINGS}` and no `{RUN}` of an agent"
        )
    try:
        asked = subprocess.run(
            [program.absolute(), "--status"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_STATUS_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RemoteError("engine.no-start", f"`{program}` cannot be run: {error}") from error
    if asked.returncode != 0:
        said = asked.stderr.strip().rpartition("\n")[2]
        raise InputError("edge.not-a-folder", f"`{folder}` does not say how it is: {said}")
    document: dict[str, Any] = json.loads(asked.stdout)
    return document


def _check(contents: Contents, settings: EdgeSettings) -> None:
    if len(contents.models) != 1 or not contents.models[0].is_packaged:
        served = ", ".join(f"`{m.name}:{m.version}`" for m in contents.models)
        raise InputError(
            "usage.invalid",
            f"a device serves one version of the registry, and {served} were named",
            hint="name one as `NAME:3`; `dukou image build` takes files and several models",
        )
    if not contents.table["trust"]["keys"]:
        raise InputError(
            "usage.invalid", "no key is trusted here, and a device would take no update"
        )
    follow = settings.follow
    if follow is not None and (follow.kind != "oci" or follow.digest is not None):
        raise InputError(
            "usage.invalid",
            f"a device follows a tag of a registry, and `{follow}` is "
            + ("a folder" if follow.kind != "oci" else "one version for ever"),
            hint="`--from HOST[:PORT]/REPOSITORY[:TAG]`; without a tag it follows `champion`",
        )


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
