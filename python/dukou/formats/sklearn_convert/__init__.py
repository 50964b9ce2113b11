"""The child process of the scikit-learn reader: the only place of this stop where a pickle is loaded."""

from __future__ import annotations


class ConversionError(Exception):
    """A failure with one of dukou's codes, carried to the parent by `result.json`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message
