"""What one snapshot is: the files of an installation at one moment, and where their bytes are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from dukou.base.errors import TrustError

_ID = re.compile(r"\d{8}T\d{6}(\d{6})?Z-[0-9a-f]{8}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class KeptFile:
    """One file of a snapshot.

    Attributes:
        path: where it was, relative to the home folder, with `/`.
        mode: its permissions.
        size: its bytes.
        sha256: hex, of its bytes.
        blob: the name under which the bytes are kept: the sha256 of what is kept, which is the file's
            own unless it was sealed.
    """

    path: str
    mode: int
    size: int
    sha256: str
    blob: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An installation at one moment.

    Attributes:
        id: `20261125T181500042137Z-1a2b3c4d`: when, in UTC to the microsecond, and a few letters of
            chance. Sorts by time, also of two in one second.
        created: ISO 8601 in UTC.
        dukou: the version that took it.
        sealed: the id of the key that its bytes are sealed with; empty where they are in the clear.
        audit: sequence and hash of the registry's last audit event.
        files: what was kept.
        left_out: what of the installation was not, and why, a sentence each.
    """

    id: str
    created: str
    dukou: str
    sealed: str
    audit: tuple[int, str]
    files: tuple[KeptFile, ...]
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def time(self) -> datetime:
        """When it was taken."""
        return datetime.fromisoformat(self.created)

    def to_json(self) -> bytes:
        """As it is kept."""
        return json.dumps({"format": 1, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Snapshot:
        """The inverse of `to_json`. A path that would lead out of a home folder is refused.

        Raises:
            TrustError: `backup.damaged`.
        """
        try:
            said = json.loads(content)
            if said["format"] != 1:
                raise ValueError(f"its format is {said['format']!r}, this release reads 1")
            return cls(
                id=parse_snapshot_id(said["id"]),
                created=datetime.fromisoformat(said["created"]).astimezone(UTC).isoformat(),
                dukou=str(said["dukou"]),
                sealed=str(said["sealed"]),
                audit=(int(said["audit"][0]), str(said["audit"][1])),
                files=tuple(_parse_file(file) for file in said["files"]),
                left_out=tuple(str(text) for text in said["left_out"]),
            )
        except (ValueError, KeyError, TypeError, IndexError) as error:
            what = f"it has no `{error.args[0]}`" if isinstance(error, KeyError) else error
            raise TrustError("backup.damaged", f"{where} cannot be read: {what}") from error


def parse_snapshot_id(text: str) -> str:
    """A snapshot's id. Raises ValueError where it is none."""
    if not isinstance(text, str) or not _ID.match(text):
        raise ValueError(f"`{text}` is not the id of a snapshot")
    return text


def _parse_file(said: Mapping[str, Any]) -> KeptFile:
    path = str(said["path"])
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"`{path}` is not a path inside a home folder")
    for name in ("sha256", "blob"):
        if not _SHA256.match(said[name]):
            raise ValueError(f"`{path}` has no `{name}`")
    return KeptFile(
        path, int(said["mode"]) & 0o777, int(said["size"]), said["sha256"], said["blob"]
    )
