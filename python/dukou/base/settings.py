"""Where dukou keeps its state, and every setting of the installation: one declaration each.

A declaration gives the flag, the environment variable, the default and the words of the reference
page. Order: default < environment < flag. Standard library only, and its light part (`dataclasses`
imports `inspect`: 2 MB): `dukou serve` reads it and lives as long as the server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dukou.base.errors import InputError, ResourceError


class Setting(NamedTuple):
    """One declared setting.

    Attributes:
        name: the key in Python.
        flag: on the command line, where a command takes it.
        variable: in the environment.
        default: the value where nobody says another; None where there is none.
        doc: one sentence for the reference page.
    """

    name: str
    flag: str
    variable: str
    default: str | None
    doc: str


class Resolved(NamedTuple):
    """A value with where it came from (`default`, the variable's or the flag's name)."""

    value: str | None
    origin: str


SETTINGS: dict[str, Setting] = {
    declared.name: declared
    for declared in (
        Setting(
            "home",
            "--home",
            "DUKOU_HOME",
            "~/.dukou",
            "Folder of the store, the registry, keys and the trust store.",
        ),
        Setting(
            "signing_key",
            "--signing-key",
            "DUKOU_SIGNING_KEY",
            None,
            "Private key (PEM, ECDSA P-256) that signs versions; made in the home folder on first use.",
        ),
        Setting(
            "encryption_key",
            "--encryption-key",
            "DUKOU_ENCRYPTION_KEY",
            None,
            "Key that seals versions, captures and labels at rest: a file, `env:VARIABLE` or "
            "`command:WORDS`; `keys/encryption.key` in the home folder where absent and there.",
        ),
        Setting(
            "registry",
            "--registry",
            "DUKOU_REGISTRY",
            None,
            "SQLAlchemy URL of the registry; a SQLite file in the home folder where absent.",
        ),
        Setting(
            "backup",
            "--to",
            "DUKOU_BACKUP",
            None,
            "Folder that backups are kept in; where the last one was put where absent.",
        ),
        Setting(
            "key",
            "--key",
            "DUKOU_KEY",
            None,
            "Key (`dk_…`) that requests to a server carry.",
        ),
        Setting(
            "cacert",
            "--cacert",
            "DUKOU_CACERT",
            None,
            "Certificate (PEM) that a server's is checked against; the system's, and this installation's own, "
            "where absent.",
        ),
        Setting(
            "remote_password",
            "--password-stdin",
            "DUKOU_REMOTE_PASSWORD",
            None,
            "Password of `--username` at a registry that versions are pushed to or pulled from; what `docker login` "
            "wrote where absent.",
        ),
        Setting(
            "engine",
            "--engine",
            "DUKOU_ENGINE",
            None,
            "The engine's program; the one installed beside the package where absent.",
        ),
        Setting(
            "runtime",
            "--runtime",
            "ORT_DYLIB_PATH",
            None,
            "ONNX Runtime's shared library; the installed `onnxruntime`'s where absent.",
        ),
    )
}


def resolve_setting(
    name: str, flag: str | None = None, environment: Mapping[str, str] | None = None
) -> Resolved:
    """The setting's value and origin; `flag` is what the command line said, None where nothing.

    An empty variable counts as absent, as shells write `VAR= command`.
    """
    declared = SETTINGS[name]
    if flag is not None:
        return Resolved(flag, declared.flag)
    said = (os.environ if environment is None else environment).get(declared.variable)
    if said:
        return Resolved(said, declared.variable)
    return Resolved(declared.default, "default")


def dukou_home(flag: str | None = None) -> Path:
    """The folder of dukou's state, absolute; made with mode 0700 where it is missing.

    Raises:
        InputError: `config.invalid`: the setting names something that is not a folder.
        ResourceError: `store.not-writable`: the folder cannot be made.
    """
    home = dukou_home_path(flag)
    make_private_folder(home, f"from {resolve_setting('home', flag).origin}")
    return home


def dukou_home_path(flag: str | None = None) -> Path:
    """Where the folder of dukou's state is, or would be, absolute; nothing is made."""
    return Path(str(resolve_setting("home", flag).value)).expanduser().absolute()


def encryption_key_source(home: Path) -> str | None:
    """Where the encryption key comes from: what is set, or the home's own key where there is one."""
    said = resolve_setting("encryption_key").value
    if said is not None:
        return (
            said
            if said.startswith(("env:", "command:"))
            else str(Path(said).expanduser().absolute())
        )
    own = home / "keys" / "encryption.key"
    return str(own) if own.exists() else None


def make_private_folder(folder: Path, origin: str = "") -> None:
    """Makes the folder with mode 0700; leaves one that is there as it is."""
    said = f" ({origin})" if origin else ""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            "config.invalid", f"`{folder}`{said} is to be a folder, and a file is in its place"
        ) from error
    except OSError as error:
        raise ResourceError(
            "store.not-writable", f"the folder `{folder}`{said} cannot be made: {error.strerror}"
        ) from error
