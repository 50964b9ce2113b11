"""Versions leave and arrive: a reference of the registry to a remote, and back under a name of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dukou.base.errors import DukouError
from dukou.base.ids import Digest, parse_model_name
from dukou.package.remotes.address import Address, check_tag, parse_address
from dukou.package.remotes.carry import find_version, pull_version, push_version
from dukou.package.remotes.contract import Traffic
from dukou.package.remotes.credentials import Credentials
from dukou.package.remotes.table import open_remote
from dukou.package.store import Store
from dukou.package.unpack import read_config
from dukou.registry.registry import Registry
from dukou.trust.keyring import load_keyring
from dukou.trust.keys import load_trust_store


@dataclass(frozen=True, slots=True)
class Pushed:
    """A version that a remote has now.

    Attributes:
        model: its name here.
        number: its number here.
        digest: its own.
        address: the repository.
        tags: that lead to it there.
        traffic: what travelled.
    """

    model: str
    number: int
    digest: Digest
    address: Address
    tags: tuple[str, ...]
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class Arrived:
    """A version that the registry has now.

    Attributes:
        model: its name here.
        number: its number here.
        digest: its own.
        address: where it came from, with the tag that led to it.
        signed_by: the id of the trusted key.
        traffic: what travelled.
    """

    model: str
    number: int
    digest: Digest
    address: Address
    signed_by: str
    traffic: Traffic


def push_reference(
    home: Path,
    reference: str,
    to: str,
    *,
    tags: tuple[str, ...] = (),
    credentials: Credentials | None = None,
    insecure: bool = False,
) -> Pushed:
    """Sends the version that a reference means.

    Args:
        home: the installation.
        reference: `NAME`, `NAME:3`, `NAME@alias`.
        to: the remote's address.
        tags: that lead to it there; its number and its aliases where none is named.
        credentials: who we are; None asks the login files.
        insecure: whether another machine may be spoken to without TLS.

    Raises:
        StateError: `registry.unknown-*`, `remote.tag-taken`.
        DukouError: `remote.*`, `package.*`.
    """
    with Registry.open(home) as registry:
        entry = registry.resolve(reference)
    address = parse_address(to, model=entry.model, insecure=insecure)
    named = (*tags, *((address.tag,) if address.tag else ()))
    number = str(entry.number)
    wanted = tuple(check_tag(tag) for tag in named) or (number, *entry.aliases)
    remote = open_remote(address, credentials)
    try:
        traffic = push_version(
            Store(home / "store"),
            entry.digest,
            remote,
            wanted,
            fixed=[tag for tag in wanted if tag.isdigit()],
        )
    finally:
        remote.close()
    return Pushed(entry.model, entry.number, entry.digest, address, wanted, traffic)


def pull_address(
    home: Path,
    source: str,
    *,
    name: str | None = None,
    credentials: Credentials | None = None,
    insecure: bool = False,
) -> Arrived:
    """Fetches a version and gives it a number.

    Args:
        home: the installation.
        source: the remote's address; without a tag its champion, else its highest number.
        name: the model's name here; what the version calls itself where absent.
        credentials: who we are; None asks the login files.
        insecure: whether another machine may be spoken to without TLS.

    Raises:
        TrustError: `trust.*`: nobody who is trusted here signed it, or other bytes came.
        DukouError: `remote.*`, `registry.*`.
    """
    if name is not None:
        parse_model_name(name)
    address = parse_address(source, insecure=insecure)
    store = Store(home / "store")
    keyring = load_keyring(home)
    remote = open_remote(address, credentials)
    try:
        tag, digest = address.tag, address.digest
        if digest is None:
            tag, digest = find_version(remote, address.tag)
        pulled = pull_version(remote, digest, store, load_trust_store(home), keyring)
    finally:
        remote.close()
    said, variant = address.name, "original"
    try:
        config = read_config(store, pulled.digest, keyring)
        said, variant = config.name, config.variant
    except DukouError as error:
        # Encrypted, and the key is elsewhere: it may lie here all the same.
        if not error.code.startswith("trust."):
            raise
    model = parse_model_name(name or said)
    with Registry.open(home) as registry:
        number = registry.register_version(model, pulled.digest, variant=variant)
    came_from = Address(
        address.kind, address.host, address.repository, address.plain, tag, address.digest
    )
    return Arrived(model, number, pulled.digest, came_from, pulled.signed_by, pulled.traffic)
