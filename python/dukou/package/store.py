"""The store: an OCI image layout folder, where blobs lie under their own digests.

Blobs appear by rename after fsync, a manifest after every blob that it names, and `index.json` last:
a crash at any moment leaves the whole version or none of it. Nothing is rewritten in place. Knows
descriptors and manifests as documents; what a version's layers mean is `layout.py`'s.

Source: OCI image-spec 1.1, image layout and referrers tag schema.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dukou.base.canonical import dump_canonical
from dukou.base.errors import DukouError, StateError, TrustError
from dukou.base.ids import Digest
from dukou.package.descriptor import (
    INDEX_MEDIA_TYPE,
    MANIFEST_MEDIA_TYPE,
    Descriptor,
    load_document,
)
from dukou.package.disk import (
    Buffer,
    fsync_folder,
    hold_lock,
    make_folder,
    remove_quietly,
    translate_errors,
    write_whole,
)

REF_NAME = "org.opencontainers.image.ref.name"
# Tags of wrapped model keys (`encryption.py`): manifests in the index that are no versions.
KEY_TAG = "dukou-key-"


class Store:
    """An OCI image layout. Making the object touches nothing; the folder appears with the first version.

    Any number of processes may read and publish at once; readers take no lock.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self._blobs = self.path / "blobs" / "sha256"
        # Half-written files; never read by anybody.
        self._incoming = self.path / ".incoming"
        # Held shared by whoever publishes, alone by whoever takes unreferenced blobs away.
        self._publish_lock = self.path / ".publishing.lock"
        self._index_lock = self.path / ".index.lock"

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def blob_path(self, digest: str) -> Path:
        """Where the blob of this digest lies, or would lie."""
        return self._blobs / digest.removeprefix("sha256:")

    def has_blob(self, digest: str) -> bool:
        """Whether there is a file of this digest; its bytes are not looked at."""
        return self.blob_path(digest).is_file()

    def read_blob(self, digest: str, size: int | None = None) -> bytes:
        """The blob's bytes, verified.

        Raises:
            TrustError: `package.digest-mismatch`: the bytes are not those that the digest names.
            StateError: `package.incomplete`: there is no such blob.
        """
        content = self._open(digest, size).read_bytes()
        self._compare(digest, hashlib.sha256(content).hexdigest())
        return content

    def verify_blob(self, digest: str, size: int | None = None) -> Path:
        """The blob's path, after its bytes were verified; reads in pieces. Raises as `read_blob`."""
        path = self._open(digest, size)
        self._compare(digest, _file_digest(path))
        return path

    def read_manifest(self, descriptor: Descriptor) -> dict[str, Any]:
        """The verified document that a descriptor of a manifest or an index names."""
        blob = self.read_blob(descriptor.digest, descriptor.size)
        return load_document(blob, f"manifest `{descriptor.digest}`")

    def index(self) -> list[Descriptor]:
        """What `index.json` names: versions, an index of referrers for each signed one, wrapped keys."""
        path = self.path / "index.json"
        try:
            document = load_document(path.read_bytes(), f"`{path}`")
        except FileNotFoundError:
            return []
        return Descriptor.list_from(document, "manifests", f"`{path}`")

    def versions(self) -> list[Descriptor]:
        """The versions in the store, in the order of their arrival."""
        return [
            d
            for d in self.index()
            if d.media_type == MANIFEST_MEDIA_TYPE
            and not (d.annotation(REF_NAME) or "").startswith(KEY_TAG)
        ]

    def find_version(self, digest: str) -> Descriptor:
        """The version's descriptor.

        Raises:
            StateError: `package.incomplete`: the store has no such version.
        """
        for descriptor in self.versions():
            if descriptor.digest == digest:
                return descriptor
        raise StateError("package.incomplete", f"the store `{self.path}` has no version `{digest}`")

    def referrers(self, digest: str) -> list[Descriptor]:
        """What refers to the version (its signatures), by the tag schema."""
        return self._referrers(self.index(), digest)

    @contextlib.contextmanager
    def publishing(self) -> Iterator[Publication]:
        """A publication: blobs are added to it, and `commit` makes the version appear.

        Where the block fails, what it wrote is taken away again.

        Raises:
            ResourceError: `store.disk-full`, `store.not-writable`.
        """
        with translate_errors(self.path):
            for folder in (self._blobs, self._incoming):
                make_folder(folder)
            with hold_lock(self._publish_lock, shared=False, wait=False) as alone:
                if alone:  # So what lies in `.incoming` is from a publication that was killed.
                    for path in self._incoming.iterdir():
                        remove_quietly(path)
            layout = self.path / "oci-layout"
            if not layout.exists():
                write_whole(layout, [b'{"imageLayoutVersion":"1.0.0"}'], self._incoming)
        try:
            with hold_lock(self._publish_lock, shared=True, wait=True):
                yield Publication(self)
        except BaseException:
            # Another's publication may by now count on blobs of ours: then they stay, unreferenced,
            # for a later `collect`.
            with contextlib.suppress(OSError, DukouError):
                self._collect(wait=False)
            raise

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """While it lasts, nobody takes a blob away: for whoever copies the store."""
        if not self.path.is_dir():
            yield
            return
        with hold_lock(self._publish_lock, shared=True, wait=True):
            yield

    def collect(self, keep: Iterable[str] = ()) -> int:
        """Takes away every blob that nothing in `index.json` leads to; returns the bytes freed.

        Waits until nobody publishes.

        Args:
            keep: digests of versions that are kept with all that they name, in the index or not.
        """
        if not self.path.is_dir():
            return 0
        with translate_errors(self.path):
            return self._collect(wait=True, keep=keep)

    def reachable(self, roots: Sequence[Descriptor]) -> list[Digest]:
        """Every digest that these lead to, each once; leaves are not looked at.

        Raises:
            DukouError: a manifest on the way is absent or damaged.
        """
        findings: list[DukouError] = []
        digests = list(self._walk(roots, findings, _leave_alone))
        if findings:
            raise findings[0]
        return digests

    def unneeded(self, keep: Iterable[str] = ()) -> list[Path]:
        """What `collect` would take away now; touches nothing.

        Raises:
            DukouError: a manifest is damaged, so that nobody knows what is needed.
        """
        needed = set(self.reachable([*self.index(), *self._roots(keep)]))
        folders = [folder for folder in (self._blobs, self._incoming) if folder.is_dir()]
        return [p for f in folders for p in sorted(f.iterdir()) if f"sha256:{p.name}" not in needed]

    def verify_all(self) -> list[DukouError]:
        """Verifies every blob that `index.json` leads to; the errors found, none for a sound store."""
        findings: list[DukouError] = []
        list(self._walk(self.index(), findings, lambda d: self.verify_blob(d.digest, d.size)))
        return findings

    def check_presence(self, digests: Iterable[str]) -> list[DukouError]:
        """Whether versions and their signatures are there, every blob in its size; reads manifests alone."""
        findings: list[DukouError] = []
        wanted = list(digests)
        findings += [
            StateError("package.incomplete", f"the store `{self.path}` has no version `{digest}`")
            for digest in wanted
            if not self.has_blob(digest)
        ]
        index, roots = self.index(), self._roots(wanted)
        for digest in wanted:
            try:
                roots += self._referrers(index, digest)
            except DukouError as error:
                findings.append(error)
        list(self._walk(roots, findings, lambda d: self._open(d.digest, d.size)))
        return findings

    def _collect(self, *, wait: bool, keep: Iterable[str] = ()) -> int:
        with hold_lock(self._publish_lock, shared=False, wait=wait) as alone:
            if not alone:
                return 0
            freed = 0
            # A store with a damaged manifest does not say what it needs: then nothing is taken.
            for path in self.unneeded(keep):
                freed += path.stat().st_size
                path.unlink()
            return freed

    def _roots(self, digests: Iterable[str]) -> list[Descriptor]:
        """Descriptors of manifests that are known by their digests alone; those that are there."""
        return [
            Descriptor(MANIFEST_MEDIA_TYPE, Digest(digest), self.blob_path(digest).stat().st_size)
            for digest in digests
            if self.has_blob(digest)
        ]

    def _walk(
        self,
        roots: Sequence[Descriptor],
        findings: list[DukouError],
        look_at_leaf: Callable[[Descriptor], object],
    ) -> Iterator[Digest]:
        """Every digest that the roots lead to, once; what does not verify goes to `findings`."""
        seen: set[str] = set()
        waiting = list(reversed(roots))
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            yield descriptor.digest
            try:
                if descriptor.media_type in (MANIFEST_MEDIA_TYPE, INDEX_MEDIA_TYPE):
                    document = self.read_manifest(descriptor)
                    waiting += Descriptor.all_from(document, f"manifest `{descriptor.digest}`")
                else:
                    look_at_leaf(descriptor)
            except DukouError as error:
                findings.append(error)

    def _referrers(self, index: Sequence[Descriptor], digest: str) -> list[Descriptor]:
        tag = digest.replace(":", "-")
        for descriptor in index:
            if descriptor.media_type == INDEX_MEDIA_TYPE and descriptor.annotation(REF_NAME) == tag:
                document = self.read_manifest(descriptor)
                return Descriptor.list_from(document, "manifests", f"referrers of `{digest}`")
        return []

    def _open(self, digest: str, size: int | None) -> Path:
        path = self.blob_path(digest)
        try:
            got = path.stat().st_size
        except FileNotFoundError:
            raise StateError(
                "package.incomplete", f"the store `{self.path}` has no blob `{digest}`"
            ) from None
        if size is not None and got != size:
            raise TrustError(
                "package.digest-mismatch",
                f"blob `{digest}` has {got} bytes instead of {size}; its digest is "
                f"`sha256:{_file_digest(path)}`",
            )
        return path

    def _compare(self, digest: str, hexdigest: str) -> None:
        if digest != f"sha256:{hexdigest}":
            raise TrustError(
                "package.digest-mismatch",
                f"blob `{digest}` in `{self.path}` holds bytes whose digest is `sha256:{hexdigest}`",
            )


class Publication:
    """What one `Store.publishing()` has written so far.

    Attributes:
        new_bytes: bytes of the blobs that the store did not have before.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.new_bytes = 0

    def write_blob(
        self, media_type: str, parts: Iterable[Buffer], *, annotations: dict[str, str] | None = None
    ) -> Descriptor:
        """Writes a blob where the store does not have it whole already.

        A blob that is there with other bytes (a damaged disk) is replaced: publishing again mends.
        """
        parts = list(parts)
        digest, size = hashlib.sha256(), 0
        for part in parts:
            digest.update(part)
            size += len(part)
        descriptor = Descriptor.make(media_type, digest.hexdigest(), size, annotations)
        path = self._store.blob_path(descriptor.digest)
        if not (path.is_file() and _file_digest(path) == digest.hexdigest()):
            with translate_errors(self._store.path):
                # Read-only: a version's folder holds hard links to this very file.
                write_whole(path, parts, self._store._incoming, mode=0o444)
            self.new_bytes += size
        return descriptor

    def receive_blob(self, blob: Descriptor, pieces: Iterable[bytes]) -> None:
        """Writes a blob that comes from elsewhere, a piece at a time; it appears only if it is what it should.

        Raises:
            TrustError: `package.digest-mismatch`: other bytes came.
        """

        def checked() -> Iterator[bytes]:
            digest, size = hashlib.sha256(), 0
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                yield piece
            if (size, f"sha256:{digest.hexdigest()}") != (blob.size, blob.digest):
                raise TrustError(
                    "package.digest-mismatch",
                    f"blob `{blob.digest}` of {blob.size} bytes was to come, and {size} bytes of "
                    f"`sha256:{digest.hexdigest()}` did",
                )

        with translate_errors(self._store.path):
            path = self._store.blob_path(blob.digest)
            write_whole(path, checked(), self._store._incoming, mode=0o444)
        self.new_bytes += blob.size

    def write_document(
        self, media_type: str, document: dict[str, Any], *, artifact_type: str | None = None
    ) -> Descriptor:
        """Writes a manifest or a configuration as canonical JSON."""
        descriptor = self.write_blob(media_type, [dump_canonical(document)])
        return descriptor.with_artifact_type(artifact_type) if artifact_type else descriptor

    def commit(
        self,
        version: Descriptor | None,
        referrers: Sequence[Descriptor] = (),
        beside: Sequence[Descriptor] = (),
    ) -> None:
        """Makes the version, what refers to it and what lies beside it appear, together, in `index.json`.

        What others have put there meanwhile stays; what is there already is not put twice.

        Args:
            version: the version; None where only `beside` appears.
            referrers: its signatures.
            beside: entries with a tag of their own: wrapped model keys.
        """
        store = self._store
        with translate_errors(store.path), hold_lock(store._index_lock, shared=False, wait=True):
            index = store.index()
            there = {d.digest for d in index}
            index += [d for d in beside if d.digest not in there]
            if version is not None:
                index = self._with_version(index, version, referrers)
            self._write_index(index)

    def commit_tagged(self, entries: Sequence[Descriptor]) -> None:
        """Puts entries under their tags, all at once; what stood under one of these tags goes."""
        store = self._store
        with translate_errors(store.path), hold_lock(store._index_lock, shared=False, wait=True):
            tags = {entry.annotation(REF_NAME) for entry in entries}
            stay = [d for d in store.index() if d.annotation(REF_NAME) not in tags - {None}]
            self._write_index([*stay, *entries])

    def replace_entries(self, fresh: Mapping[str, Descriptor]) -> None:
        """Puts other entries in the places of some of `index.json`, all at once.

        Args:
            fresh: digest of an entry → what stands there instead. One that is gone is left out.
        """
        store = self._store
        with translate_errors(store.path), hold_lock(store._index_lock, shared=False, wait=True):
            self._write_index([fresh.get(d.digest, d) for d in store.index()])

    def _with_version(
        self, index: list[Descriptor], version: Descriptor, referrers: Sequence[Descriptor]
    ) -> list[Descriptor]:
        if all(version.digest != d.digest for d in index):
            index.append(version)
        known = self._store._referrers(index, version.digest)
        added = [r for r in referrers if all(r.digest != k.digest for k in known)]
        if not added:
            return index
        tag = version.digest.replace(":", "-")
        listing = self.write_document(INDEX_MEDIA_TYPE, _index([*known, *added]))
        index = [d for d in index if d.annotation(REF_NAME) != tag]
        return [*index, listing.with_annotations({REF_NAME: tag})]

    def _write_index(self, index: Sequence[Descriptor]) -> None:
        # Every name of a blob is on the disk before the index that leads to it.
        store = self._store
        fsync_folder(store._blobs)
        write_whole(store.path / "index.json", [dump_canonical(_index(index))], store._incoming)
        fsync_folder(store.path)


def _leave_alone(_leaf: Descriptor) -> None:
    """For a walk that only asks what there is."""


def _index(descriptors: Sequence[Descriptor]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": INDEX_MEDIA_TYPE,
        "manifests": [d.to_json() for d in descriptors],
    }


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
