"""`dukou help`: the commands, the help of one, or the page of an error code.

Offline: the pages ship with the package.
  dukou help                           the commands
  dukou help serve                     what `dukou serve` takes
  dukou help package.digest-mismatch   what the code means, how it comes about, what to do
  dukou help --codes                   every code, a line each
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dukou.base.error_pages import ErrorPage

_FAMILIES = {
    "input": "yours: the request, file or command is to be mended",
    "state": "not now: it would be right at another moment",
    "trust": "not allowed, or not genuine",
    "resource": "not enough of something",
    "remote": "another program's",
    "bug": "ours: a mistake in dukou",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("topic", nargs="*", metavar="TOPIC", help="a command or an error code")
    parser.add_argument("--codes", action="store_true", help="list every error code")
    parser.add_argument(
        "--json", action="store_true", help="a code's page, or all of them, as one JSON document"
    )


def run(arguments: argparse.Namespace) -> int:
    """Finds the page and prints it."""
    from dukou.cli import main as door

    words = arguments.topic
    if not words and not (arguments.codes or arguments.json):
        print(door.overview())
        return 0
    if words and words[0] in door.command_names():
        return door.main([*words, "--help"])
    from dukou.base.error_pages import load_error_pages

    pages = load_error_pages()
    if not words:
        _print_codes(pages, as_json=arguments.json)
        return 0
    topic = " ".join(words)
    # As it is copied from a terminal: `[code]`.
    page = pages.get(topic.strip("[]`'\" ").lower())
    if page is None:
        raise _unknown(topic, list(pages), door.command_names())
    if arguments.json:
        print(json.dumps(page._asdict(), indent=1, ensure_ascii=False))
    else:
        print(show_page(page))
    return 0


def show_page(page: ErrorPage) -> str:
    """The page as text, lines folded for a terminal."""
    from dukou.base.error_pages import exit_status

    status = f", HTTP {page.http_status}" if page.http_status else ""
    lines = [
        page.code,
        f"  {_FAMILIES[page.family]} (exit status {exit_status(page.family)}{status})",
        "",
        *_section("what it means", page.summary),
        *_section("how it typically happens", page.cause),
        *_section("what to do", page.remedy),
    ]
    if page.example:
        lines += ["for example", f"  {page.example}", ""]
    return "\n".join(lines).rstrip()


def _section(title: str, text: str) -> list[str]:
    import textwrap

    indented = textwrap.wrap(
        text,
        96,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [title, *indented, ""]


def _print_codes(pages: dict[str, ErrorPage], *, as_json: bool) -> None:
    if as_json:
        document = {"errors": [page._asdict() for page in pages.values()]}
        print(json.dumps(document, indent=1, ensure_ascii=False))
        return
    width = max(map(len, pages))
    for family, meaning in _FAMILIES.items():
        print(f"{family}: {meaning}")
        for page in pages.values():
            if page.family == family:
                print(f"  {page.code:<{width}}  {page.summary}")
        print()
    print("`dukou help CODE` shows a code's page.")


def _unknown(topic: str, codes: list[str], commands: list[str]) -> Exception:
    import difflib

    from dukou.base.error_pages import near_codes
    from dukou.base.errors import InputError

    near = difflib.get_close_matches(topic, commands, n=1) + near_codes(topic, codes)
    listed = ", ".join(f"`dukou help {name}`" for name in near)
    return InputError(
        "usage.invalid",
        f"`{topic}` is neither a command of dukou nor an error code",
        hint=f"did you mean {listed}?"
        if near
        else "`dukou help` lists the commands, `dukou help --codes` the codes",
    )
