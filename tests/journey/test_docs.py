"""Docs are executed: what README and docs show is what happens."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.frameworks import require
from tests.journey.docs_runner import ROOT, PageRun, read_blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNABLE = [page for page in PAGES if read_blocks(page)]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, stages: Path) -> None:
    run = PageRun(tmp_path, stages)
    wanted = {block.needs for block in read_blocks(page) if block.needs}
    absent = {name for name in wanted if importlib.util.find_spec(name) is None}
    try:
        for block in read_blocks(page):
            if block.needs in absent:
                continue
            if block.elsewhere:
                assert (ROOT / block.elsewhere).is_file(), block.elsewhere
            else:
                run.run(block)
    finally:
        run.close()
    # The rest of the page holds; what was left out is said in the summary.
    require(*sorted(absent))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block without a language would be neither run nor seen to be left out."""
    fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    opening = fences[::2]
    known = {"sh", "python", "toml", "json", "text", "html"}
    assert set(opening) <= known
    assert len(fences) % 2 == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if not (page.parent / t).exists()]
    assert not missing
