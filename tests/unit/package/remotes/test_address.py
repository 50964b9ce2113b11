"""Where a repository is, as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.base.errors import DukouError
from dukou.package.remotes.address import Address, is_loopback, parse_address

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        ("r.example/models/digits", None, Address("oci", "r.example", "models/digits")),
        ("r.example/digits:3", None, Address("oci", "r.example", "digits", tag="3")),
        ("r.example:5000/a:b", None, Address("oci", "r.example:5000", "a", tag="b")),
        (f"r.example/a@{DIGEST}", None, Address("oci", "r.example", "a", digest=DIGEST)),  # type: ignore[arg-type]
        ("r.example/models/", "digits", Address("oci", "r.example", "models/digits")),
        ("r.example", "digits", Address("oci", "r.example", "digits")),
        ("127.0.0.1:5000/a", None, Address("oci", "127.0.0.1:5000", "a", plain=True)),
        ("https://127.0.0.1:5000/a", None, Address("oci", "127.0.0.1:5000", "a")),
        ("oci://[::1]:5000/a:2", None, Address("oci", "[::1]:5000", "a", plain=True, tag="2")),
        ("/mnt/share/", "digits", Address("folder", "", "/mnt/share/digits")),
        ("/mnt/share/digits:3", None, Address("folder", "", "/mnt/share/digits", tag="3")),
    ],
)
def test_an_address_is_read(text: str, model: str | None, expected: Address) -> None:
    assert parse_address(text, model=model) == expected


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("ftp://r.example/a", "usage.invalid", "not the address"),
        ("r.example/Digits", "usage.invalid", "`Digits` cannot be a repository"),
        ("r.example", "usage.invalid", "cannot be a repository"),
        ("r example/a", "usage.invalid", "names no host"),
        ("r.example/a:.b", "usage.invalid", "cannot be a tag"),
        ("r.example/a@sha256:1", "config.invalid", "not a digest"),
        ("http://r.example/a", "remote.insecure", "in clear"),
    ],
)
def test_what_is_none_is_said(text: str, code: str, said: str) -> None:
    with pytest.raises(DukouError, match=said) as caught:
        parse_address(text)
    assert caught.value.code == code


def test_another_machine_without_tls_must_be_said() -> None:
    assert parse_address("r.example/a", insecure=True).plain
    assert parse_address("http://r.example/a", insecure=True).plain
    assert not parse_address("https://r.example/a", insecure=True).plain


def test_a_folder_is_meant_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert parse_address(f"{tmp_path}/a:b").tag is None
    assert str(parse_address(f"{tmp_path}/c:b")) == f"{tmp_path}/c:b"


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("127.1.2.3:80", True), ("[::1]:80", True), ("127.0.0.1.example", False)],
)
def test_this_machine_is_known(host: str, local: bool) -> None:
    assert is_loopback(host) is local
