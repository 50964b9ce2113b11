"""Encryption keys come from a file, a variable or a command, and what is wrong with one is said."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from dukou.base.errors import DukouError
from dukou.trust import keyring
from dukou.trust.keyring import (
    EncryptionKey,
    Keyring,
    create_key,
    key_path,
    load_keyring,
    read_source,
    require_keyring,
    write_key_file,
)


@pytest.fixture(autouse=True)
def _no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)
    monkeypatch.setattr(keyring, "_READ", {})


def code_of(source: str) -> str:
    with pytest.raises(DukouError) as caught:
        read_source(source)
    return caught.value.code


def test_a_new_key_is_the_home_s_and_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert load_keyring(home) is None
    key, path = create_key(home)
    assert path == key_path(home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    loaded = require_keyring(home)
    assert loaded.current == key
    assert key.text() not in repr(loaded)
    assert key.text() not in str(key)
    with pytest.raises(DukouError) as caught:
        create_key(home)
    assert caught.value.code == "trust.key-exists"
    assert require_keyring(home).current == key
    assert sorted(p.name for p in path.parent.iterdir()) == ["encryption.id", "encryption.key"]


def test_a_key_that_is_gone_is_missed(tmp_path: Path) -> None:
    """Nothing is written in clear because a variable was not exported."""
    key, path = create_key(tmp_path)
    path.unlink()
    with pytest.raises(DukouError) as caught:
        load_keyring(tmp_path)
    assert caught.value.code == "trust.no-encryption-key"
    assert key.id in caught.value.message
    with pytest.raises(DukouError) as never:
        require_keyring(tmp_path / "other")
    assert never.value.code == "trust.no-encryption-key"


def test_the_setting_names_a_file_a_variable_or_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "elsewhere" / "kek"
    monkeypatch.setenv("DUKOU_ENCRYPTION_KEY", str(path))
    key, made = create_key(tmp_path / "home")
    assert made == path
    assert require_keyring(tmp_path / "home").current == key
    monkeypatch.setenv("KEK", key.text())
    for source in ("env:KEK", f"command:cat '{path}'", f"command:printf %s {key.text()}"):
        monkeypatch.setenv("DUKOU_ENCRYPTION_KEY", source)
        assert require_keyring(tmp_path / "home").current == key
        with pytest.raises(DukouError) as caught:
            create_key(tmp_path / "home")
        assert caught.value.code == "trust.key-elsewhere"


def test_the_first_key_wraps_and_every_key_unwraps(tmp_path: Path) -> None:
    old, new = EncryptionKey.generate(), EncryptionKey.generate()
    path = tmp_path / "kek"
    write_key_file(path, Keyring.of(old), replace=False)
    wrapped = read_source(str(path)).current.wrap(bytes(32), b"about")
    write_key_file(path, Keyring.of(new, old), replace=True)
    both = read_source(str(path))
    assert both.current == new, "a file that changed is read again"
    assert both.find(old.id, "it").unwrap(wrapped, b"about", "it") == bytes(32)
    with pytest.raises(DukouError) as caught:
        both.find(old.id, "it").unwrap(wrapped, b"another", "it")
    assert caught.value.code == "trust.bad-ciphertext"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused_with_the_command(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "kek"
    write_key_file(path, Keyring.of(EncryptionKey.generate()), replace=False)
    path.chmod(mode)
    with pytest.raises(DukouError) as caught:
        read_source(str(path))
    assert caught.value.code == "trust.key-readable"
    assert caught.value.hint == f"`chmod 600 {path}`"
    path.chmod(0o600)
    assert read_source(str(path)).keys


def test_what_is_no_key_is_said_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kek"
    path.touch(0o600)
    secret = base64.b64encode(b"31 bytes are no key, whatever  ").decode()
    good = EncryptionKey.generate().text()
    for text, words in (
        ("", "holds no key"),
        ("# only a remark\n", "holds no key"),
        (f"{good}\nnot base64!\n", "line 2"),
        (secret + "\n", "a key of 31 bytes, must be 32"),
    ):
        path.write_text(text)
        with pytest.raises(DukouError) as caught:
            read_source(str(path))
        assert caught.value.code == "trust.invalid-encryption-key"
        assert words in caught.value.message
        assert secret not in caught.value.message
        assert good not in caught.value.message
    assert code_of(str(tmp_path / "absent")) == "trust.no-encryption-key"
    monkeypatch.delenv("NO_SUCH_KEK", raising=False)
    assert code_of("env:NO_SUCH_KEK") == "trust.no-encryption-key"
    assert code_of("command:echo no key") == "trust.invalid-encryption-key"


def test_a_command_that_fails_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DukouError) as caught:
        read_source("command:echo the vault is locked >&2; exit 7")
    assert caught.value.code == "trust.key-command-failed"
    assert "status 7: the vault is locked" in caught.value.message
    monkeypatch.setattr(keyring, "_COMMAND_TIMEOUT_S", 0.05)
    with pytest.raises(DukouError) as slow:
        read_source("command:exec sleep 30")
    assert slow.value.code == "trust.key-command-failed"


def test_a_command_is_not_run_for_every_file(tmp_path: Path) -> None:
    count = tmp_path / "count"
    key = EncryptionKey.generate()
    source = f"command:echo x >>'{count}'; echo {key.text()}"
    assert read_source(source).current == key
    assert read_source(source).current == key
    assert count.read_text() == "x\n"
