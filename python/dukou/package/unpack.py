"""A version becomes a model again: every digest and the signature checked, then a folder of links.

What the engine does in Rust before it serves, done in Python for those who evaluate, optimize or
look at a version. An encrypted one is laid out in memory: no disk ever holds it in clear.
"""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dukou.base.errors import TrustError
from dukou.base.ids import Digest
from dukou.model.golden import GoldenSamples
from dukou.model.model import Model
from dukou.package.chunks import external_files, load_graph
from dukou.package.contents import Contents
from dukou.package.descriptor import Descriptor, corrupt, load_document
from dukou.package.disk import translate_errors, write_whole
from dukou.package.encryption import is_encrypted
from dukou.package.layout import (
    BUNDLE_TYPE,
    CARD_FILE,
    GOLDEN_FILE,
    GRAPH_FILE,
    Config,
    parse_card,
)
from dukou.package.memory import is_in_memory, make_memory_folder
from dukou.package.store import Store
from dukou.trust.keyring import Keyring
from dukou.trust.keys import PublicKey
from dukou.trust.signature import verify_any


@dataclass(frozen=True, slots=True)
class VerifiedVersion:
    """A version whose every byte, and whose signature where one was asked for, were checked.

    Attributes:
        digest: the version's.
        manifest: its document.
        config: what it says of itself to dukou.
        files: the files of its folder, by name.
        signed_by: the id of the trusted key; None where nobody asked.
        contents: what the files hold, in clear.
    """

    digest: Digest
    manifest: Mapping[str, Any]
    config: Config
    files: Mapping[str, Descriptor]
    signed_by: str | None
    contents: Contents = field(repr=False, compare=False)


def verify_version(
    store: Store,
    digest: str,
    trusted: Mapping[str, PublicKey] | None,
    keyring: Keyring | None = None,
) -> VerifiedVersion:
    """Checks the signature, then every blob that the manifest names; only then is anything decrypted.

    Args:
        store: where the version lies.
        digest: which.
        trusted: whose signatures count; None asks for no signature.
        keyring: for an encrypted version; None takes the one of the home that the store lies in.

    Raises:
        StateError: `package.incomplete`.
        TrustError: `package.digest-mismatch`, `trust.unsigned`, `trust.bad-signature`,
            `trust.unknown-key`; of an encrypted one `trust.no-encryption-key`,
            `trust.wrong-encryption-key`, `trust.bad-ciphertext`.
        InputError: `formats.corrupt`: genuine, and not as the specification says.
    """
    version = _verify(store, digest, trusted, keyring)
    version.contents.check()
    return version


def _verify(
    store: Store,
    digest: str,
    trusted: Mapping[str, PublicKey] | None,
    keyring: Keyring | None,
) -> VerifiedVersion:
    version = store.find_version(digest)
    where = f"version `{digest}`"
    blob = store.read_blob(version.digest, version.size)
    signed_by = None
    if trusted is not None:
        signed_by = verify_any(_bundles(store, version), blob, trusted, digest)
    manifest = load_document(blob, where)
    for descriptor in Descriptor.all_from(manifest, where):
        store.verify_blob(descriptor.digest, descriptor.size)
    contents = Contents(store, manifest, where, keyring)
    return VerifiedVersion(
        version.digest, manifest, contents.config, contents.files, signed_by, contents
    )


def open_version(
    store: Store,
    digest: str,
    trusted: Mapping[str, PublicKey] | None,
    *,
    folder: Path | None = None,
    copy: bool = False,
    keyring: Keyring | None = None,
) -> Model:
    """Verifies the version and lays out a folder that stock ONNX Runtime opens.

    The folder of an encrypted version is in memory, and goes with this process.

    Args:
        store: where the version lies.
        digest: which.
        trusted: whose signatures count; None asks for no signature.
        folder: where to, `STORE/versions/<hex>` where absent. It is made whole or not at all. For an
            encrypted version it must be in memory (`tmpfs`), and a new one is made where it is absent.
        copy: copies instead of hard links: the `onnx` package refuses weights in files with several
            names, and a tool that writes in place must not reach the store. Only with `folder`.
        keyring: as for `verify_version`.

    Raises:
        As `verify_version`, TrustError (`trust.not-in-memory`), and ResourceError (`store.disk-full`,
        `store.not-writable`, `store.no-memory-folder`).
    """
    version = _verify(store, digest, trusted, keyring)
    where = f"version `{digest}`"
    hexdigest = digest.removeprefix("sha256:")
    if version.contents.encrypted:
        target = _memory_target(folder, where) or make_memory_folder() / hexdigest
        with translate_errors(target):
            _lay_out_clear(version.contents, target)
    else:
        target = folder or store.path / "versions" / hexdigest
        with translate_errors(target):
            _lay_out(store, version.files, target, copy=copy)
    unknown = external_files(load_graph(target / GRAPH_FILE)) - set(version.files)
    if unknown:
        raise corrupt(where, f"its graph reads `{min(unknown)}`, which is not one of its files")
    card_document = version.contents.document(CARD_FILE)
    if card_document is None:
        raise corrupt(where, f"it has no layer `{CARD_FILE}`")
    card, lineage = parse_card(card_document, where)
    samples = version.contents.read(GOLDEN_FILE)
    golden = None if samples is None else _golden(samples, where)
    return Model(
        graph=target / GRAPH_FILE,
        signature=version.config.signature,
        lineage=lineage,
        golden=golden,
        card=card,
        variant=version.config.variant,
    )


def folder_for(store: Store, digest: str, folder: Path) -> Path | None:
    """`folder` for a version in clear; None for an encrypted one, which `open_version` lays out in memory.

    Raises:
        DukouError: `package.*`.
    """
    encrypted = is_encrypted(store.read_manifest(store.find_version(digest)))
    return None if encrypted else folder


def read_config(store: Store, digest: str, keyring: Keyring | None = None) -> Config:
    """What a version says of itself; its digests are checked, its signature and weights are not."""
    return Contents.of(store, digest, keyring).config


def read_card(store: Store, digest: str, keyring: Keyring | None = None) -> dict[str, Any]:
    """The version's card, lineage and evaluation, as packaged; checked as `read_config` is."""
    card = Contents.of(store, digest, keyring).document(CARD_FILE)
    if card is None:
        raise corrupt(f"version `{digest}`", f"it has no layer `{CARD_FILE}`")
    return card


def read_document(
    store: Store, digest: str, name: str, keyring: Keyring | None = None
) -> dict[str, Any] | None:
    """A file of the version that is a JSON object, None where it has none; checked as `read_config` is."""
    return Contents.of(store, digest, keyring).document(name)


def _bundles(store: Store, version: Descriptor) -> list[bytes]:
    """The signatures that say they are of this version; whether they are is `trust`'s to find."""
    bundles = []
    for referrer in store.referrers(version.digest):
        if referrer.artifact_type != BUNDLE_TYPE:
            continue
        manifest = store.read_manifest(referrer)
        subject = manifest.get("subject")
        if not isinstance(subject, dict) or subject.get("digest") != version.digest:
            raise TrustError(
                "trust.bad-signature",
                f"the signature listed for version `{version.digest}` is of another: {subject!r:.120}",
            )
        layers = Descriptor.list_from(manifest, "layers", f"signature `{referrer.digest}`")
        bundles += [
            store.read_blob(layer.digest, layer.size)
            for layer in layers
            if layer.media_type == BUNDLE_TYPE
        ]
    return bundles


def _golden(blob: bytes, where: str) -> GoldenSamples:
    try:
        return GoldenSamples.from_json(blob)
    except (KeyError, TypeError, ValueError) as error:
        raise corrupt(where, f"its golden samples lack or misuse {error}") from error


def _memory_target(folder: Path | None, where: str) -> Path | None:
    if folder is not None and not is_in_memory(folder):
        raise TrustError(
            "trust.not-in-memory",
            f"{where} is encrypted, and `{folder}` is on a disk: it would lie there in clear",
        )
    return folder


def _lay_out_clear(contents: Contents, target: Path) -> None:
    """Makes a folder of the decrypted files, for their owner alone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir(mode=0o700, exist_ok=True)
    for name in contents.files:
        write_whole(target / name, [contents.read(name) or b""], target, mode=0o600)


def _lay_out(store: Store, files: Mapping[str, Descriptor], target: Path, *, copy: bool) -> None:
    """Makes the folder appear whole; one that is there and right already is left."""
    if target.is_dir() and not copy and _is_laid_out(store, files, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.parent / f".{target.name[:64]}.{secrets.token_hex(8)}"
    fresh.mkdir()
    try:
        for name, descriptor in files.items():
            _place(store.blob_path(descriptor.digest), fresh / name, copy=copy)
        if target.exists():
            aside = fresh.with_name(fresh.name + ".old")
            target.rename(aside)
            fresh.rename(target)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            fresh.rename(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        # Another process may have laid out the same folder meanwhile: then it is there, and right.
        if not copy and target.is_dir() and _is_laid_out(store, files, target):
            return
        raise


def _place(blob: Path, name: Path, *, copy: bool) -> None:
    if not copy:
        try:
            name.hardlink_to(blob)
            return
        except OSError as error:
            # Another file system, one without links, or a blob with too many of them.
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise
    shutil.copyfile(blob, name)


def _is_laid_out(store: Store, files: Mapping[str, Descriptor], target: Path) -> bool:
    """Whether the folder holds exactly these files, as links to the verified blobs."""
    if {path.name for path in target.iterdir()} != set(files):
        return False
    return all(
        store.blob_path(descriptor.digest).samefile(target / name)
        for name, descriptor in files.items()
    )
