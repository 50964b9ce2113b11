"""Protocol Buffers' text format, as configuration files of Triton and TensorFlow Serving are written in it.

No schema is known here: a message is its fields' names, each with the values it was given, in order.
Standard library only: `dukou serve` reads it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from dukou.base.errors import InputError

# Deeper than any configuration; a file made to exhaust the stack is refused instead.
_DEEPEST = 32
_LARGEST_FILE = 1 << 20
_TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
    |(?P<name>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[fF]?)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<mark>[:{}\[\]<>,;])""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)

# Field → its values, in the order in which they stand: text, numbers, names of enums, messages.
Message = dict[str, list[Any]]


class Word(str):
    """A bare word: the name of an enum's value."""

    __slots__ = ()


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def parse_text(text: str, source: str) -> Message:
    """A file in the text format.

    Args:
        text: the whole file.
        source: its path, for errors.

    Raises:
        InputError: `folder.invalid-config`, with the line where reading stopped.
    """
    return _Parser(text, source).message(end="", depth=0)


def load_text(path: Path) -> Message:
    """A file in the text format, read.

    Raises:
        InputError: `folder.invalid-config`: it is not in the format; `formats.not-found`: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(
            "formats.not-found", f"`{path}` cannot be read: {error.strerror}"
        ) from error
    if len(content) > _LARGEST_FILE:
        raise InputError("folder.invalid-config", f"`{path}` is larger than 1 MiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            "folder.invalid-config", f"`{path}` is not UTF-8 from byte {error.start} on"
        ) from error
    return parse_text(text, str(path))


class Fields:
    """Reads fields of a file's messages, each as what it has to be.

    Args:
        source: the file, for errors.
    """

    def __init__(self, source: str) -> None:
        self._source = source

    def wrong(self, field: str, what: str) -> InputError:
        """The error of a field that is not what it has to be."""
        return InputError("folder.invalid-config", f"`{self._source}`: `{field}` {what}")

    def text(self, message: Message, field: str) -> str | None:
        """A text; None where it is empty or not there."""
        value = message.get(field, [None])[-1]
        if value is not None and not isinstance(value, str):
            raise self.wrong(field, f"is a text, and is `{value}`")
        return value or None

    def integer(
        self, message: Message, field: str, *, least: int, most: int = 1 << 40
    ) -> int | None:
        """An integer of a range; None where it is not there."""
        value = message.get(field, [None])[-1]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(field, f"is an integer from {least} on, and is `{value}`")
        return value

    def messages(self, message: Message, field: str) -> list[Message]:
        """The messages of a field."""
        values = message.get(field, [])
        for value in values:
            if not isinstance(value, dict):
                raise self.wrong(field, f"is a message, and is `{value}`")
        return values


class _Parser:
    """Reads tokens one after the other; the next one is always known."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._tokens = self._scan(text)
        self._place = 0

    def _scan(self, text: str) -> list[_Token]:
        tokens, place, line = [], 0, 1
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise self._error(line, f"`{text[place]}` is not expected")
            kind = str(match.lastgroup)
            if kind != "space":
                tokens.append(_Token(kind, match[0], line))
            line += match[0].count("\n")
            place = match.end()
        tokens.append(_Token("end", "", line))
        return tokens

    def _error(self, line: int, what: str) -> InputError:
        return InputError("folder.invalid-config", f"`{self._source}`, line {line}: {what}")

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._next
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _accept(self, *marks: str) -> bool:
        if self._next.kind == "mark" and self._next.text in marks:
            self._take()
            return True
        return False

    def message(self, end: str, depth: int) -> Message:
        """Fields up to the mark `end`, or to the end of the file."""
        if depth > _DEEPEST:
            raise self._error(self._next.line, f"nested more than {_DEEPEST} levels deep")
        found: Message = {}
        while True:
            token = self._take()
            if token.kind == "end":
                if end:
                    raise self._error(token.line, f"the file ends where `{end}` is expected")
                return found
            if token.kind == "mark" and token.text == end:
                return found
            if token.kind != "name":
                raise self._error(token.line, f"a field's name is expected, and `{token.text}` is")
            found.setdefault(token.text, []).extend(self._values(depth))
            self._accept(",", ";")

    def _values(self, depth: int) -> list[Any]:
        colon = self._accept(":")
        if self._accept("["):
            values = []
            while not self._accept("]"):
                values.append(self._value(depth))
                if not self._accept(",") and self._next.text != "]":
                    raise self._error(
                        self._next.line, f"`,` or `]` is expected, and `{self._next.text}` is"
                    )
            return values
        if not colon and self._next.text not in ("{", "<"):
            raise self._error(self._next.line, f"`:` is expected, and `{self._next.text}` is")
        return [self._value(depth)]

    def _value(self, depth: int) -> Any:
        token = self._take()
        if token.kind == "mark" and token.text in ("{", "<"):
            return self.message("}" if token.text == "{" else ">", depth + 1)
        if token.kind == "text":
            said = _unquoted(token.text)
            while self._next.kind == "text":  # texts side by side are one
                said += _unquoted(self._take().text)
            return said
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "name":
            return {"true": True, "false": False}.get(token.text, Word(token.text))
        raise self._error(token.line, f"a value is expected, and `{token.text or 'the end'}` is")


def _number(text: str) -> int | float:
    if re.fullmatch(r"[+-]?0[0-7]+", text):
        return int(text, 8)
    try:
        return int(text, 0)
    except ValueError:
        return float(text.rstrip("fF"))


def _unquoted(text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        octal, hexadecimal, letter = match.groups()
        if octal:
            return chr(int(octal, 8))
        if hexadecimal:
            return chr(int(hexadecimal, 16))
        return _ESCAPES.get(letter, letter)

    return _ESCAPE.sub(plain, text[1:-1])
