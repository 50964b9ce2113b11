"""The page of what is in images."""

from __future__ import annotations

import json
from pathlib import Path

from bench.images import Contents, write_page


def test_the_page_says_what_was_counted_and_what_was_not(tmp_path: Path) -> None:
    ours = Contents("dukou", 5.0, 42.0, 20, 0, False, "65532", "the image's own files")
    peer = Contents("BentoML", 100.0, 370.0, 9000, 80, True, "bentoml", "`pip install --target`")
    text = write_page([ours, peer], (100.0, 60), tmp_path)
    assert "| dukou | 47 | 5 | 42 | 20 | 0 | no | 65532 |" in text
    assert "hold 10.0 times (BentoML) what ours does" in text
    assert "were not built and not started" in text
    assert (tmp_path / "images.md").read_text(encoding="utf-8") == text
    said = json.loads((tmp_path / "images.json").read_text(encoding="utf-8"))
    assert said["images"][1]["packages"] == 80 and said["base"] == {"mb": 100.0, "packages": 60}
