"""The tree of errors is the one in spec/errors.toml."""

from __future__ import annotations

import pickle
import tomllib
from pathlib import Path

import pytest

from dukou.base import errors
from dukou.base.codes import CODES

ROOT = Path(__file__).resolve().parents[3]
FAMILIES = {kind.family: kind for kind in errors.DukouError.__subclasses__()}


def _spec() -> list[dict[str, object]]:
    text = (ROOT / "spec" / "errors.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["error"]


def test_python_raises_exactly_the_codes_of_the_spec() -> None:
    listed = {e["code"]: (e["family"], e["remedy"]) for e in _spec() if "python" in e["sides"]}
    assert listed == CODES


def test_a_code_stands_once() -> None:
    codes = [e["code"] for e in _spec()]
    assert len(codes) == len(set(codes))


def test_every_code_is_used_where_the_spec_says() -> None:
    """A code that nobody raises is a promise that nobody keeps."""
    python = "\n".join(
        p.read_text(encoding="utf-8")
        for p in (ROOT / "python").rglob("*.py")
        if p.name != "codes.py"
    )
    unused = [
        e["code"] for e in _spec() if "python" in e["sides"] and f'"{e["code"]}"' not in python
    ]
    assert not unused


@pytest.mark.parametrize("code", sorted(CODES))
def test_an_error_carries_code_remedy_and_exit_status(code: str) -> None:
    family, remedy = CODES[code]
    error = FAMILIES[family](code, "what was wanted and what came")
    assert (error.code, error.hint) == (code, remedy)
    assert error.exit_status >= 2
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_a_code_of_another_family_is_our_mistake() -> None:
    with pytest.raises(LookupError, match="not a code of TrustError"):
        errors.TrustError("formats.corrupt", "no")
