"""What a container has mounted so that it may answer other machines: keys and a certificate.

Copies of this installation's own, readable for the user that images run as and for nobody else.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dukou.deploy.door import FIRST_KEY
from dukou.fleet.image import USER
from dukou.package.disk import translate_errors
from dukou.trust.access import EVERY_MODEL, ROLES, Grant, KeyStore, NewKey
from dukou.trust.certificate import ensure_certificate

KEYS, CERTIFICATE, PRIVATE = "keys.json", "tls.crt", "tls.key"


def write_access(home: Path, into: Path, host: str) -> NewKey | None:
    """Fills the folder that is mounted at `/run/dukou`; again, where it is there already.

    Args:
        home: DUKOU_HOME, whose keys are good.
        into: the folder.
        host: the name or address that callers use; in the certificate beside this machine's own.

    Returns:
        The first key, where there was none yet: it is shown once.

    Raises:
        ResourceError: `store.not-writable`. StateError: `access.unreadable-keys`.
    """
    keys = KeyStore(home)
    first = None
    if not keys.exists():
        first = keys.add(FIRST_KEY, [Grant(role, (EVERY_MODEL,)) for role in ROLES])
    keys.read()  # one that cannot be read is told here, not by a container that does not start
    # A folder for each host: a server's own certificate stays what its callers trust.
    certificate, private = ensure_certificate(home / "access" / "images" / _folder(host), host)
    with translate_errors(into):
        into.mkdir(parents=True, exist_ok=True)
        into.chmod(0o700)
        _own(into)
        for source, name in ((keys.path, KEYS), (certificate, CERTIFICATE), (private, PRIVATE)):
            incoming = into / f".{name}.new"
            incoming.unlink(missing_ok=True)
            incoming.touch(mode=0o600)
            shutil.copyfile(source, incoming)
            incoming.chmod(0o400)
            _own(incoming)
            incoming.replace(into / name)
    return first


def is_for_containers() -> bool:
    """Whether what is written here belongs to the user that containers run as: only root can do that."""
    return os.geteuid() == 0


def _own(path: Path) -> None:
    if is_for_containers():
        os.chown(path, USER, USER)


def _folder(host: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in host) or "_"
