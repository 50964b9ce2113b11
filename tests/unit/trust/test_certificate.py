"""The installation's own certificate: for this host's names, kept while it is good, its key private."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from dukou.trust import certificate
from dukou.trust.certificate import ensure_certificate


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_it_names_this_host_and_is_kept(tmp_path: Path) -> None:
    pem, key = ensure_certificate(tmp_path / "access", "192.0.2.7")
    names = _read(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    assert {"localhost", socket.gethostname()} <= set(names.get_values_for_type(x509.DNSName))
    assert ipaddress.ip_address("192.0.2.7") in addresses
    assert ipaddress.ip_address("127.0.0.1") in addresses
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert private.public_key() == _read(pem).public_key()
    before = pem.read_bytes()
    ensure_certificate(tmp_path / "access", "0.0.0.0")
    assert pem.read_bytes() == before, "clients that were given it need no other"
    assert sorted(path.name for path in pem.parent.iterdir()) == [key.name, pem.name]


def test_another_address_a_lost_key_and_an_old_one_make_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    pem, key = ensure_certificate(tmp_path, "192.0.2.7")
    seen.add(_read(pem).fingerprint(hashes.SHA256()))
    ensure_certificate(tmp_path, "192.0.2.8")
    seen.add(_read(pem).fingerprint(hashes.SHA256()))
    key.unlink()
    ensure_certificate(tmp_path, "192.0.2.8")
    seen.add(_read(pem).fingerprint(hashes.SHA256()))
    pem.write_text("nothing of the kind")
    ensure_certificate(tmp_path, "192.0.2.8")
    seen.add(_read(pem).fingerprint(hashes.SHA256()))
    monkeypatch.setattr(certificate, "_RENEWED_BEFORE", datetime.timedelta(days=398))
    ensure_certificate(tmp_path, "192.0.2.8")
    seen.add(_read(pem).fingerprint(hashes.SHA256()))
    assert len(seen) == 5
