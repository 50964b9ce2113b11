"""The certificate that `dukou serve` makes for itself: self-signed, ECDSA P-256, for the names of this host.

`HOME/access/certificate.pem` is for clients (`--cacert`), `HOME/access/certificate.key` (0600) for the
engine alone. Where an authority's certificate is at hand, `dukou serve --tls-certificate` takes that.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dukou.base.errors import ResourceError
from dukou.base.settings import make_private_folder

_LASTS = datetime.timedelta(days=397)
# One that ends sooner than this is made anew at the next start.
_RENEWED_BEFORE = datetime.timedelta(days=30)


def ensure_certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """The installation's certificate and key, made where they are missing or about to expire.

    Args:
        folder: `HOME/access`.
        host: the address that is listened on; in the certificate with this host's own names.

    Raises:
        ResourceError: `store.not-writable`.
    """
    certificate, key = folder / "certificate.pem", folder / "certificate.key"
    if key.exists() and _is_good(certificate, host):
        return certificate, key
    make_private_folder(folder)
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    signed = _sign(private, _names(host))
    try:
        # The key first: an engine that looks in between finds a pair that does not fit, and keeps its own.
        _replace(key, pem, 0o600)
        _replace(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise ResourceError(
            "store.not-writable",
            f"the certificate cannot be kept in `{folder}`: {error.strerror}",
        ) from error
    return certificate, key


def _is_good(path: Path, host: str) -> bool:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    now = datetime.datetime.now(datetime.UTC)
    return found.not_valid_after_utc - now > _RENEWED_BEFORE and set(_names(host)) <= set(names)


def _sign(
    private: ec.EllipticCurvePrivateKey, names: Sequence[x509.GeneralName]
) -> x509.Certificate:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"dukou on {socket.gethostname()}"[:64])]
    )
    now = datetime.datetime.now(datetime.UTC)
    public = private.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # A clock that is a little behind must not find it too young.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LASTS)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )


def _names(host: str) -> list[x509.GeneralName]:
    """The names and addresses that clients may know this host by."""
    own = socket.gethostname()
    texts = ["localhost", "127.0.0.1", "::1", own]
    if host not in ("", "0.0.0.0", "::"):
        texts.append(host)
    names: list[x509.GeneralName] = []
    for text in dict.fromkeys(texts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            if text.isascii():
                names.append(x509.DNSName(text))
    return names


def _replace(path: Path, content: bytes, mode: int) -> None:
    incoming = path.with_name(f".{path.name}.{os.getpid()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(incoming, flags, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    incoming.replace(path)
