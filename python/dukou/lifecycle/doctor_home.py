"""The part of the diagnosis that looks under DUKOU_HOME: folder, keys, registry, store, servers."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dukou.base.errors import DukouError
from dukou.base.settings import resolve_setting
from dukou.lifecycle.doctor import Finding, of_error

Guard = Callable[[str, Callable[[], Iterator[Finding]]], Iterator[Finding]]

_FULL_BYTES = 100 * 1024 * 1024
_NEARLY_FULL_BYTES = 1024 * 1024 * 1024
_LISTED = 5
_CLOCKS_DIFFER = timedelta(minutes=5)


def check_home(home: Path, guard: Guard, *, every_byte: bool = False) -> Iterator[Finding]:
    """The home, and what is in it where it is there.

    Args:
        home: DUKOU_HOME.
        guard: runs a check so that what it raises is a finding.
        every_byte: read the whole store.
    """
    yield from guard("home", lambda: _check_folder(home))
    if os.path.isdir(home) and os.access(home, os.R_OK | os.X_OK):  # noqa: PTH112 (never raises)
        yield from guard("keys", lambda: _check_keys(home))
        yield from guard("encryption", lambda: check_encryption(home))
        yield from guard("registry", lambda: _check_registry(home))
        if every_byte:
            yield from guard("store", lambda: _check_every_byte(home))
    yield from guard("servers", lambda: _check_servers(home))


def _check_folder(home: Path) -> Iterator[Finding]:
    origin = resolve_setting("home").origin
    if not home.exists():
        yield Finding("home", "ok", f"`{home}` ({origin}) is not there yet; the first use makes it")
        above = next((p for p in home.parents if p.exists()), Path("/"))
        if not os.access(above, os.W_OK | os.X_OK):
            yield Finding(
                "home",
                "problem",
                f"`{above}` may not be written to, so `{home}` cannot be made",
                "choose another `DUKOU_HOME`, or mend the permissions",
                "store.not-writable",
            )
        yield from _check_space(above)
        return
    if not home.is_dir():
        yield Finding(
            "home",
            "problem",
            f"`{home}` ({origin}) is to be a folder, and a file is in its place",
            "take it away, or choose another `DUKOU_HOME`",
            "config.invalid",
        )
        return
    yield Finding("home", "ok", f"`{home}` ({origin})")
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "home",
            "problem",
            f"`{home}` may not be written to by this user",
            "choose another `DUKOU_HOME`, or mend the permissions",
            "store.not-writable",
        )
    found = home.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        yield Finding(
            "home",
            "warning",
            f"others may look into `{home}`: mode {mode:o}",
            f"`chmod 700 {home}`",
        )
    if found.st_uid != os.geteuid():
        yield Finding(
            "home",
            "warning",
            f"`{home}` is of user {found.st_uid}, and this is user {os.geteuid()}",
            "run dukou as its owner, or choose another `DUKOU_HOME`",
        )
    yield from _check_space(home)


def _check_space(home: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(home).free
    inodes = os.statvfs(home)
    says = f"{free / 1e9:.1f} GB free on the disk of `{home}`"
    remedy = "free some: `dukou clean --dry-run` shows what dukou does not need"
    if free < _FULL_BYTES:
        yield Finding("disk", "problem", says, remedy, "store.disk-full")
    elif free < _NEARLY_FULL_BYTES:
        yield Finding("disk", "warning", says, remedy)
    elif inodes.f_files and inodes.f_favail * 100 < inodes.f_files:
        yield Finding("disk", "warning", f"{inodes.f_favail} files more fit on the disk", remedy)
    else:
        yield Finding("disk", "ok", says)


def _check_keys(home: Path) -> Iterator[Finding]:
    from dukou.trust.keys import load_signing_key, load_trust_store

    named = resolve_setting("signing_key")
    path = home / "keys" / "signing.pem" if named.value is None else Path(named.value).expanduser()
    trusted = load_trust_store(home)
    if path.is_file():
        key = load_signing_key(path)
        yield Finding("keys", "ok", f"versions are signed by `{key.id[:16]}` (`{path}`)")
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Finding(
                "keys",
                "problem",
                f"others may read the private key `{path}`: mode {mode:o}",
                f"`chmod 600 {path}`; where somebody may have read it, make a new one",
            )
        if key.id not in trusted:
            yield Finding(
                "keys",
                "warning",
                f"the signing key `{key.id[:16]}` is not in `{home / 'trust'}`: "
                "what it signs is not served here",
                f"copy its public half there: `cp {home / 'keys' / 'signing.pub'} {home / 'trust'}/`",
                "trust.unknown-key",
            )
    elif named.value is not None or (home / "keys" / "signing.pub").exists():
        yield Finding(
            "keys",
            "problem",
            f"the signing key `{path}` is not there",
            "restore it from your backup, or name another with `DUKOU_SIGNING_KEY`",
            "trust.missing-key",
        )
    else:
        yield Finding(
            "keys", "ok", "no signing key yet; the first version that is packaged makes it"
        )
    keys = "1 key is trusted" if len(trusted) == 1 else f"{len(trusted)} keys are trusted"
    yield Finding("trust", "ok", f"{keys} (`{home / 'trust'}`)")


def check_encryption(home: Path) -> Iterator[Finding]:
    """The encryption key, and whether it opens what is sealed here.

    Raises:
        DukouError: `trust.*`: the key cannot be had, or may be read by others.
    """
    from dukou.lifecycle.encryption import configured, survey

    keyring, holdings = configured(home), survey(home)
    sealed = sum(holding.sealed for holding in holdings)
    clear = sum(holding.clear for holding in holdings)
    if keyring is None:
        says = "no encryption key: what is written here is in clear"
    else:
        says = f"key `{keyring.current.id}`: {sealed} things are sealed, {clear} lie here in clear"
    yield Finding("encryption", "ok", says)
    here = {key.id for key in keyring.keys} if keyring else set()
    foreign = {key for holding in holdings for key in holding.under} - here
    if foreign:
        yield Finding(
            "encryption",
            "problem",
            f"something is sealed under a key that is not here: {', '.join(sorted(foreign))}",
            "add that key to the key's source as a second line, and `dukou encryption rotate`",
            "trust.wrong-encryption-key" if keyring else "trust.no-encryption-key",
        )
    elif keyring is not None and len(keyring.keys) > 1:
        yield Finding(
            "encryption",
            "warning",
            f"{keyring.source} holds {len(keyring.keys)} keys: a rotation is unfinished",
            "`dukou encryption rotate` finishes it",
        )


def _check_registry(home: Path) -> Iterator[Finding]:
    from dukou.package.store import Store
    from dukou.registry.database import HEAD
    from dukou.registry.look import look_at_registry

    look = look_at_registry(home, verify=True)
    if not look.exists:
        yield Finding("registry", "ok", f"{look.name} is not there yet; `dukou ship` makes it")
        return
    models = len({version.model for version in look.versions})
    yield Finding(
        "registry",
        "ok",
        f"{look.name}: {models} model{'' if models == 1 else 's'}, "
        f"{len(look.versions)} version{'' if len(look.versions) == 1 else 's'}; "
        f"the audit chain verifies ({look.events or 0} events)",
    )
    yield from _check_newest(look.newest)
    if not look.is_current:
        newer = look.step is not None and look.step > HEAD
        yield Finding(
            "registry",
            "problem" if newer else "warning",
            f"its tables are of step {look.step or 'none'}, and this dukou knows step {HEAD}",
            "update dukou" if newer else "nothing to do: they are upgraded when next used",
            "registry.unreadable" if newer else None,
        )
    names = {version.digest: f"{version.model}:{version.number}" for version in look.versions}
    store = Store(home / "store")
    broken: list[tuple[str, DukouError]] = []
    for digest, name in names.items():
        broken += [(name, error) for error in store.check_presence([digest])]
    for name, error in broken[:_LISTED]:
        finding = of_error("store", error)
        yield finding._replace(says=f"`{name}`: {error.message}")
    if len(broken) > _LISTED:
        yield Finding("store", "problem", f"and {len(broken) - _LISTED} more of this kind")
    if not broken:
        yield Finding("store", "ok", "every blob that the registered versions name is there")


def _check_newest(newest: str | None) -> Iterator[Finding]:
    """Times of events are compared by whoever reads them: windows, chores, rollouts' deadlines."""
    if newest is not None and datetime.fromisoformat(newest) - datetime.now(UTC) > _CLOCKS_DIFFER:
        yield Finding(
            "time",
            "warning",
            f"the registry's newest event is of {newest[:19]}Z, which has not come yet",
            "one clock is wrong, of this machine or of another that writes to the registry: set it",
        )


def _check_every_byte(home: Path) -> Iterator[Finding]:
    from dukou.package.store import Store

    errors = Store(home / "store").verify_all()
    yield from (of_error("store", error) for error in errors[:_LISTED])
    if len(errors) > _LISTED:
        yield Finding("store", "problem", f"and {len(errors) - _LISTED} more blobs do not verify")
    if not errors:
        yield Finding("store", "ok", "every byte of the store is what its digest says")


def _check_servers(home: Path) -> Iterator[Finding]:
    from dukou.serve.folder import look_at_servers, runtime_path
    from dukou.serve.local_api import LocalApi

    folder = runtime_path()
    if folder.exists():
        found = folder.lstat()
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            yield Finding(
                "servers",
                "problem",
                f"`{folder}` is to be a folder of user {os.geteuid()} with mode 700, and it is of "
                f"user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}",
                "take it away or mend it, or point `XDG_RUNTIME_DIR` at a folder of yours",
                "access.foreign-folder",
            )
            return
    living, stale = 0, []
    for server, document, lives in look_at_servers():
        if not lives:
            stale.append(server.id)
            continue
        living += 1
        where = f"`{server.id}` at {document.get('url', 'no address yet')}"
        try:
            state = LocalApi(server.socket, timeout_s=2.0).state()
        except DukouError as error:
            yield of_error("servers", error)._replace(
                says=f"{where} does not answer: {error.message}",
                remedy=f"its log is `{document.get('log', home / 'logs')}`; start it again",
            )
            continue
        trouble = (server.read(server.control) or {}).get("trouble")
        if isinstance(trouble, dict):
            minutes = (time.time() - float(trouble.get("since", time.time()))) / 60
            yield Finding(
                "servers",
                "warning",
                f"{where} is kept as it is, for {minutes:.0f} min: {trouble.get('message')}",
                f"`dukou help {trouble.get('code')}`",
                trouble.get("code"),
            )
        else:
            yield Finding("servers", "ok", f"{where} answers; table {state.get('revision')}")
    if stale:
        yield Finding(
            "servers",
            "warning",
            f"{len(stale)} folder{'' if len(stale) == 1 else 's'} of servers that are gone: "
            + ", ".join(f"`{name}`" for name in stale[:_LISTED]),
            "`dukou clean` or `dukou status` takes them away",
        )
    if not living and not stale:
        yield Finding("servers", "ok", "none runs here")
