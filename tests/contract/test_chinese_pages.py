"""The Chinese README shows the same commands as the English one, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
_BLOCK = re.compile(r"(?:^<!--[^\n]*-->\n)?^```.*?^```$", flags=re.MULTILINE | re.DOTALL)


def _blocks(page: Path) -> list[str]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def test_both_readmes_show_the_same_blocks_in_the_same_order() -> None:
    english, chinese = _blocks(ENGLISH), _blocks(CHINESE)
    missing = [block for block in english if block not in chinese]
    assert not missing, "README.zh-CN.md lacks:\n" + "\n".join(missing)
    extra = [block for block in chinese if block not in english]
    assert not extra, "README.md lacks:\n" + "\n".join(extra)
    assert chinese == english, "the blocks stand in another order, or one stands twice"


def test_both_readmes_link_to_the_same_pages() -> None:
    """But for each other, and the page of coverage, which is there in both languages."""

    def linked(page: Path) -> set[str]:
        targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        assert all((ROOT / target).exists() for target in targets), targets
        return {t.replace(".zh-CN", "") for t in targets} - {"README.md", "docs/coverage.md"}

    assert linked(ENGLISH) == linked(CHINESE)
    assert "(README.zh-CN.md)" in ENGLISH.read_text(encoding="utf-8")
    assert "(README.md)" in CHINESE.read_text(encoding="utf-8")


def test_a_missing_block_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- run elsewhere: x -->\n```sh\na\n```\ntext\n```python\nb\n```\n")
    assert _blocks(page) == ["<!-- run elsewhere: x -->\n```sh\na\n```", "```python\nb\n```"]


def test_chinese_prose_is_chinese() -> None:
    """Half-width commas between Chinese characters are a slip of the keyboard."""
    text = _BLOCK.sub("", CHINESE.read_text(encoding="utf-8"))
    assert not re.findall(r"[一-鿿][,;:?!][一-鿿]", text)
