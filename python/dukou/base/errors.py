"""The one tree of errors. A family says whose matter it is; a code says exactly what.

    DukouError
    ├── InputError      yours: the request, file or command is wrong     exit 2
    ├── StateError      not now: it would be right at another moment     exit 3
    ├── TrustError      not allowed, or not genuine                      exit 4
    ├── ResourceError   not enough of something                          exit 5
    ├── RemoteError     somebody else's program                          exit 6
    └── BugError        ours                                             exit 70

    raise InputError("formats.corrupt", f"`{path}` ends after {got} of {want} bytes")

Codes stand in `codes.py`; each carries a remedy, which `hint` may sharpen.
"""

from __future__ import annotations

from typing import ClassVar

from dukou.base.codes import CODES


class DukouError(Exception):
    """A failure with a stable code, one sentence with both sides of the mismatch, and a remedy.

    Args:
        code: one of `dukou.base.codes.CODES`, of this class's family.
        message: lower case, backticks round literals, what was expected *and* what came.
        hint: what to do about this very case; the code's general remedy where absent.
    """

    family: ClassVar[str] = ""
    exit_status: ClassVar[int] = 70

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        family, remedy = CODES.get(code, ("", ""))
        if family != self.family:
            raise LookupError(f"`{code}` is not a code of {type(self).__name__}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint or remedy

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.code, self.message, self.hint)


def _rebuild(_kind: type[DukouError], code: str, message: str, hint: str) -> DukouError:
    return relay_error(code, message, hint)


class InputError(DukouError):
    """Yours: the request, file or command is wrong."""

    family = "input"
    exit_status = 2


class StateError(DukouError):
    """Not now: it would be right at another moment."""

    family = "state"
    exit_status = 3


class TrustError(DukouError):
    """Not allowed, or not genuine."""

    family = "trust"
    exit_status = 4


class ResourceError(DukouError):
    """Not enough of something."""

    family = "resource"
    exit_status = 5


class RemoteError(DukouError):
    """Somebody else's program."""

    family = "remote"
    exit_status = 6


class BugError(DukouError):
    """Ours."""

    family = "bug"
    exit_status = 70


# The family of a code that Python has no word of its own for, by the code's first part.
_RELAYED = {
    "wire": InputError,
    "request": InputError,
    "formats": InputError,
    "deploy": InputError,
    "server": StateError,
    "table": StateError,
    "access": TrustError,
    "trust": TrustError,
    "limits": ResourceError,
    "engine": RemoteError,
}


def relay_error(code: str, message: str, hint: str | None = None) -> DukouError:
    """An error that another process of ours reported, as the same error here.

    Args:
        code: any code of `spec/errors.toml`, those that only the engine raises among them.
        message: that process's sentence.
        hint: its remedy; where absent, the code's own.
    """
    if code in CODES:
        family = CODES[code][0]
        kind = next(k for k in DukouError.__subclasses__() if k.family == family)
        return kind(code, message, hint=hint)
    kind = _RELAYED.get(code.partition(".")[0], RemoteError)
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.code, error.message, error.hint = code, message, hint or ""
    return error
