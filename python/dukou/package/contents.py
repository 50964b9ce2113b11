"""What a version's blobs hold, in clear: read from the store, or decrypted into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.base.ids import parse_digest
from dukou.package.descriptor import Descriptor, corrupt, load_document
from dukou.package.encryption import (
    SALT_ANNOTATION,
    ModelKey,
    find_model_key,
    is_encrypted,
    model_key_id,
)
from dukou.package.layout import CONFIG_TYPE, ENCRYPTED, Config, file_layers, parse_config
from dukou.trust.keyring import Keyring, load_keyring

if TYPE_CHECKING:
    from dukou.package.store import Store


class Contents:
    """The files of one version.

    Every blob is verified when it is read; whether the manifest is to be believed is `unpack`'s matter.

    Args:
        store: where the version lies.
        manifest: its verified document.
        where: names it in errors.
        keyring: for an encrypted version; None takes the one of the home that the store lies in.

    Attributes:
        files: descriptors of the version's files by name, as in the manifest.
        encrypted: whether it is an encrypted version.
    """

    def __init__(
        self, store: Store, manifest: Mapping[str, Any], where: str, keyring: Keyring | None
    ) -> None:
        self._store = store
        self._where = where
        self._config_layer = Descriptor.from_json(manifest.get("config"), where)
        self.files = file_layers(manifest, where)
        self.encrypted = is_encrypted(manifest)
        layers = self._layers = Descriptor.list_from(dict(manifest), "layers", where)
        if any(layer.media_type.endswith(ENCRYPTED) != self.encrypted for layer in layers):
            raise corrupt(where, "some of its blobs are encrypted and others are not")
        expected = CONFIG_TYPE + ENCRYPTED if self.encrypted else CONFIG_TYPE
        if self._config_layer.media_type != expected:
            raise corrupt(where, f"its config is `{self._config_layer.media_type}`")
        self._key: ModelKey | None = None
        if self.encrypted:
            key_id = model_key_id(manifest, where)
            keyring = keyring or load_keyring(store.path.parent)
            self._key = find_model_key(store, key_id, keyring, where)
        document = self._read_config()
        self.config: Config = parse_config(document, where)
        self._salts = self._read_salts(document, layers) if self.encrypted else {}

    @classmethod
    def of(cls, store: Store, digest: str, keyring: Keyring | None = None) -> Contents:
        """The contents of a version of the store; its signature is not looked at.

        Raises:
            DukouError: `package.*`, `formats.corrupt`, `trust.*` (the encryption's).
        """
        manifest = store.read_manifest(store.find_version(digest))
        return cls(store, manifest, f"version `{digest}`", keyring)

    def read(self, name: str) -> bytes | None:
        """A file in clear, verified; None where the version has none of this name.

        Raises:
            DukouError: `package.digest-mismatch`, `package.incomplete`, `trust.bad-ciphertext`.
        """
        layer = self.files.get(name)
        if layer is None:
            return None
        if self._key is None:
            return self._store.read_blob(layer.digest, layer.size)
        return self._open(layer, self._key, f"`{name}` of {self._where}")

    def check(self) -> None:
        """Whether every blob of an encrypted version is what its config names; reads all of them.

        Raises:
            DukouError: `package.digest-mismatch`, `package.incomplete`, `trust.bad-ciphertext`.
        """
        if self._key is not None:
            for layer in self._layers:
                self._open(layer, self._key, f"layer `{layer.digest}` of {self._where}")

    def document(self, name: str) -> dict[str, Any] | None:
        """A file that is a JSON object; None where there is none of this name."""
        content = self.read(name)
        return None if content is None else load_document(content, f"`{name}` of {self._where}")

    def _open(self, layer: Descriptor, key: ModelKey, what: str) -> bytes:
        content = self._store.read_blob(layer.digest, layer.size)
        media_type = layer.media_type.removesuffix(ENCRYPTED)
        return key.open(media_type, self._salts[layer.digest], content, what)

    def _read_config(self) -> dict[str, Any]:
        layer = self._config_layer
        content = self._store.read_blob(layer.digest, layer.size)
        if self._key is not None:
            try:
                salt = bytes.fromhex(layer.annotation(SALT_ANNOTATION) or "")
            except ValueError:
                raise corrupt(self._where, f"`{SALT_ANNOTATION}` is not hex") from None
            content = self._key.open(CONFIG_TYPE, salt, content, f"config of {self._where}")
        return load_document(content, f"config of {self._where}")

    def _read_salts(
        self, document: Mapping[str, Any], layers: list[Descriptor]
    ) -> dict[str, bytes]:
        """Digest of a layer's ciphertext → sha256 of its content."""
        said = document.get("modelfs")
        ids = said.get("diffIds") if isinstance(said, dict) else None
        if not isinstance(ids, list) or len(ids) != len(layers):
            raise corrupt(self._where, "its config's `diffIds` are not one a layer")
        try:
            digests = [parse_digest(str(one)) for one in ids]
        except InputError as error:
            raise corrupt(self._where, error.message) from error
        return {
            layer.digest: bytes.fromhex(digest.removeprefix("sha256:"))
            for layer, digest in zip(layers, digests, strict=True)
        }
