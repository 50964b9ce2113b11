"""The one place where a failure becomes text: two lines on stderr and the status of its family.

A person at a terminal gets a third line, the way to the code's page; a log or a script does not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from dukou.base.errors import BugError, DukouError, ResourceError


def report(error: Exception, words: Sequence[str]) -> int:
    """Prints `error: message [code]` and `hint: …`; gives the exit status.

    Of a message with several lines (the last lines of a training, say) the first is our sentence and
    carries the code; the others are somebody else's words, and stand behind a bar.

    What is none of dukou's own errors is our mistake: its traceback goes to a file, never to the
    person, who gets the file's name.
    """
    known = error if isinstance(error, DukouError) else _translate(error, words)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    for line in _lines_of(known):
        print(line, file=sys.stderr)
    return known.exit_status


def _lines_of(error: DukouError) -> list[str]:
    sentence, *quoted = error.message.rstrip().splitlines() or [""]
    # "…; its last lines:" leads over to them: the code goes before the colon.
    leads_over = bool(quoted) and sentence.endswith(":")
    sentence = f"{sentence.removesuffix(':') if leads_over else sentence} [{error.code}]"
    lines = [f"error: {sentence}{':' if leads_over else ''}"]
    lines += [f"  | {line}" for line in textwrap.dedent("\n".join(quoted)).splitlines()]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    # A mistake in the words of a command is answered by the command's own help, which the hint names.
    if sys.stderr.isatty() and error.code != "usage.invalid":
        lines.append(f"help: dukou help {error.code}")
    return lines


def _translate(error: Exception, words: Sequence[str]) -> DukouError:
    if isinstance(error, OSError) and error.errno in _DISK:
        return ResourceError(
            _DISK[error.errno], f"`{error.filename or 'a file'}`: {error.strerror}"
        )
    where = _write_log(error, words)
    return BugError("bug.internal", f"{type(error).__name__}: {error}; the log is `{where}`")


_DISK = {
    errno.ENOSPC: "store.disk-full",
    errno.EDQUOT: "store.disk-full",
    errno.EROFS: "store.not-writable",
}


def _write_log(error: Exception, words: Sequence[str]) -> str:
    # The file stays: what it holds must be nothing of anybody's rows.
    from dukou.trust.privacy.traceback import describe_privately

    said = [*words[:2], "…"] if words[:1] == ["privacy"] else words
    text = f"dukou {shlex.join(said)}\nPython {sys.version}\n\n{describe_privately(error)}\n"
    name = f"bug-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    for folder in _log_folders():
        with contextlib.suppress(OSError, DukouError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            return str(folder / name)
    # Nowhere to write: better on the screen than lost.
    print(text, file=sys.stderr)
    return "above"


def _log_folders() -> list[Path]:
    folders = [Path(tempfile.gettempdir())]
    with contextlib.suppress(DukouError):
        from dukou.base.settings import dukou_home

        folders.insert(0, dukou_home() / "logs")
    return folders
