"""Takes reports of devices: each record once, on the disk before it is acknowledged.

Small on purpose, and on this machine alone: what stands before it (TLS, who may report) is a proxy's.
Source: `spec/edge.md`, "Reports".
"""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dukou.base.errors import ResourceError

# Of one request; the agent sends a quarter of it.
LARGEST_BODY = 4 << 20


class Collected:
    """A file of records, one JSON object a line, each id once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._known = set(_ids(path))

    def take(self, body: bytes) -> list[str]:
        """Keeps what is new of a report; gives the ids that are safe now, known ones too.

        A line that is no record is not acknowledged.

        Raises:
            ResourceError: `store.not-writable`; then none of it is acknowledged.
        """
        records: dict[str, str] = {}
        for line in body.decode("utf-8", "replace").splitlines():
            record = _record(line)
            if record is not None:
                records[record["id"]] = json.dumps(record, separators=(",", ":"))
        with self._lock:
            fresh = [line for name, line in records.items() if name not in self._known]
            if fresh:
                try:
                    with self.path.open("a", encoding="utf-8") as file:
                        # Half a line, of a power failure, is ended first: it is no record.
                        file.write("" if self._ends_whole() else "\n")
                        file.writelines(f"{line}\n" for line in fresh)
                        file.flush()
                        os.fsync(file.fileno())
                except OSError as error:
                    raise ResourceError(
                        "store.not-writable", f"`{self.path}` cannot be written: {error.strerror}"
                    ) from error
            self._known |= records.keys()
        return list(records)

    def _ends_whole(self) -> bool:
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return True
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except FileNotFoundError:
            return True


@contextmanager
def collecting(path: Path, port: int = 0) -> Iterator[http.server.ThreadingHTTPServer]:
    """A server on loopback that keeps reports in `path`; its `server_port` is where."""
    collected = Collected(path)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            said = self.headers.get("Content-Length", "")
            size = int(said) if said.isascii() and said.isdigit() else -1
            if not 0 <= size <= LARGEST_BODY:
                self.close_connection = True
                return self._answer(413, {"error": f"a report has 0 to {LARGEST_BODY} bytes"})
            try:
                ids = collected.take(self.rfile.read(size))
            except ResourceError as error:
                return self._answer(503, {"error": error.message, "code": error.code})
            return self._answer(200, {"acknowledged": ids})

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Devices report every minute: nobody reads that."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        yield server


def _ids(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                record = _record(line)
                if record is not None:
                    yield record["id"]
    except FileNotFoundError:
        return


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("id"), str) else None
