"""The text format, as people and tools write it; what is broken is said with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dukou.base.errors import InputError
from dukou.deploy.dropin.text_format import Word, parse_text


def test_every_way_of_writing_a_field() -> None:
    found = parse_text(
        """
        # a comment
        name: "m" 'ore'   # texts side by side are one
        max_batch_size: 8; input [ { name: "x", dims: [ -1, 3 ] }, { name: "y" dims: 1 dims: 2 } ]
        version_policy: { latest { num_versions: 2 } }
        parameters < key: "a\\"b\\n" value: { string_value: "\\x41\\101" } >
        kind: KIND_CPU  optional: true  share: 1.5e-1f  mask: 0x1F  octal: 017
        """,
        "config.pbtxt",
    )
    assert found["name"] == ["more"]
    assert found["max_batch_size"] == [8]
    assert [each["name"] for each in found["input"]] == [["x"], ["y"]]
    assert [each["dims"] for each in found["input"]] == [[-1, 3], [1, 2]]
    assert found["version_policy"] == [{"latest": [{"num_versions": [2]}]}]
    assert found["parameters"] == [{"key": ['a"b\n'], "value": [{"string_value": ["AA"]}]}]
    assert found["kind"] == [Word("KIND_CPU")]
    assert isinstance(found["kind"][0], Word)
    assert found["optional"] == [True]
    assert found["share"] == [0.15]
    assert (found["mask"], found["octal"]) == ([31], [15])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb {", "`f`, line 2: the file ends where `}` is expected"),
        ("a 1", "`f`, line 1: `:` is expected, and `1` is"),
        ("a: \n\n}", "`f`, line 3: a value is expected, and `}` is"),
        ("a: [1 2]", "`f`, line 1: `,` or `]` is expected, and `2` is"),
        ("a: @", "`f`, line 1: `@` is not expected"),
        ("5: 1", "`f`, line 1: a field's name is expected, and `5` is"),
        ('a: "open', '`f`, line 1: `"` is not expected'),
        ("a:", "`f`, line 1: a value is expected, and `the end` is"),
        ("a {" * 40, "`f`, line 1: nested more than 32 levels deep"),
    ],
)
def test_what_is_broken_is_said_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        parse_text(text, "f")
    assert (error.value.code, error.value.message) == ("folder.invalid-config", sentence)


@given(st.text(alphabet="ab:{}[]<>,;-\"'\\#\n 019.xe", max_size=60))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        parse_text(text, "f")
    except InputError as error:
        assert error.code == "folder.invalid-config"
