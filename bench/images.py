"""What is in an image that serves the digits: ours, and what BentoML and MLServer recommend.

    python -m bench.images

Counts installed files, without building the peers' images: no base image can be fetched where this was
made. Ours is written and counted; of the peers what their documentation has installed (`pip install
--target`, everything that it brings along), on Debian's minimal system with Debian's python3, whose
sizes are those that Debian's package index states. That stands for their documented bases
(`python:…-slim` for `bentoml containerize`, `seldonio/mlserver:…-slim` for `mlserver build`), which may
be smaller or larger.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.digits import load_digits
from bench.machine import describe_machine, describe_run
from bench.workplace import RESULTS, ROOT, BenchError

# What each peer's documentation has installed to serve this model.
PEERS = {
    "BentoML": ("bentoml", "onnxruntime", "numpy"),
    # MLServer has no runtime of its own for ONNX: its scikit-learn one serves the same classifier.
    "MLServer": ("mlserver", "mlserver-sklearn"),
}
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image holds.

    Attributes:
        name: whose.
        base_mb: of the system below it: C library, shell, Python.
        installed_mb: of what is installed to serve.
        files: that were installed.
        packages: Python packages among them.
        shell: whether there is one.
        user: that it runs as by itself.
        how: what was counted.
    """

    name: str
    base_mb: float
    installed_mb: float
    files: int
    packages: int
    shell: bool
    user: str
    how: str

    @property
    def total_mb(self) -> float:
        """All of it."""
        return self.base_mb + self.installed_mb


def count_ours(folder: Path) -> Contents:
    """Ours, as `dukou image build` writes it."""
    graph = load_digits().files["1"]
    command = [sys.executable, "-m", "dukou", "image", "build", graph, "--name", "digits"]
    done = subprocess.run(
        [*command, "--output", folder / "digits", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"`dukou image build` failed: {done.stderr.strip()}")
    said = json.loads(done.stdout)
    sizes = said["bytes"]
    return Contents(
        name="dukou",
        base_mb=sizes["libraries"] / _MB,
        installed_mb=(said["unpacked_bytes"] - sizes["libraries"]) / _MB,
        files=_files_of_image(folder / "digits"),
        packages=0,
        shell=False,
        user="65532",
        how="the image's own files; its base is the C library's",
    )


def _files_of_image(layout: Path) -> int:
    import tarfile

    count = 0
    index = json.loads((layout / "index.json").read_bytes())
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
    for layer in manifest["layers"]:
        with tarfile.open(blobs / layer["digest"][7:]) as archive:
            count += sum(member.isfile() for member in archive)
    return count


def count_peer(name: str, folder: Path, base_mb: float) -> Contents:
    """What a peer has installed."""
    target = folder / name
    packages = PEERS[name]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", target, *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"`pip install {' '.join(packages)}` failed: {done.stderr.strip()[-300:]}")
    paths = [path for path in target.rglob("*") if path.is_file() and not path.is_symlink()]
    versions = {
        found[1].lower().replace("_", "-"): found[2]
        for path in target.glob("*.dist-info")
        if (found := re.match(r"(.+)-([^-]+)\.dist-info$", path.name))
    }
    named = ", ".join(f"{each} {versions.get(each, '')}".strip() for each in packages)
    return Contents(
        name=name,
        base_mb=base_mb,
        installed_mb=sum(path.stat().st_size for path in paths) / _MB,
        files=len(paths),
        packages=len(versions),
        shell=True,
        # Both documented bases end with a user of their own.
        user={"BentoML": "bentoml", "MLServer": "1000"}[name],
        how=f"`pip install --target`: {named}",
    )


def debian_base_mb() -> tuple[float, int]:
    """Megabytes and packages of Debian's minimal system with python3, by its package index.

    Raises:
        BenchError: this machine has no `apt-cache`.
    """
    try:
        essential = _said("dpkg-query", "--show", "--showformat=${Package} ${Essential}\n")
        closure = _said(
            "apt-cache",
            "depends",
            "--recurse",
            *(
                f"--no-{kind}"
                for kind in (
                    "recommends",
                    "suggests",
                    "conflicts",
                    "breaks",
                    "replaces",
                    "enhances",
                )
            ),
            *(line.split()[0] for line in essential.splitlines() if line.endswith(" yes")),
            "python3",
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"Debian's package index cannot be asked here: {error}") from error
    names = sorted({line for line in closure.splitlines() if re.match(r"[a-z0-9]", line)})
    # Of what stands for one another only what is installed here would be installed there.
    installed = _said("dpkg-query", "--show", "--showformat=${Package} ${Installed-Size}\n")
    sizes = dict(line.split() for line in installed.splitlines() if len(line.split()) == 2)
    counted = [int(sizes[name]) for name in names if name in sizes]
    return sum(counted) * 1024 / _MB, len(counted)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def write_page(found: list[Contents], base: tuple[float, int], into: Path) -> str:
    """The page, as text; written with its figures beside it."""
    machine, run = describe_machine(), describe_run()
    lines = [
        "# images: what is in an image that serves the digits",
        "",
        f"Made {run['at']} at commit {run['commit']} by `python -m bench.images` on "
        f"{machine['processor']}, Python {run['python']}.",
        "",
        "| image | all (MB) | base (MB) | installed (MB) | files installed | Python packages | shell | user |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {each.name} | {each.total_mb:.0f} | {each.base_mb:.0f} | {each.installed_mb:.0f} "
        f"| {each.files:,} | {each.packages} | {'yes' if each.shell else 'no'} | {each.user} |"
        for each in found
    ]
    ours, peers = found[0], found[1:]
    times = " and ".join(
        f"{peer.total_mb / ours.total_mb:.1f} times ({peer.name})" for peer in peers
    )
    alone = " and ".join(f"{peer.installed_mb / ours.total_mb:.1f}" for peer in peers)
    lines += [
        "",
        f"The peers' images hold {times} what ours does; without any base, {alone} times all of ours.",
        "",
        "## What was counted, and what was not",
        "",
        *(f"- {each.name}: {each.how}." for each in found),
        f"- The peers' base: Debian's essential packages and python3 with what they need, {base[1]} packages, "
        f"{base[0]:.0f} MB by the sizes that Debian states. It stands for their documented bases "
        "(`python:…-slim`, `seldonio/mlserver:…-slim`), which could not be fetched here and may be smaller or "
        "larger; what is installed on top was counted.",
        "- Counted are the bytes of files, unpacked. The peers' images were not built and not started; no cache of "
        "pip is counted, and no compiled `.pyc` beyond what pip itself writes.",
        "- BentoML serves the ONNX model with onnxruntime, as ours; MLServer has no runtime for ONNX, and serves the "
        "same classifier with scikit-learn.",
    ]
    text = "\n".join(lines) + "\n"
    into.mkdir(parents=True, exist_ok=True)
    (into / "images.md").write_text(text, encoding="utf-8")
    document = {
        "machine": machine,
        "run": run,
        "base": {"mb": base[0], "packages": base[1]},
        "images": [
            {name: getattr(each, name) for name in Contents.__dataclass_fields__} for each in found
        ],
    }
    (into / "images.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return text


def main(words: list[str] | None = None) -> int:
    """Counts, prints the page, writes `bench/results/images.md`."""
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the page")
    given = parser.parse_args(words)
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    try:
        base = debian_base_mb()
        with tempfile.TemporaryDirectory(prefix="images-", dir=build) as scratch:
            folder = Path(scratch)
            found = [count_ours(folder), *(count_peer(name, folder, base[0]) for name in PEERS)]
        print(write_page(found, base, given.results))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
