"""Keys: the one that signs, made on first use, and the folder of those whose signatures count.

Both are ECDSA P-256 in PEM. `HOME/keys/signing.pem` (0600) is the private half, never overwritten;
`HOME/trust/*.pem` are the trusted public halves, the own one added when it is made. A key's id is
the sha256 of its public half's PEM text (`spec/artifact.md`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dukou.base.errors import InputError, ResourceError, StateError, TrustError
from dukou.base.settings import make_private_folder, resolve_setting


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key, its PEM text as we write it, and its id."""

    id: str
    pem: str
    _key: ec.EllipticCurvePublicKey = field(repr=False, compare=False)

    @classmethod
    def from_pem(cls, text: bytes, where: str) -> PublicKey:
        """Reads the public half; `where` names the file in the error.

        Raises:
            InputError: `config.invalid`: it is not an ECDSA P-256 public key.
        """
        try:
            key = serialization.load_pem_public_key(text)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InputError(
                "config.invalid", f"`{where}` is not a public key in PEM", hint=_PUBLIC_HINT
            ) from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise InputError(
                "config.invalid",
                f"`{where}` is a public key of another kind than ECDSA P-256",
                hint=_PUBLIC_HINT,
            )
        return cls._of(key)

    @classmethod
    def _of(cls, key: ec.EllipticCurvePublicKey) -> PublicKey:
        pem = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(hashlib.sha256(pem).hexdigest(), pem.decode(), key)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raises `cryptography.exceptions.InvalidSignature` where the signature is not by this key."""
        self._key.verify(signature, message, ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. Its text cannot be printed."""

    public: PublicKey
    path: Path
    _key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """The key's id."""
        return self.public.id

    def sign(self, message: bytes) -> bytes:
        """DER of the signature. Deterministic (RFC 6979): signing twice gives the same bundle."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


class TrustStore(Mapping[str, PublicKey]):
    """Whose signatures count: key id → public key."""

    def __init__(self, keys: Mapping[str, PublicKey]) -> None:
        self._keys = dict(keys)

    @classmethod
    def load(cls, folder: Path) -> TrustStore:
        """Every `*.pem` of the folder; a folder that is not there trusts nobody.

        Raises:
            InputError: `config.invalid`: one of them is not an ECDSA P-256 public key.
        """
        keys = [PublicKey.from_pem(p.read_bytes(), str(p)) for p in sorted(folder.glob("*.pem"))]
        return cls({key.id: key for key in keys})

    def __getitem__(self, key_id: str) -> PublicKey:
        return self._keys[key_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def load_trust_store(home: Path) -> TrustStore:
    """The installation's trust store, `HOME/trust`."""
    return TrustStore.load(home / "trust")


def load_or_create_signing_key(home: Path) -> SigningKey:
    """The key that signs: `DUKOU_SIGNING_KEY`, or `HOME/keys/signing.pem`, made on first use.

    A key that was there once (its public half, `signing.pub`, still is) is not quietly replaced:
    versions signed by the new one would be refused wherever the old one is trusted.

    Raises:
        TrustError: `trust.missing-key`: the named key, or the one made earlier, is not there, or is
            not a private key.
        ResourceError: `store.not-writable`.
    """
    named = resolve_setting("signing_key")
    if named.value is not None:
        path = Path(named.value).expanduser()
        if not path.is_file():
            raise TrustError("trust.missing-key", f"`{named.origin}` names `{path}`: no such file")
        return load_signing_key(path)
    folder = home / "keys"
    private, public = folder / "signing.pem", folder / "signing.pub"
    if not private.exists():
        if public.exists():
            raise TrustError(
                "trust.missing-key",
                f"`{private}` is gone, and `{public}` says that it was there",
            )
        make_private_folder(home)
        _create(private)
    key = load_signing_key(private)
    if not public.exists():
        # `signing.pub` is written last: without it, the creation (ours or another's) is unfinished.
        make_private_folder(home / "trust")
        _publish(key.public.pem, home / "trust" / f"{key.id[:16]}.pem", 0o644)
        _publish(key.public.pem, public, 0o644)
    return key


def rotate_signing_key(home: Path) -> tuple[SigningKey, SigningKey]:
    """Makes a new signing key; what the old one has signed is trusted as before.

    Interrupted at any moment, the installation has one whole key: the old one or the new one. The old
    private half stays beside it, under its id.

    Returns:
        The old key and the new one.

    Raises:
        StateError: `trust.key-elsewhere`: the key is not this installation's own.
        TrustError, ResourceError: as `load_or_create_signing_key`.
    """
    named = resolve_setting("signing_key")
    if named.value is not None:
        raise StateError(
            "trust.key-elsewhere", f"the signing key is `{named.value}`, by `{named.origin}`"
        )
    old = load_or_create_signing_key(home)
    folder = home / "keys"
    # In this order: without `signing.pub` an interrupted rotation reads as an interrupted creation.
    (folder / "signing.pub").unlink()
    (folder / "signing.pem").rename(folder / f"signing-{old.id[:16]}.pem")
    return dataclasses.replace(old, path=folder / f"signing-{old.id[:16]}.pem"), (
        load_or_create_signing_key(home)
    )


def load_signing_key(path: Path) -> SigningKey:
    """Reads a private key.

    Raises:
        TrustError: `trust.missing-key`: it cannot be read or is not an ECDSA P-256 private key.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise TrustError(
            "trust.missing-key", f"the signing key `{path}` cannot be read: {error.strerror}"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TrustError(
            "trust.missing-key", f"`{path}` is not a private key in PEM without a password"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise TrustError(
            "trust.missing-key", f"`{path}` is a private key of another kind than ECDSA P-256"
        )
    return SigningKey(PublicKey._of(key.public_key()), path, key)


def _create(path: Path) -> None:
    make_private_folder(path.parent)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _publish(pem.decode(), path, 0o600)


def _publish(text: str, path: Path, mode: int) -> None:
    """Makes the file appear whole, or leaves the one that is there: a link never overwrites."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-") as file:
            file.write(text.encode())
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            try:
                os.link(file.name, path)
            except FileExistsError:
                return  # Another process was first; its key is the key.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ResourceError(
            "store.not-writable", f"the key file `{path}` cannot be written: {error.strerror}"
        ) from error


_PUBLIC_HINT = (
    "put ECDSA P-256 public keys (SubjectPublicKeyInfo, PEM) there, or take the file away"
)
