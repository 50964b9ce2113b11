"""The house: folders in the order of a model's life, light imports, generated files up to date."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import dukou

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(dukou.__file__).parent
HEAVY = (
    "numpy",
    "pydantic",
    "onnx",
    "onnxruntime",
    "sqlalchemy",
    "sklearn",
    "scipy",
    "cryptography",
)


def _rooms_in_docstring() -> list[str]:
    return re.findall(r"^    (\w+) {2,}\w", dukou.__doc__ or "", flags=re.MULTILINE)


def test_the_docstring_lists_the_folders() -> None:
    on_disk = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    on_disk -= {"testing"}  # not a stop on the line: what third parties test with
    assert sorted(_rooms_in_docstring()) == sorted(on_disk)


def test_the_order_is_the_one_of_the_import_arrows() -> None:
    text = (ROOT / ".importlinter").read_text(encoding="utf-8")
    layers = re.search(r"^layers =\n((?:    .+\n)+)", text, flags=re.MULTILINE)
    assert layers
    below_first = [line.split(".")[-1] for line in layers[1].split()][::-1]
    order = _rooms_in_docstring()
    assert below_first == order


@pytest.mark.parametrize(
    "code",
    [
        "import dukou",
        "import dukou.cli.main",
        "import dukou.serve.supervisor",
        "import dukou.fleet.supervisor, dukou.fleet.local",
    ],
)
def test_light_imports_stay_light(code: str) -> None:
    probe = f"import sys; {code}; print(*sorted(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


def test_public_names_resolve() -> None:
    for name in dukou.__all__:
        assert getattr(dukou, name) is not None


def test_generated_files_are_up_to_date() -> None:
    pages = runpy.run_path(str(ROOT / "scripts" / "generate.py"))["pages"]()
    stale = [
        str(path.relative_to(ROOT))
        for path, text in pages.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run `make generate`"


def test_no_file_grew_past_its_room() -> None:
    """A file of more than 800 lines has a second noun inside."""
    patterns = ("python/**/*.py", "crates/**/*.rs", "bench/**/*.py")
    sources = [p for pattern in patterns for p in ROOT.glob(pattern)]
    assert sources
    large = {str(p.relative_to(ROOT)) for p in sources if len(p.read_text().splitlines()) > 800}
    assert not large
