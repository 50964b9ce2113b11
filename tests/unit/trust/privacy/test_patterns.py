"""What patterns find is gone from the text, whatever stands around it; what only looks like it stays."""

from __future__ import annotations

import ipaddress
import string
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dukou.trust.privacy.patterns import (
    KINDS,
    find_personal,
    is_card_number,
    is_iban,
    is_identity_number,
    mask_personal,
)

DIGITS = st.text("0123456789", min_size=1)
# Around a piece: words of any script, no digits and nothing that could belong to it.
WORDS = st.text(st.sampled_from("渡口的电话是 ,。;\n!?"), max_size=12)


def identity(prefix: str, born: date, order: int) -> str:
    """A number with the check character that GB 11643 demands, by its own table of weights."""
    body = f"{prefix}{born:%Y%m%d}{order:03d}"
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    total = sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True))
    return body + "10X98765432"[total % 11]


def card(body: str) -> str:
    return next(body + str(d) for d in range(10) if is_card_number(body + str(d)))


identities = st.builds(
    identity,
    st.text("0123456789", min_size=6, max_size=6),
    st.dates(date(1900, 1, 1), date(2030, 1, 1)),
    st.integers(0, 999),
)
mobiles = st.from_regex(r"\A1[3-9][0-9]{9}\Z")
mails = st.from_regex(r"\A[a-z][a-z0-9.]{0,10}@[a-z]{1,10}\.(?:com|cn|org)\Z")
cards = st.text("0123456789", min_size=12, max_size=18).filter(lambda t: len(set(t)) > 2).map(card)
# The address that is none (`::`) is nobody's.
addresses = st.ip_addresses().map(str).filter(lambda text: text != "::")
planted = st.one_of(identities, mobiles, mails, cards, addresses)


@settings(max_examples=300, deadline=None)
@given(WORDS, planted, WORDS, planted, WORDS)
def test_a_planted_value_is_never_in_what_is_left(
    a: str, one: str, b: str, two: str, c: str
) -> None:
    masked = mask_personal(f"{a} {one} {b} {two} {c}")
    assert one not in masked
    assert two not in masked
    assert mask_personal(masked) == masked


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_what_is_found_lies_in_the_text_in_order_and_apart(text: str) -> None:
    end = 0
    for found in find_personal(text):
        assert end <= found.start < found.end <= len(text)
        assert found.kind in KINDS
        end = found.end


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("联系王小明,电话13800138000。", "联系王小明,电话<phone>。"),
        ("邮箱zhang.san@example.com的", "邮箱<email>"),
        ("身份证 11010519491231002X", "身份证 <identity>"),
        ("110105-19491231-002x", "<identity>"),
        ("１３８００１３８０００", "<phone>"),
        ("+86 138 0013 8000", "<phone>"),
        ("0086-138-0013-8000", "<phone>"),
        ("+1 (555) 123-4567 or 555-123-4567", "<phone> or <phone>"),
        ("010-12345678", "<phone>"),
        ("card 4111 1111 1111 1111", "card <card>"),
        ("DE89 3704 0044 0532 0130 00", "<iban>"),
        ("from 192.168.1.10, 2001:db8::1", "from <ip>, <ip>"),
        ("张三@例子.中国", "<email>"),
    ],
)
def test_every_form_is_found(text: str, masked: str) -> None:
    assert mask_personal(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "order 1234567890123",
        "110105194912310021",
        "110105194913310025",
        "at 12:30:45 on 2026-11-24T10:00:00Z",
        "version 1.2.3, 300.1.2.3",
        "4111111111111112",
        "12800138000",
        "price 1234.50, a@b",
        "",
        "::",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert mask_personal(text) == text


def test_the_checks_are_the_standards() -> None:
    assert is_identity_number("11010519491231002X")
    assert is_identity_number("11010519491231002x")
    assert not is_identity_number("110105194912310020")
    assert is_card_number("79927398713") is False, "too short for a card"
    assert is_card_number("4111111111111111")
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB82WEST12345698765433")
    assert ipaddress.ip_address("::1")


@pytest.mark.parametrize(
    "text",
    [
        "1" * 50_000,
        "a" * 50_000 + "@",
        "1 " * 25_000,
        "a." * 25_000 + "@",
        ":" * 50_000,
        "A1" * 25_000,
    ],
)
def test_no_text_takes_more_than_its_length(text: str) -> None:
    # The test's own limit of time would end what is not linear.
    assert len(mask_personal(text)) <= len(text)


def test_the_alphabet_of_the_law_is_free_of_what_it_plants() -> None:
    assert not set("渡口的电话是 ,。;\n!?") & set(string.digits + "@:.+-")
