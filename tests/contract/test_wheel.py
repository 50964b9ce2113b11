"""The wheel: both programs, the command, every file that the package reads, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LARGEST = 12 * 1024 * 1024


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what is already compiled."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [BIN / "maturin", "build", "--release", "--locked", "--offline", "--out", out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [built] = out.glob("dukou-*.whl")
    return built


@pytest.mark.timeout(600)
def test_everything_that_is_needed_is_in_it(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    scripts = {n.rpartition("/")[2] for n in names if ".data/scripts/" in n}
    assert scripts == {"dukou", "dukou-engine", "dukou-load"}
    shipped = {n for n in names if n.startswith("dukou/")}
    sources = {
        str(p.relative_to(ROOT / "python"))
        for p in (ROOT / "python" / "dukou").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert shipped == sources
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert wheel.stat().st_size < LARGEST


@pytest.mark.timeout(120)
def test_it_serves_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    """Installed by pip beside the requirements, away from the checkout."""
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", home / "bin" / "python"),
            *("install", "--quiet", "--no-deps", "--no-index", wheel),
        ],
        check=True,
        env={k: v for k, v in os.environ.items() if k != "PIP_FIND_LINKS"},
    )
    # The requirements are those of this environment; only dukou itself is the installed one.
    purelib = next((home / "lib").glob("python3*")) / "site-packages"
    ours = next((BIN.parent / "lib").glob("python3*")) / "site-packages"
    for package in ours.iterdir():
        if not package.name.startswith(("dukou", "pip", "_", "__")):
            (purelib / package.name).symlink_to(package)
    environment = {"PATH": f"{home / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    code = (
        "import dukou, pathlib, sys\n"
        f"assert pathlib.Path(dukou.__file__).is_relative_to({str(home)!r})\n"
        f"with dukou.serve({str(ROOT / 'conformance' / 'models' / 'digits_mlp.onnx')!r}) as server:\n"
        "    print(server.predict([[0.5] * 64])['probabilities'][0][0] < 1)\n"
    )
    done = subprocess.run(
        [home / "bin" / "python", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr
