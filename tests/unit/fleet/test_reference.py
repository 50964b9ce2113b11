"""Names of images."""

from __future__ import annotations

import pytest

from dukou.base.errors import InputError
from dukou.fleet.reference import default_reference, parse_image


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag"),
    [
        ("digits", "", "digits", "latest"),
        ("digits:3", "", "digits", "3"),
        ("team/digits:v1.2-rc", "", "team/digits", "v1.2-rc"),
        ("localhost/digits", "localhost", "digits", "latest"),
        ("registry.example.com:5000/a/b__c:1", "registry.example.com:5000", "a/b__c", "1"),
        ("[::1]:5000/a:1", "[::1]:5000", "a", "1"),
    ],
)
def test_a_name_is_taken_apart(text: str, domain: str, path: str, tag: str) -> None:
    found = parse_image(text, flag="--tag")
    assert (found.domain, found.path, found.tag) == (domain, path, tag)
    assert parse_image(str(found), flag="--tag") == found


def test_a_digest_where_one_may_be() -> None:
    text = "r.example/a@sha256:" + "0" * 64
    found = parse_image(text, flag="--image", allow_digest=True)
    assert str(found) == text and found.tag == ""
    for wrong in (text[:-1], "a@md5:0"):
        with pytest.raises(InputError):
            parse_image(wrong, flag="--image", allow_digest=True)
    with pytest.raises(InputError) as refused:
        parse_image(text, flag="--tag")
    assert "a digest has no place here" in refused.value.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "may not be written so"),
        ("Digits", "capital letters"),
        ("a b", "may not be written so"),
        ("a:", "is not a tag"),
        ("a:b c", "is not a tag"),
        ("a//b", "may not be written so"),
        ("-a.example/b", "is not a registry's address"),
        ("a" * 256, "256 characters"),
        ("http://r.example/a", "is not a registry's address"),
    ],
)
def test_what_is_no_name_is_said(text: str, why: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_image(text, flag="--tag")
    assert refused.value.code == "image.invalid-reference"
    assert why in refused.value.message


def test_a_model_s_name_becomes_an_image_s() -> None:
    assert str(default_reference("Digits.v2", "3")) == "digits.v2:3"
    assert str(default_reference("digits", None)) == "digits:latest"
    with pytest.raises(InputError) as refused:
        default_reference("a-._b", "1")
    assert "--tag" in refused.value.hint
