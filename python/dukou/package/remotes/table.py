"""The kinds of remotes: one file and one line add one."""

from __future__ import annotations

from typing import cast

from dukou.base.lazy import resolve
from dukou.package.remotes.address import Address
from dukou.package.remotes.contract import Remote
from dukou.package.remotes.credentials import Credentials

REMOTES = {
    "oci": "dukou.package.remotes.oci:OciRemote",
    "folder": "dukou.package.remotes.folder:FolderRemote",
}


def open_remote(address: Address, credentials: Credentials | None = None) -> Remote:
    """The remote at an address; nothing is asked of it yet. Close it."""
    return cast(Remote, resolve(REMOTES[address.kind])(address, credentials))
