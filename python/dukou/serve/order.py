"""What a server is told to serve, and where its files lie; plain values, decided before anything starts."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dukou.base.ids import ModelName
from dukou.base.settings import make_private_folder
from dukou.deploy import defaults
from dukou.deploy.door import LOOPBACK, Door
from dukou.deploy.override import NO_OVERRIDE, Override
from dukou.serve.bare import FileModel
from dukou.serve.folder import ServerFolder, running_servers
from dukou.serve.follow import Followed

# The socket that a server's address is of. A table binds policies and dialects to names.
LISTENER = "http"
_SPARE_DESCRIPTORS = 256
_KEPT_LOGS = 60


class Reference(NamedTuple):
    """A version of the registry, by the words of the command line.

    Attributes:
        name: what it is served as.
        text: `digits`, `digits:3` or `digits@champion`.
    """

    name: ModelName
    text: str


class Order(NamedTuple):
    """What to serve.

    Attributes:
        files: models of ONNX files.
        references: versions of the registry, followed as their aliases move.
        documents: files of deployments, followed as they change.
        host: the address that is listened on.
        port: 0 takes a free one.
        engine: the engine's program.
        runtime: ONNX Runtime's library.
        threads: the engine's worker threads; its own choice where None.
        golden: model → input tensors of a golden sample of a converted file.
        door: who may come in.
        override: what is said of every model in place of its deployment's word.
        notes: sentences for the person who starts it.
        folders: of models, followed as what lies in them changes.
        ports: of the other sockets, by their names, where the ports of another server are opened.
        stores: folders from which clients who may manage can register models; absolute.
    """

    files: Mapping[ModelName, FileModel]
    references: Sequence[Reference]
    host: str
    port: int
    engine: Path
    runtime: Path
    threads: int | None = None
    golden: Mapping[str, list[dict[str, Any]]] = {}
    documents: Sequence[Path] = ()
    door: Door = LOOPBACK
    override: Override = NO_OVERRIDE
    notes: Sequence[str] = ()
    ports: Mapping[str, int] = {}
    folders: Sequence[Followed] = ()
    stores: Sequence[Path] = ()

    @property
    def all_ports(self) -> dict[str, int]:
        """Every socket's name and port."""
        return {LISTENER: self.port, **self.ports}

    @property
    def first_name(self) -> str:
        """The name of the first model or document: what the server's folder is called by."""
        documents = (re.sub(r"[^A-Za-z0-9_-]", "-", path.stem) for path in self.documents)
        return next(iter([*self.files, *(r.name for r in self.references), *documents]))

    @property
    def needs_control(self) -> bool:
        """Whether what is served can change while it is served."""
        return bool(self.references or self.documents)


class Layout:
    """Where the files of one server lie.

    Attributes:
        home: DUKOU_HOME.
        folder: the runtime folder: sockets and what others read of this server.
        state_dir: the engine's: its last good table. Removed when the server ends.
        log: the engine's log.
        control_log: control's log.
        access_log: one JSON line a request.
        security_log: one JSON line a refusal, or a burst of them.
    """

    def __init__(self, home: Path, folder: ServerFolder) -> None:
        self.home = home
        self.folder = folder
        logs = self.home / "logs"
        self.state_dir = self.home / "servers" / self.folder.id
        self.log = logs / f"engine-{self.folder.id}.log"
        self.control_log = logs / f"control-{self.folder.id}.log"
        self.access_log = logs / f"access-{self.folder.id}.jsonl"
        self.security_log = logs / f"security-{self.folder.id}.jsonl"

    def make(self) -> None:
        """Makes the folders; the compiled cache is one for all servers of this home."""
        compiled = self.home / "compiled"
        for folder in (compiled, self.log.parent, self.state_dir.parent, self.state_dir):
            make_private_folder(folder)
        link = self.state_dir / "compiled"
        if not link.is_symlink():
            link.symlink_to(compiled)
        self._prune_logs()

    def desired(self, order: Order, connections: int) -> dict[str, Any]:
        """What control is to hold the engine at (`desired.json`)."""
        return {
            "format": 1,
            "home": str(self.home),
            "socket": str(self.folder.socket),
            "state_dir": str(self.state_dir),
            "listeners": list(order.all_ports),
            "connections": connections,
            "access_log": str(self.access_log),
            "security_log": str(self.security_log),
            "door": order.door.to_json(),
            "override": order.override.to_json(),
            "replica_of": replica_of(),
            "files": [{"name": name, **model.to_json()} for name, model in order.files.items()],
            "references": [
                {"name": reference.name, "reference": reference.text}
                for reference in order.references
            ],
            "documents": [str(path) for path in order.documents],
            "stores": [str(folder) for folder in order.stores],
        }

    def _prune_logs(self) -> None:
        """Keeps the newest logs of servers that ended, and all of those that run."""
        living = {folder.id for folder, _ in running_servers()}
        ended = [
            (path.stat().st_mtime, path)
            for path in self.log.parent.glob("*-*-*.*")
            if path.name.split(".")[0].partition("-")[2] not in living
        ]
        for _, path in sorted(ended)[:-_KEPT_LOGS]:
            path.unlink(missing_ok=True)


def replica_of() -> str | None:
    """The fleet's name for this server, where it is one of a fleet's (`dukou.fleet`): `digits/replica-1`."""
    return os.environ.get("DUKOU_REPLICA_OF")


def allowed_connections() -> int:
    """Raises the limit of open files as far as allowed; connections that then fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = defaults.CONNECTIONS + _SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return defaults.CONNECTIONS
    return max(16, min(defaults.CONNECTIONS, soft - _SPARE_DESCRIPTORS))
