"""The door of a server: who may come in, by which listener. What a table says of it, and what it needs.

Standard library only, until a certificate has to be made: `dukou serve` reads it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dukou.base.errors import InputError
from dukou.deploy import defaults
from dukou.trust.access import EVERY_MODEL, ROLES, AccessKey, Grant, KeyStore, NewKey

_LISTS = ("allow", "deny", "dialects")
# What a server's first key is called. It may do everything: its holder makes the others.
FIRST_KEY = "first"


class Door(NamedTuple):
    """What is allowed on a server's listener.

    Attributes:
        access: `loopback` (anonymous, for this machine), `keys`, `open` (anonymous, for anybody).
        certificate: the certificate chain, absolute; None: in clear.
        key: its private key.
        allow: networks that may connect; empty: whoever is not denied.
        deny: networks that may not.
        dialects: what is spoken, the first of two that know a path first; the usual order where empty.
    """

    access: str = "loopback"
    certificate: str | None = None
    key: str | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()

    @property
    def is_guarded(self) -> bool:
        """Whether it may stand where other machines reach it."""
        return self.access == "open" or (self.access == "keys" and self.certificate is not None)

    @property
    def scheme(self) -> str:
        """Of its address."""
        return "http" if self.certificate is None else "https"

    def listener_document(self, name: str) -> dict[str, Any]:
        """As a listener in a table."""
        tls = None
        if self.certificate is not None and self.key is not None:
            tls = {"certificate": self.certificate, "key": self.key}
        return defaults.listener_document(
            name,
            access=self.access,
            tls=tls,
            allow=self.allow,
            deny=self.deny,
            dialects=self.dialects or defaults.DIALECTS,
        )

    def principals(self, home: Path) -> list[dict[str, Any]]:
        """Whose keys are good here, as in a table. An expired key stays: the log then says so.

        Raises:
            StateError: `access.unreadable-keys`.
        """
        if self.access != "keys":
            return []
        return [_principal(key) for key in KeyStore(home).read()]

    def token(self, home: Path) -> object:
        """Compares equal for as long as the principals are the same. Cheap."""
        return KeyStore(home).stamp() if self.access == "keys" else None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {**self._asdict(), **lists}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Door:
        """What `to_json` gave."""
        lists = {name: tuple(document[name]) for name in _LISTS if name in document}
        return cls(**{**document, **lists})


# Whoever is on this machine.
LOOPBACK = Door()


def _principal(key: AccessKey) -> dict[str, Any]:
    document = key.to_json()
    del document["created"]
    return document


def check_networks(flag: str, texts: Sequence[str]) -> tuple[str, ...]:
    """Addresses and networks, each once.

    Raises:
        InputError: `usage.invalid`, naming the one that is none.
    """
    for text in texts:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise InputError(
                "usage.invalid",
                f"`{flag} {text}` is neither an address nor a network",
                hint="a network is like `10.0.0.0/8`, an address like `192.168.1.7`",
            ) from error
    networks = [str(ipaddress.ip_network(text, strict=False)) for text in texts]
    return tuple(dict.fromkeys(networks))


def furnish(door: Door, home: Path, host: str) -> tuple[Door, NewKey | None]:
    """Makes what a guarded door lacks: the installation's certificate, and a first key.

    Returns:
        The door with its certificate, and the key where one was made: it is shown once.

    Raises:
        ResourceError: `store.not-writable`.
    """
    if door.access != "keys":
        return door, None
    if door.certificate is None:
        from dukou.trust.certificate import ensure_certificate

        certificate, private = ensure_certificate(home / "access", host)
        door = door._replace(certificate=str(certificate), key=str(private))
    keys = KeyStore(home)
    if keys.exists():
        return door, None
    return door, keys.add(FIRST_KEY, [Grant(role, (EVERY_MODEL,)) for role in ROLES])
