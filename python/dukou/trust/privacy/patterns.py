"""Personal data that shows by its form: e-mail, telephone, identity card, bank card, IBAN, IP address.

What carries a checksum is checked by it (GB 11643 with ISO 7064 MOD 11-2, Luhn, ISO 13616 with MOD
97-10), so that an order's number is seldom taken for a person's. A name, an address or a diagnosis
has no form: no pattern finds them, and a field that holds them must be tagged.

Every repetition is bounded: time is linear in the text, whatever it holds.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

# Full-width forms, as Chinese keyboards give them, one character for one.
_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_GAP = r"[ \-.\u00a0]?"


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of personal data in a text.

    Attributes:
        kind: one of `KINDS`.
        start: where it begins.
        end: where it ends.
    """

    kind: str
    start: int
    end: int


def is_identity_number(text: str) -> bool:
    """Whether these 18 characters are a 身份证 number: a date of birth, and a last character that fits."""
    if len(text) != 18 or not (text[:17].isascii() and text[:17].isdigit()):
        return False
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    # ISO 7064 MOD 11-2: the weight of place i is 2^(17-i) mod 11.
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(text[:17]))
    return text[17].upper() == "10X98765432"[total % 11]


def is_card_number(digits: str) -> bool:
    """Whether the digits are a payment card's: 13 to 19 of them, and Luhn's sum ends in 0."""
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether the text, without its blanks, is an IBAN: the number that it makes is 1 modulo 97."""
    if not 15 <= len(text) <= 34:
        return False
    turned = text[4:] + text[:4]
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_international(text: str) -> bool:
    return 7 <= len(_bare(text)) <= 15


def _bare(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", text)


def _always(_text: str) -> bool:
    return True


# kind → forms with the check that each must pass, the widest kind first.
_FORMS: dict[str, tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...]] = {
    "email": (
        (
            re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[\w-]{1,63}\.){1,8}[\w-]{2,63}"),
            _always,
        ),
        # Of letters beyond ASCII alone: `邮箱zhang@…` is a word and an address.
        (re.compile(r"[^\W\x00-\x7f]{1,64}@(?:[\w-]{1,63}\.){1,8}[\w-]{2,63}"), _always),
    ),
    "iban": (
        (
            re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])"),
            lambda text: is_iban(_bare(text)),
        ),
    ),
    "identity": (
        (
            re.compile(rf"(?<!\d)\d{{6}}{_GAP}\d{{8}}{_GAP}\d{{3}}[\dXx](?!\d)"),
            lambda text: is_identity_number(_bare(text)),
        ),
    ),
    "card": (
        (
            re.compile(rf"(?<!\d)\d(?:{_GAP}\d){{12,18}}(?!\d)"),
            lambda text: is_card_number(_bare(text)),
        ),
    ),
    "phone": (
        # International: `+` and 7 to 15 digits, in groups or not.
        (re.compile(r"\+\d(?:[ \-.()\u00a0]{0,2}\d){6,14}(?!\d)"), _is_international),
        (re.compile(rf"(?<!\d)(?:(?:00)?86{_GAP})?1[3-9]\d(?:{_GAP}\d{{4}}){{2}}(?!\d)"), _always),
        # Fixed lines: 010-12345678, (555) 123-4567.
        (re.compile(r"(?<!\d)0\d{2,3}[- ]\d{7,8}(?!\d)"), _always),
        (re.compile(r"(?<!\d)\(?\d{3}\)?[ \-.]\d{3}[ \-.]\d{4}(?!\d)"), _always),
    ),
    "ip": (
        (re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)"), _is_address),
        (
            re.compile(
                r"(?<![0-9A-Za-z:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z:])"
            ),
            lambda text: any(part for part in text.split(":")) and _is_address(text),
        ),
    ),
}
KINDS = tuple(_FORMS)
# Without one of these there is nothing to find: most short texts are done with here.
_WORTH_A_LOOK = re.compile(r"@|\d[^@]{0,2}\d[^@]{0,2}\d|:[0-9A-Fa-f:]")


def find_personal(text: str) -> list[Found]:
    """Pieces of personal data, in order; none overlaps another."""
    narrow = text.translate(_NARROW)
    if not _WORTH_A_LOOK.search(narrow):
        return []
    spans = sorted(_candidates(narrow), key=lambda found: (found.start, -found.end))
    kept: list[Found] = []
    for found in spans:
        if kept and found.start < kept[-1].end:
            # Two that overlap are one: nothing of either may stay.
            last = kept[-1]
            kept[-1] = Found(last.kind, last.start, max(last.end, found.end))
        else:
            kept.append(found)
    return kept


def mask_personal(text: str) -> str:
    """The text with `<email>`, `<phone>` … in place of what was found."""
    found = find_personal(text)
    if not found:
        return text
    parts, place = [], 0
    for piece in found:
        parts += [text[place : piece.start], f"<{piece.kind}>"]
        place = piece.end
    return "".join([*parts, text[place:]])


def _candidates(text: str) -> Iterator[Found]:
    for kind, forms in _FORMS.items():
        for pattern, check in forms:
            if kind == "email" and "@" not in text:
                continue
            place = 0
            while (match := pattern.search(text, place)) is not None:
                if check(match[0]):
                    yield Found(kind, match.start(), match.end())
                    place = match.end()
                else:
                    # What is too long for the check may hold what is not.
                    place = match.start() + 1
