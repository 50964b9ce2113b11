"""Keys, made and ended with an event in the registry's audit chain, where a registry is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dukou.base.settings import resolve_setting
from dukou.trust.access import AccessKey, Grant, KeyStore, NewKey, Rate


def add_key(
    home: Path,
    name: str,
    grants: Sequence[Grant],
    *,
    rate: Rate | None = None,
    expires: int | None = None,
) -> NewKey:
    """Makes a key.

    Args:
        home: DUKOU_HOME.
        name: whose it is.
        grants: what it may do.
        rate: how often it may ask.
        expires: the second since 1970 from which it is good no more.

    Raises:
        InputError: `usage.invalid`.
    """
    made = KeyStore(home).add(name, grants, rate=rate, expires=expires)
    _note(home, "key.added", made.key, {"expires": expires, "grants": _words(made.key)})
    return made


def rotate_key(home: Path, name: str, *, overlap_s: float = 0.0) -> NewKey:
    """Makes another key in place of one; the old one ends at once, or after `overlap_s`.

    Raises:
        InputError: `access.unknown-key`.
    """
    made = KeyStore(home).rotate(name, overlap_s=overlap_s)
    _note(home, "key.rotated", made.key, {"overlap_s": round(overlap_s)})
    return made


def revoke_keys(home: Path, name: str) -> list[AccessKey]:
    """Ends every key of this name, or the one with this id.

    Raises:
        InputError: `access.unknown-key`.
    """
    gone = KeyStore(home).revoke(name)
    for key in gone:
        _note(home, "key.revoked", key, {})
    return gone


def _words(key: AccessKey) -> list[str]:
    return [f"{grant.role} {model}" for grant in key.grants for model in grant.models]


def _note(home: Path, action: str, key: AccessKey, details: Mapping[str, Any]) -> None:
    """Nothing secret is written: an audit chain is read by many."""
    if resolve_setting("registry").value is None and not (home / "registry.db").exists():
        return
    from dukou.registry.registry import Registry

    with Registry.open(home) as registry, registry.write() as connection:
        registry.note(connection, action, f"key/{key.name}", {"id": key.id, **details})
