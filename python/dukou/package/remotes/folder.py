"""A folder as a remote: an OCI image layout on a share or a stick, a folder a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from dukou.base.errors import InputError, StateError
from dukou.package.descriptor import MANIFEST_MEDIA_TYPE, Descriptor
from dukou.package.remotes.address import Address
from dukou.package.remotes.credentials import Credentials
from dukou.package.remotes.http import PIECE
from dukou.package.store import REF_NAME, Publication, Store


class FolderRemote:
    """An OCI image layout whose entries carry tags; what other tools for layouts read."""

    def __init__(self, address: Address, _credentials: Credentials | None = None) -> None:
        path = Path(address.repository)
        if path.exists() and not path.is_dir():
            raise InputError("usage.invalid", f"`{path}` is a file, and a remote is a folder")
        if path.is_dir() and any(path.iterdir()) and not (path / "oci-layout").is_file():
            raise InputError(
                "usage.invalid",
                f"`{path}` holds other things, and no OCI image layout",
                hint=f"name a folder of its own; `{address.repository}/` puts one in it with the model's name",
            )
        self.where = f"`{path}`"
        self.name = address.name
        self._store = Store(path)
        self._publication: Publication | None = None
        self._entries: list[Descriptor] = []
        self._referrers: dict[str, list[Descriptor]] = {}

    def close(self) -> None:
        """There is nothing to end."""

    def find_tag(self, tag: str) -> str | None:
        """The digest that the tag leads to."""
        for entry in self._store.index():
            if entry.annotation(REF_NAME) == tag:
                return str(entry.digest)
        return None

    def tags(self) -> list[str]:
        """Every tag in `index.json`."""
        return [tag for e in self._store.index() if (tag := e.annotation(REF_NAME)) is not None]

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the blob's file is there in its size."""
        path = self._store.blob_path(blob.digest)
        return path.is_file() and path.stat().st_size == blob.size

    def has_manifest(self, digest: str) -> bool:
        """Whether the manifest's file is there."""
        return self._store.has_blob(digest)

    def read_manifest(self, digest: str) -> bytes:
        """A manifest's bytes."""
        try:
            return self._store.read_blob(digest)
        except StateError as error:
            raise StateError(
                "remote.not-found", f"{self.where} has no manifest `{digest}`"
            ) from error

    def read_blob(self, blob: Descriptor) -> Iterator[bytes]:
        """A blob's bytes."""
        try:
            file = self._store.blob_path(blob.digest).open("rb")
        except FileNotFoundError:
            raise StateError(
                "remote.not-found", f"{self.where} has no blob `{blob.digest}`"
            ) from None
        with file:
            while piece := file.read(PIECE):
                yield piece

    def referrers(self, digest: str) -> list[Descriptor]:
        """What refers to the manifest."""
        return self._store.referrers(digest)

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """What is written inside enters `index.json` at the end, signatures first."""
        self._entries, self._referrers = [], {}
        with self._store.publishing() as publication:
            self._publication = publication
            try:
                yield
                for entry in self._entries:
                    referrers = self._referrers.pop(entry.digest, ())
                    if referrers:
                        publication.commit(entry.with_annotations({}), referrers)
                publication.commit_tagged(self._entries)
            finally:
                self._publication = None

    def write_blob(self, blob: Descriptor, content: Path) -> None:
        """Copies a blob in, verified while it is."""
        with content.open("rb") as file:
            self._writing().receive_blob(blob, iter(lambda: file.read(PIECE), b""))

    def write_manifest(
        self, manifest: Descriptor, content: bytes, tags: Sequence[str] = ()
    ) -> None:
        """Keeps a manifest for the index."""
        self._writing().write_blob(manifest.media_type, [content])
        kept = dict(manifest.annotations)
        self._entries += [manifest.with_annotations({**kept, REF_NAME: tag}) for tag in tags]

    def write_referrer(self, referrer: Descriptor, content: bytes, subject: str) -> None:
        """Keeps a signature for the index of the version's referrers."""
        self._writing().write_blob(MANIFEST_MEDIA_TYPE, [content])
        self._referrers.setdefault(subject, []).append(referrer)

    def _writing(self) -> Publication:
        if self._publication is None:
            raise RuntimeError("a folder is written inside `publishing`")
        return self._publication
