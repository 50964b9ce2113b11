"""A version becomes a model again: every digest and the signature checked, then a folder of links.

What the engine does in Rust before it serves, done in Python for those who evaluate, optimize or
look at a version.
"""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dukou.base.errors import TrustError
from dukou.base.ids import Digest
from dukou.model.golden import GoldenSamples
from dukou.model.model import Model
from dukou.package.chunks import external_files, load_graph
from dukou.package.descriptor import Descriptor, corrupt, load_document
from dukou.package.disk import translate_errors
from dukou.package.layout import (
    BUNDLE_TYPE,
    CARD_FILE,
    GOLDEN_FILE,
    GRAPH_FILE,
    Config,
    file_layers,
    parse_card,
    parse_config,
)
from dukou.package.store import Store
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
    """

    digest: Digest
    manifest: Mapping[str, Any]
    config: Config
    files: Mapping[str, Descriptor]
    signed_by: str | None


def verify_version(
    store: Store, digest: str, trusted: Mapping[str, PublicKey] | None
) -> VerifiedVersion:
    """Checks the signature, then every blob that the manifest names.

    Args:
        store: where the version lies.
        digest: which.
        trusted: whose signatures count; None asks for no signature.

    Raises:
        StateError: `package.incomplete`.
        TrustError: `package.digest-mismatch`, `trust.unsigned`, `trust.bad-signature`,
            `trust.unknown-key`.
        InputError: `formats.corrupt`: genuine, and not as the specification says.
    """
    version = store.find_version(digest)
    where = f"version `{digest}`"
    blob = store.read_blob(version.digest, version.size)
    signed_by = None
    if trusted is not None:
        signed_by = verify_any(_bundles(store, version), blob, trusted, digest)
    manifest = load_document(blob, where)
    files = file_layers(manifest, where)
    for descriptor in Descriptor.all_from(manifest, where):
        store.verify_blob(descriptor.digest, descriptor.size)
    config = _config(store, manifest, where)
    return VerifiedVersion(version.digest, manifest, config, files, signed_by)


def open_version(
    store: Store,
    digest: str,
    trusted: Mapping[str, PublicKey] | None,
    *,
    folder: Path | None = None,
    copy: bool = False,
) -> Model:
    """Verifies the version and lays out a folder that stock ONNX Runtime opens.

    Args:
        store: where the version lies.
        digest: which.
        trusted: whose signatures count; None asks for no signature.
        folder: where to, `STORE/versions/<hex>` where absent. It is made whole or not at all.
        copy: copies instead of hard links: the `onnx` package refuses weights in files with several
            names, and a tool that writes in place must not reach the store. Only with `folder`.

    Raises:
        As `verify_version`, and ResourceError (`store.disk-full`, `store.not-writable`).
    """
    version = verify_version(store, digest, trusted)
    where = f"version `{digest}`"
    target = folder or store.path / "versions" / digest.removeprefix("sha256:")
    with translate_errors(target):
        _lay_out(store, version.files, target, copy=copy)
    unknown = external_files(load_graph(target / GRAPH_FILE)) - set(version.files)
    if unknown:
        raise corrupt(where, f"its graph reads `{min(unknown)}`, which is not one of its files")
    card_layer, golden_layer = version.files.get(CARD_FILE), version.files.get(GOLDEN_FILE)
    if card_layer is None:
        raise corrupt(where, f"it has no layer `{CARD_FILE}`")
    card, lineage = parse_card(
        load_document(store.read_blob(card_layer.digest), f"card of {where}"), where
    )
    golden = None
    if golden_layer is not None:
        golden = _golden(store.read_blob(golden_layer.digest), where)
    return Model(
        graph=target / GRAPH_FILE,
        signature=version.config.signature,
        lineage=lineage,
        golden=golden,
        card=card,
        variant=version.config.variant,
    )


def read_config(store: Store, digest: str) -> Config:
    """What a version says of itself; its digests are checked, its signature and weights are not."""
    version = store.find_version(digest)
    return _config(store, store.read_manifest(version), f"version `{digest}`")


def read_card(store: Store, digest: str) -> dict[str, Any]:
    """The version's card, lineage and evaluation, as packaged; checked as `read_config` is."""
    where = f"version `{digest}`"
    files = file_layers(store.read_manifest(store.find_version(digest)), where)
    if CARD_FILE not in files:
        raise corrupt(where, f"it has no layer `{CARD_FILE}`")
    return load_document(store.read_blob(files[CARD_FILE].digest), f"card of {where}")


def _config(store: Store, manifest: Mapping[str, Any], where: str) -> Config:
    descriptor = Descriptor.from_json(manifest.get("config"), where)
    document = load_document(store.read_blob(descriptor.digest), f"config of {where}")
    return parse_config(document, where)


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
