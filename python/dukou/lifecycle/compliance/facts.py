"""What is measured: the running servers' own tables, files and their modes, the registry, keys, ages.

Reads and asks; changes nothing. What cannot be read is a fact too: it is kept as the sentence that says
why, and the control that needs it is missing its evidence.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import DukouError

if TYPE_CHECKING:
    from dukou.registry.registry import Registry
    from dukou.trust.access import AccessKey

# What only the owner may read, relative to the home folder, itself first: it guards what is in it.
_PRIVATE = ("", "keys", "access", "monitor", "servers", "fleets", "keys/*", "access/*")
# Public halves lie among these.
_PUBLIC = (".pub", ".id")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        url: where it answers.
        table: what its engine serves; None where it does not answer.
    """

    url: str
    table: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Captured:
    """A model whose requests are kept.

    Attributes:
        model: its name.
        untagged_allowed: whether fields without a tag may be kept.
        tagged: how many fields have a tag.
        keep_days: after how many days they go; None for never.
        oldest_days: age of the oldest that is there; None where none is.
    """

    model: str
    untagged_allowed: bool
    tagged: int
    keep_days: float | None
    oldest_days: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is judged.

    Attributes:
        now: seconds since 1970.
        servers: that run.
        keys: API keys, expired ones too.
        encryption_key: the id of the key that seals; None where none is configured.
        in_clear: place → how many things lie there in the clear.
        sealed: how many things are sealed.
        loose: paths that others may read, with their modes.
        signed: references of aliased versions whose signature was verified.
        unsigned: reference → why it was not.
        audit_events: of the chain that verified.
        audit_problem: why it did not; empty where it did.
        backup_verified: when a backup was last proved; None for never.
        backup_folder: where backups are; empty for nowhere.
        captured: models whose requests are kept.
        dependencies: when what is installed was last looked at, and how that ended.
        problems: topic → why its facts could not be measured.
    """

    now: float
    servers: tuple[Server, ...] = ()
    keys: tuple[AccessKey, ...] = ()
    encryption_key: str | None = None
    in_clear: Mapping[str, int] = field(default_factory=dict)
    sealed: int = 0
    loose: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()
    unsigned: Mapping[str, str] = field(default_factory=dict)
    audit_events: int = 0
    audit_problem: str = ""
    backup_verified: float | None = None
    backup_folder: str = ""
    captured: tuple[Captured, ...] = ()
    dependencies: tuple[float, str] | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


def gather(home: Path) -> Facts:
    """Measures everything that the controls ask for."""
    from dukou.serve.backup_age import backup_times, read_backup_facts
    from dukou.trust.access import KeyStore

    problems: dict[str, str] = {}
    found: dict[str, Any] = {}
    for topic, look in (
        ("keys", lambda: {"keys": KeyStore(home).read()}),
        ("encryption", lambda: _encryption(home)),
        ("registry", lambda: _registry(home)),
    ):
        try:
            found |= look()
        except DukouError as error:
            problems[topic] = str(error)
    return Facts(
        now=time.time(),
        servers=tuple(_servers(home)),
        loose=tuple(_loose(home)),
        backup_verified=backup_times(home).get("verified"),
        backup_folder=str((read_backup_facts(home) or {}).get("folder", "")),
        problems=problems,
        **found,
    )


def _servers(home: Path) -> Iterator[Server]:
    from dukou.serve.folder import running_servers
    from dukou.serve.local_api import LocalApi

    for folder, document in running_servers():
        if not Path(str(document.get("state_dir", home))).is_relative_to(home):
            continue  # of another installation
        try:
            table = LocalApi(folder.socket, timeout_s=5.0).table()
        except DukouError:
            table = None
        yield Server(str(document["url"]), table)


def _encryption(home: Path) -> dict[str, Any]:
    from dukou.lifecycle.encryption import configured, survey

    keyring, holdings = configured(home), survey(home)
    return {
        "encryption_key": None if keyring is None else keyring.current.id,
        "in_clear": {h.place: h.clear for h in holdings if h.clear and h.sealable},
        "sealed": sum(h.sealed for h in holdings),
    }


def _loose(home: Path) -> Iterator[str]:
    for pattern in _PRIVATE:
        for path in sorted(home.glob(pattern)) if pattern else [home]:
            try:
                mode = stat.S_IMODE(path.stat().st_mode)
            except OSError:
                continue
            public = path.suffix in _PUBLIC or path.name == "certificate.pem"
            if mode & 0o077 and not public:
                yield f"`{path}` ({mode:04o})"


def _registry(home: Path) -> dict[str, Any]:
    from dukou.registry.registry import Registry

    with Registry.open(home) as registry:
        found: dict[str, Any] = {"audit_problem": ""}
        try:
            found["audit_events"] = registry.verify_audit()
        except DukouError as error:
            found["audit_problem"] = error.message
        found |= _versions(home, registry)
        found["captured"] = tuple(_captured(home, registry))
        subjects = [model.name for model in registry.models()]
        audits = [
            entry
            for subject in subjects
            for entry in registry.chores.list(subject, "audit-dependencies", limit=1)
        ]
        if audits:
            last = max(audits, key=lambda entry: entry.ended)
            found["dependencies"] = (_seconds(last.ended), last.outcome)
        return found


def _versions(home: Path, registry: Registry) -> dict[str, Any]:
    from dukou.package.store import Store
    from dukou.package.unpack import verify_version
    from dukou.trust.keys import load_trust_store

    store, trusted = Store(home / "store"), load_trust_store(home)
    signed: list[str] = []
    unsigned: dict[str, str] = {}
    for model in registry.models():
        for version in registry.versions(model.name):
            if not version.aliases:
                continue
            reference = f"{model.name}:{version.number}"
            try:
                verify_version(store, version.digest, trusted)
                signed.append(reference)
            except DukouError as error:
                unsigned[reference] = f"{error.message} [{error.code}]"
    return {"signed": tuple(signed), "unsigned": unsigned}


def _captured(home: Path, registry: Registry) -> Iterator[Captured]:
    from dukou.base.documents import parse_document
    from dukou.base.durations import parse_duration
    from dukou.control.privacy import policy_for
    from dukou.deploy.document import Deployment
    from dukou.monitor.store import CaptureStore
    from dukou.package.store import Store

    for entry in registry.deployments():
        deployment = parse_document(
            Deployment, dict(entry.document), code="deploy.invalid", source="a deployment"
        )
        for model in deployment.models:
            if model.capture is None:
                continue
            keep = model.monitor.keep
            days = CaptureStore(home, model.line).days()
            oldest = None
            if days:
                begun = datetime.strptime(days[0].name, "%Y-%m-%d").replace(tzinfo=UTC)
                oldest = (time.time() - begun.timestamp()) / 86400
            policy = policy_for(model, registry, Store(home / "store"))
            yield Captured(
                model.name,
                untagged_allowed=policy is not None and policy.capture_untagged,
                tagged=0 if policy is None else len(policy.fields),
                keep_days=None
                if keep is None
                else parse_duration(keep, key="monitor.keep").total_seconds() / 86400,
                oldest_days=oldest,
            )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
