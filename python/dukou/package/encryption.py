"""Encrypted versions: a key a model, a key a blob, and where the wrapped model key lies.

A blob's key follows from the model's key and the blob's content: the same weights give the same
ciphertext, so that versions of one model share what did not change, and no key ever meets two
contents, which is why the nonce may be zero. The contract is `spec/artifact.md`, "Encryption".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dukou.base.errors import StateError, TrustError
from dukou.package.descriptor import (
    MANIFEST_MEDIA_TYPE,
    Descriptor,
    corrupt,
    load_document,
)
from dukou.package.disk import Buffer, remove_quietly
from dukou.package.layout import EMPTY_TYPE, ENCRYPTED, KEY_ANNOTATION
from dukou.package.store import KEY_TAG, REF_NAME
from dukou.trust.keyring import KEY_BYTES, Keyring, find_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.modes import GCM

    from dukou.package.store import Publication, Store

KEY_TYPE = "application/vnd.dukou.model.key.v1+json"
SALT_ANNOTATION = "dev.dukou.encryption.salt"
MODEL_ANNOTATION = "dev.dukou.encryption.model"

_FORMAT = 1
_BLOB_INFO = b"dukou blob v1"
_SALT_INFO = b"dukou salt v1"
_TAG_BYTES = 16
_ZERO_NONCE = bytes(12)
# The cipher takes less than 2 GiB at a time.
_PIECE = 64 << 20


@dataclass(frozen=True, slots=True)
class ModelKey:
    """The key of one model's versions. It cannot be printed.

    Attributes:
        id: 32 hex digits; may be shown.
        model: the model's name when it was made.
    """

    id: str
    model: str
    _key: bytes = field(repr=False)

    @classmethod
    def of(cls, model: str, key: bytes) -> ModelKey:
        """The key of these 32 bytes."""
        return cls(hashlib.sha256(b"dukou model key\0" + key).hexdigest()[:32], model, key)

    def wrap(self, keyring: Keyring) -> dict[str, Any]:
        """The document that lies beside the manifests: this key under the keyring's first."""
        outer = keyring.current
        wrapped = outer.wrap(self._key, _about(self.id, self.model, outer.id))
        return {
            "format": _FORMAT,
            "model": self.model,
            "model_key": self.id,
            "key": outer.id,
            "wrapped": base64.b64encode(wrapped).decode(),
        }

    def salt_of(self, content: Buffer) -> bytes:
        """What a config's key follows from: like a digest, and only for who has this key."""
        return hmac.digest(self._derive(b"", _SALT_INFO), content, "sha256")

    def seal(self, media_type: str, salt: bytes, parts: Sequence[Buffer]) -> list[Buffer]:
        """The ciphertext of a blob, and behind it the tag.

        Args:
            media_type: of the content, without the suffix.
            salt: the content's sha256, or `salt_of` it.
            parts: the content, in order.
        """
        encryptor = self._cipher(salt, None).encryptor()
        encryptor.authenticate_additional_data(media_type.encode())
        sealed: list[Buffer] = [
            encryptor.update(piece) for part in parts for piece in _pieces(part)
        ]
        encryptor.finalize()
        return [*sealed, encryptor.tag]

    def open(self, media_type: str, salt: bytes, sealed: bytes, what: str) -> bytes:
        """The content of a blob.

        Raises:
            TrustError: `trust.bad-ciphertext`.
        """
        from cryptography.exceptions import InvalidTag

        rest, tag = memoryview(sealed)[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
        try:
            if len(tag) != _TAG_BYTES:
                raise InvalidTag
            decryptor = self._cipher(salt, tag).decryptor()
            decryptor.authenticate_additional_data(media_type.encode())
            content = bytearray(len(rest))
            at = 0
            for piece in _pieces(rest):
                came = decryptor.update(piece)
                content[at : at + len(came)] = came
                at += len(came)
            decryptor.finalize()
        except InvalidTag:
            raise TrustError(
                "trust.bad-ciphertext",
                f"{what} is not what model key `{self.id}` made of the content that the config names",
            ) from None
        return bytes(content)

    def _cipher(self, salt: bytes, tag: bytes | None) -> Cipher[GCM]:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        key = self._derive(salt, _BLOB_INFO)
        return Cipher(algorithms.AES(key), modes.GCM(_ZERO_NONCE, tag))

    def _derive(self, salt: bytes, info: bytes) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), KEY_BYTES, salt, info).derive(self._key)


def is_encrypted(manifest: Mapping[str, Any]) -> bool:
    """Whether the version is an encrypted one, by its config."""
    config = manifest.get("config")
    return isinstance(config, dict) and str(config.get("mediaType")).endswith(ENCRYPTED)


def model_key_id(manifest: Mapping[str, Any], where: str) -> str:
    """The id of the model key that an encrypted version wants.

    Raises:
        InputError: `formats.corrupt`.
    """
    annotations = manifest.get("annotations")
    key_id = annotations.get(KEY_ANNOTATION) if isinstance(annotations, dict) else None
    if not isinstance(key_id, str):
        raise corrupt(where, f"it is encrypted and has no annotation `{KEY_ANNOTATION}`")
    return key_id


def find_model_key(store: Store, key_id: str, keyring: Keyring | None, what: str) -> ModelKey:
    """The model key, unwrapped.

    Raises:
        StateError: `package.incomplete`: the store has no such wrapped key.
        TrustError: `trust.no-encryption-key`, `trust.wrong-encryption-key`, `trust.bad-ciphertext`.
        InputError: `formats.corrupt`.
    """
    return _unwrap(read_wrapped_key(store, key_id, what), keyring, what)


def read_wrapped_key(store: Store, key_id: str, what: str) -> dict[str, Any]:
    """The document of a wrapped model key; needs no key.

    Raises:
        StateError: `package.incomplete`. InputError: `formats.corrupt`.
    """
    for again in (True, False):
        entry = next((e for e in _entries(store) if _tag_of(e) == KEY_TAG + key_id), None)
        if entry is None:
            break
        try:
            return _read_entry(store, entry)[1]
        except StateError:
            # A rotation puts another in its place; then the index, read again, leads there.
            if not again:
                raise
    raise StateError(
        "package.incomplete",
        f"{what} is encrypted with model key `{key_id}`, and the store `{store.path}` has no such "
        "wrapped key",
    )


def model_key_for(
    store: Store, publication: Publication, model: str, keyring: Keyring
) -> tuple[ModelKey, Descriptor | None]:
    """The key that new versions of a model are encrypted with: the one that it has, or a new one.

    Returns:
        The key, and what `Publication.commit` must put into the index where it is new.

    Raises:
        TrustError: `trust.wrong-encryption-key`: the model has a key that cannot be unwrapped here.
    """
    what = f"the key of model `{model}`"
    for entry in _entries(store):
        if entry.annotation(MODEL_ANNOTATION) == model:
            return _unwrap(_read_entry(store, entry)[1], keyring, what), None
    key = ModelKey.of(model, secrets.token_bytes(KEY_BYTES))
    return key, write_model_key(publication, key, keyring)


def write_model_key(publication: Publication, key: ModelKey, keyring: Keyring) -> Descriptor:
    """Writes the wrapped key's blobs; gives the entry that the index needs."""
    empty = publication.write_blob(EMPTY_TYPE, [b"{}"])
    layer = publication.write_document(KEY_TYPE, key.wrap(keyring))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_MEDIA_TYPE,
        "artifactType": KEY_TYPE,
        "config": empty.to_json(),
        "layers": [layer.to_json()],
    }
    entry = publication.write_document(MANIFEST_MEDIA_TYPE, manifest, artifact_type=KEY_TYPE)
    return entry.with_annotations({REF_NAME: KEY_TAG + key.id, MODEL_ANNOTATION: key.model})


def rewrap_model_keys(store: Store, keyring: Keyring) -> int:
    """Wraps every model key by the keyring's first one; no version's digest changes.

    The index changes once, for all of them. What was wrapped by an older key is then removed.

    Returns:
        How many were wrapped anew.

    Raises:
        TrustError: `trust.wrong-encryption-key`, `trust.bad-ciphertext`. Then nothing has changed.
        ResourceError: `store.disk-full`, `store.not-writable`.
    """
    if not _entries(store):
        return 0
    replaced: list[str] = []
    with store.publishing() as publication:
        fresh: dict[str, Descriptor] = {}
        for entry in _entries(store):
            layer, document = _read_entry(store, entry)
            if document["key"] == keyring.current.id:
                continue
            key = _unwrap(document, keyring, f"the key of model `{document['model']}`")
            fresh[entry.digest] = write_model_key(publication, key, keyring)
            replaced += [entry.digest, layer.digest]
        if fresh:
            publication.replace_entries(fresh)
    for digest in replaced:
        remove_quietly(store.blob_path(digest))
    return len(replaced) // 2


def wrapped_keys(store: Store) -> list[dict[str, Any]]:
    """Every wrapped model key's document."""
    return [_read_entry(store, entry)[1] for entry in _entries(store)]


def _entries(store: Store) -> list[Descriptor]:
    return [entry for entry in store.index() if _tag_of(entry).startswith(KEY_TAG)]


def _tag_of(entry: Descriptor) -> str:
    return entry.annotation(REF_NAME) or ""


def _read_entry(store: Store, entry: Descriptor) -> tuple[Descriptor, dict[str, Any]]:
    where = f"wrapped key `{_tag_of(entry)}`"
    layers = Descriptor.list_from(store.read_manifest(entry), "layers", where)
    layer = next((one for one in layers if one.media_type == KEY_TYPE), None)
    if layer is None:
        raise corrupt(where, f"it has no layer of type `{KEY_TYPE}`")
    document = load_document(store.read_blob(layer.digest, layer.size), where)
    if document.get("format") != _FORMAT:
        raise corrupt(
            where, f"its format is {document.get('format')!r:.40}, and {_FORMAT} is known"
        )
    for name in ("model", "model_key", "key", "wrapped"):
        if not isinstance(document.get(name), str):
            raise corrupt(where, f"`{name}` is missing or no text")
    return layer, document


def _unwrap(document: Mapping[str, Any], keyring: Keyring | None, what: str) -> ModelKey:
    outer = find_key(keyring, document["key"], what)
    try:
        wrapped = base64.b64decode(document["wrapped"], validate=True)
    except (binascii.Error, ValueError):
        raise corrupt(f"the wrapped key of {what}", "`wrapped` is not base64") from None
    about = _about(document["model_key"], document["model"], outer.id)
    key = ModelKey.of(document["model"], outer.unwrap(wrapped, about, what))
    if key.id != document["model_key"]:
        raise TrustError(
            "trust.bad-ciphertext",
            f"the wrapped key of {what} holds model key `{key.id}`, not `{document['model_key']}`",
        )
    return key


def _about(model_key: str, model: str, key: str) -> bytes:
    return b"\0".join([b"dukou model key v1", model_key.encode(), key.encode(), model.encode()])


def _pieces(part: Buffer) -> Iterator[memoryview]:
    view = memoryview(part).cast("B")
    for at in range(0, len(view), _PIECE):
        yield view[at : at + _PIECE]
