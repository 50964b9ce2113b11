"""Writes the blobs of a version, in clear or encrypted, and keeps what config and manifest say of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dukou.base.canonical import dump_canonical
from dukou.package.descriptor import Descriptor
from dukou.package.disk import Buffer
from dukou.package.encryption import SALT_ANNOTATION, ModelKey, model_key_for
from dukou.package.layout import CONFIG_TYPE, ENCRYPTED, FILE_PATH

if TYPE_CHECKING:
    from dukou.package.store import Publication, Store
    from dukou.trust.keyring import Keyring


class BlobWriter:
    """One version's blobs on their way into a store.

    Attributes:
        layers: what the manifest says of them, in order.
        diff_ids: the digests of their contents, in order.
        beside: entries that the index needs besides the version.
    """

    def __init__(
        self, publication: Publication, key: ModelKey | None, beside: Sequence[Descriptor]
    ) -> None:
        self._publication = publication
        self._key = key
        self.layers: list[Descriptor] = []
        self.diff_ids: list[str] = []
        self.beside = tuple(beside)

    @classmethod
    def make(
        cls, store: Store, publication: Publication, model: str, keyring: Keyring | None
    ) -> BlobWriter:
        """A writer that encrypts with the model's key where there is a keyring, and writes clear otherwise."""
        if keyring is None:
            return cls(publication, None, ())
        key, entry = model_key_for(store, publication, model, keyring)
        return cls(publication, key, () if entry is None else (entry,))

    @property
    def model_key_id(self) -> str | None:
        """Of the key that encrypts; None where nothing does."""
        return None if self._key is None else self._key.id

    def write_layer(self, media_type: str, name: str, parts: Sequence[Buffer]) -> None:
        """Writes a file of the version's folder."""
        annotations = {FILE_PATH: name}
        if self._key is None:
            layer = self._publication.write_blob(media_type, parts, annotations=annotations)
            self.layers.append(layer)
            self.diff_ids.append(layer.digest)
            return
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        sealed = self._key.seal(media_type, digest.digest(), parts)
        self.layers.append(
            self._publication.write_blob(media_type + ENCRYPTED, sealed, annotations=annotations)
        )
        self.diff_ids.append(f"sha256:{digest.hexdigest()}")

    def write_config(self, document: Mapping[str, Any]) -> Descriptor:
        """Writes the config. Its key follows from a keyed digest, since no other place may hold a plain one."""
        content = dump_canonical(document)
        if self._key is None:
            return self._publication.write_blob(CONFIG_TYPE, [content])
        salt = self._key.salt_of(content)
        sealed = self._key.seal(CONFIG_TYPE, salt, [content])
        annotations = {SALT_ANNOTATION: salt.hex()}
        return self._publication.write_blob(
            CONFIG_TYPE + ENCRYPTED, sealed, annotations=annotations
        )
