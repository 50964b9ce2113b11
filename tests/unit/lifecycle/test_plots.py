"""Plots: the words of a person's data stay words, whatever they are, and need no font here."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from dukou.lifecycle.report import plots

CHINESE = ["山鸢尾", "变色鸢尾", "维吉尼亚鸢尾"]
SVG = "{http://www.w3.org/2000/svg}"


def words_of(svg: str) -> list[str]:
    """What a browser draws with the fonts of the reader's machine."""
    return ["".join(text.itertext()).strip() for text in ET.fromstring(svg).iter(f"{SVG}text")]


def test_chinese_labels_are_text_and_not_boxes() -> None:
    """Warnings are errors here: one about a missing glyph would be on the user's terminal."""
    confusion = words_of(plots.draw_confusion(CHINESE, [[3, 0, 0], [0, 3, 1], [0, 0, 4]]))
    assert [confusion.count(label) for label in CHINESE] == [2, 2, 2]
    assert {"predicted", "true", "3", "1", "4"} <= set(confusion)
    assert set(CHINESE) <= set(words_of(plots.draw_balance(dict.fromkeys(CHINESE, 5))))


@pytest.mark.parametrize("label", ["$x$", r"$\frac$", "<b>&\"'", "a_b^c", "\\", "%", "…"])
def test_a_label_is_shown_as_it_is(label: str) -> None:
    """No formula, no tag: a column may hold anything."""
    svg = plots.draw_balance({label: 1, "other": 2})
    assert label in words_of(svg)
    assert "<b>" not in svg
    assert label in words_of(plots.draw_confusion([label, 7], [[1, 0], [1, 1]]))


def test_long_labels_stand_upright_beside_each_other_and_end_somewhere() -> None:
    names = [f"第{number}类很长的名字" for number in range(10)]
    svg = plots.draw_balance(dict.fromkeys(names, 1))
    turned = re.findall(r"<text[^>]*rotate\(-90[^>]*>([^<]*)", svg)
    assert set(names) <= {text.strip() for text in turned}
    short = plots.draw_balance({"a": 1, "b": 1})
    assert "rotate(-90" not in "".join(re.findall(r"<text[^>]*>[ab]</text>", short))
    [word] = [w for w in words_of(plots.draw_balance({"x" * 500: 1})) if w.startswith("x")]
    assert len(word) < 50 and word.endswith("…")
