"""Keys are made once, never overwritten, never quietly replaced; the trust store is a folder."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dukou.base.errors import InputError, TrustError
from dukou.trust.keys import (
    TrustStore,
    load_or_create_signing_key,
    load_signing_key,
    load_trust_store,
)


@pytest.fixture(autouse=True)
def _no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUKOU_SIGNING_KEY", raising=False)


def test_the_first_use_makes_a_key_that_is_trusted_here(tmp_path: Path) -> None:
    home = tmp_path / "home"
    key = load_or_create_signing_key(home)
    path = home / "keys" / "signing.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert set(load_trust_store(home)) == {key.id}
    assert (home / "keys" / "signing.pub").read_text() == key.public.pem
    assert hashlib.sha256(key.public.pem.encode()).hexdigest() == key.id
    before = path.read_bytes()
    assert load_or_create_signing_key(home).id == key.id
    assert path.read_bytes() == before
    assert "PRIVATE" not in repr(key)
    assert not list((home / "keys").glob(".new-*"))


def test_a_key_that_is_gone_is_not_replaced(tmp_path: Path) -> None:
    load_or_create_signing_key(tmp_path)
    private = tmp_path / "keys" / "signing.pem"
    private.unlink()
    with pytest.raises(TrustError) as caught:
        load_or_create_signing_key(tmp_path)
    assert caught.value.code == "trust.missing-key"
    assert str(private) in caught.value.message
    assert not private.exists()


def test_a_creation_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    key = load_or_create_signing_key(tmp_path)
    (tmp_path / "keys" / "signing.pub").unlink()
    for path in (tmp_path / "trust").iterdir():
        path.unlink()
    assert load_or_create_signing_key(tmp_path).id == key.id
    assert set(load_trust_store(tmp_path)) == {key.id}
    # Once it is finished, whoever takes the own key out of the trust store is obeyed.
    for path in (tmp_path / "trust").iterdir():
        path.unlink()
    load_or_create_signing_key(tmp_path)
    assert not load_trust_store(tmp_path)


def test_a_named_key_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = load_or_create_signing_key(tmp_path / "other")
    monkeypatch.setenv("DUKOU_SIGNING_KEY", str(key.path))
    assert load_or_create_signing_key(tmp_path / "home").id == key.id
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv("DUKOU_SIGNING_KEY", str(tmp_path / "absent.pem"))
    with pytest.raises(TrustError) as caught:
        load_or_create_signing_key(tmp_path / "home")
    assert caught.value.code == "trust.missing-key"
    assert "DUKOU_SIGNING_KEY" in caught.value.message
    assert not (tmp_path / "home").exists()


def _pem(key: object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize("kind", ["text", "public", "rsa", "p384", "folder"])
def test_what_is_no_signing_key_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key.pem"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(
            {
                "text": lambda: b"hello",
                "public": lambda: load_or_create_signing_key(tmp_path).public.pem.encode(),
                "rsa": lambda: _pem(rsa.generate_private_key(65537, 2048)),
                "p384": lambda: _pem(ec.generate_private_key(ec.SECP384R1())),
            }[kind]()
        )
    with pytest.raises(TrustError) as caught:
        load_signing_key(path)
    assert caught.value.code == "trust.missing-key"
    assert str(path) in caught.value.message


def test_what_is_no_public_key_is_refused_with_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "trust"
    folder.mkdir()
    (folder / "README").write_text("not a key, and not called one")
    assert len(TrustStore.load(folder)) == 0
    for content in (
        b"hello",
        ec.generate_private_key(ec.SECP384R1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    ):
        (folder / "strange.pem").write_bytes(content)
        with pytest.raises(InputError) as caught:
            TrustStore.load(folder)
        assert caught.value.code == "config.invalid"
        assert "strange.pem" in caught.value.message


def test_the_id_does_not_depend_on_how_the_pem_was_wrapped(tmp_path: Path) -> None:
    key = load_or_create_signing_key(tmp_path)
    folder = tmp_path / "windows"
    folder.mkdir()
    (folder / "a.pem").write_bytes(key.public.pem.replace("\n", "\r\n").encode())
    assert set(TrustStore.load(folder)) == {key.id}
    assert TrustStore.load(folder)[key.id].pem == key.public.pem


CREATOR = """
import sys
from pathlib import Path
from dukou.trust.keys import load_or_create_signing_key
sys.stdin.readline()
print(load_or_create_signing_key(Path(sys.argv[1])).id)
"""


def test_processes_that_come_first_at_once_agree(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, str(tmp_path / "home")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(4)
    ]
    said = {process.communicate("go\n", timeout=50)[0] for process in processes}
    assert len(said) == 1
    assert said == {load_or_create_signing_key(tmp_path / "home").id + "\n"}
    assert len(load_trust_store(tmp_path / "home")) == 1
