"""HPACK (RFC 7541) as far as answers need it: a header block read, of a peer that was told to index nothing."""

from __future__ import annotations

from collections.abc import Iterator

# How many bits each printable character has, from the space on (appendix B); the codes follow from that, for
# they are in the order of their lengths and of the characters.
_BITS = """
    6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6
    5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10
    13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7
    7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6
    15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5
    6 7 6 5 5 6 7 7 7 7 7 15 11 14 13
"""
# Characters outside of these: none stands in our headers, and one of them (0) is among the codes here.
_OTHERS = {0: 13}
# The rows of the static table that our answers use.
_STATIC = {
    8: (":status", "200"),
    9: (":status", "204"),
    12: (":status", "400"),
    13: (":status", "404"),
    14: (":status", "500"),
    28: ("content-length", ""),
    31: ("content-type", ""),
    33: ("date", ""),
    53: ("retry-after", ""),
    61: ("www-authenticate", ""),
}


def _codes() -> dict[tuple[int, int], str]:
    """(bits, code) → character."""
    lengths = {32 + place: int(bits) for place, bits in enumerate(_BITS.split())} | _OTHERS
    codes, code, before = {}, 0, 0
    for character, bits in sorted(lengths.items(), key=lambda item: (item[1], item[0])):
        if bits > 15:
            break  # before them stand codes of no printable character
        code <<= bits - before
        codes[bits, code] = chr(character)
        code, before = code + 1, bits
    return codes


_CODES = _codes()


def _plain(packed: bytes) -> str:
    text, code, bits = "", 0, 0
    for byte in packed:
        for place in range(7, -1, -1):
            code, bits = code << 1 | byte >> place & 1, bits + 1
            if (bits, code) in _CODES:
                text += _CODES[bits, code]
                code, bits = 0, 0
    assert bits < 8, f"no code of a printable character behind {text!r}"
    assert code == (1 << bits) - 1, f"no padding behind {text!r}"
    return text


def _row(number: int) -> tuple[str, str]:
    return _STATIC.get(number, (f"row {number}", ""))


class _Block:
    def __init__(self, block: bytes) -> None:
        self._rest = block

    def number(self, bits: int) -> int:
        most = (1 << bits) - 1
        number = self._rest[0] & most
        self._rest = self._rest[1:]
        shift = 0
        while number >= most:
            byte, self._rest = self._rest[0], self._rest[1:]
            number += (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return number

    def text(self) -> str:
        packed = self._rest[0] >= 0x80
        length = self.number(7)
        text, self._rest = self._rest[:length], self._rest[length:]
        return _plain(text) if packed else text.decode()

    def headers(self) -> Iterator[tuple[str, str]]:
        while self._rest:
            first = self._rest[0]
            if first >= 0x80:
                yield _row(self.number(7))
            elif first >= 0x40 or first < 0x20:
                row = self.number(6 if first >= 0x40 else 4)
                yield (_row(row)[0] if row else self.text()), self.text()
            else:
                self.number(5)  # the size of a table that we do not keep


def read(block: bytes) -> dict[str, str]:
    """The headers of a block.

    Its writer must have been told, by `SETTINGS_HEADER_TABLE_SIZE` 0, that nothing is kept.
    """
    return dict(_Block(block).headers())
