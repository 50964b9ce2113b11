"""Some versions of a store as a store of their own: what an image or a device carries.

What a version needs comes with it: its blobs, its signatures, and, where it is encrypted, the wrapped
key; it stays encrypted. The same versions give the same bytes, name by name, so that what is built of
them can be reproduced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from dukou.base.canonical import dump_canonical
from dukou.package.descriptor import INDEX_MEDIA_TYPE, Descriptor
from dukou.package.disk import translate_errors
from dukou.package.layout import KEY_ANNOTATION
from dukou.package.store import KEY_TAG, REF_NAME, Store


def copy_versions(source: Store, digests: Sequence[str], into: Path) -> Store:
    """Copies versions to a folder that does not exist yet; every blob is verified on the way.

    Args:
        source: where they are.
        digests: of the versions.
        into: the new store's folder.

    Raises:
        StateError: `package.incomplete`. TrustError: `package.digest-mismatch`.
        ResourceError: `store.disk-full`, `store.not-writable`.
    """
    with source.holding():
        entries = entries_of(source, digests)
        with translate_errors(into):
            blobs = into / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            for digest in source.reachable(entries):
                _copy(source.verify_blob(digest), blobs / digest.removeprefix("sha256:"))
            (into / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
            index = {
                "schemaVersion": 2,
                "mediaType": INDEX_MEDIA_TYPE,
                "manifests": [entry.to_json() for entry in entries],
            }
            (into / "index.json").write_bytes(dump_canonical(index))
    return Store(into)


def entries_of(store: Store, digests: Sequence[str]) -> list[Descriptor]:
    """What of a store's `index.json` belongs to these versions, in an order of its own.

    Raises:
        StateError: `package.incomplete`: the store has no such version.
    """
    versions = [store.find_version(digest) for digest in sorted(set(digests))]
    tags = {version.digest.replace(":", "-") for version in versions}
    for version in versions:
        key = store.read_manifest(version).get("annotations", {}).get(KEY_ANNOTATION)
        if key is not None:
            tags.add(KEY_TAG + str(key))
    beside = [entry for entry in store.index() if entry.annotation(REF_NAME) in tags]
    return [*versions, *sorted(beside, key=lambda entry: entry.digest)]


def _copy(blob: Path, target: Path) -> None:
    """A blob is never written again: where a link can stand for it, it takes no space."""
    try:
        os.link(blob, target)
    except OSError:
        shutil.copyfile(blob, target)
        target.chmod(0o444)
