"""What every source format promises, checked on the example that it writes itself."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError
from dukou.formats.reader import HEAD_BYTES, Reader
from dukou.formats.table import list_readers, load_reader
from dukou.testing.expect import digest_folder, expect, expect_golden, expect_signature

if TYPE_CHECKING:
    from dukou.model.model import Model

# What is no model of any kind.
_OTHERS = {
    "empty": b"",
    "text": b"the ferry leaves at nine\n" * 40,
    "csv": b"a,b,c\n1,2,3\n4,5,6\n" * 20,
    "json": b'{"model": [1, 2, 3], "layers": {"a": null}}',
    "zeros": bytes(4096),
    "zip": b"PK\x05\x06" + bytes(18),
    "image": b"\x89PNG\r\n\x1a\n" + bytes(200),
}
_CUTS = (0.1, 0.5, 0.9)
_FLIPS = 3


def check_reader(reader: Reader, folder: Path) -> None:
    """Runs the whole suite.

    Args:
        reader: what is checked.
        folder: an empty folder for this suite alone.

    Raises:
        AssertionError: with the sentence of the contract that does not hold.
    """
    for name, check in READER_CHECKS.items():
        own = folder / name
        own.mkdir()
        check(reader, own)


def missing_modules(reader: Reader) -> tuple[str, ...]:
    """What the reader's format needs that is not installed here: without it there is no example."""
    needs: tuple[str, ...] = getattr(reader, "needs", ())
    return tuple(name for name in needs if importlib.util.find_spec(name) is None)


def check_name(reader: Reader, folder: Path) -> None:
    """It has a name, and words for people."""
    del folder
    expect(reader.name.isidentifier(), f"`{reader.name}` is not a name for a table")
    expect(len(reader.kind) > 3, "`kind` does not say what is read")


def check_reads_by_content(reader: Reader, folder: Path) -> None:
    """Says yes to its example under any name, and no to everything else."""
    example = reader.write_example(folder / "own")
    expect(_reads(reader, example), "does not read its own example")
    renamed = example.with_name("renamed.csv")
    example.rename(renamed)
    expect(_reads(reader, renamed), "goes by the file's name, not by its content")
    for name, content in _OTHERS.items():
        file = folder / f"{name}{example.suffix}"
        file.write_bytes(content)
        expect(not _reads(reader, file), f"says that it reads a file of {name}")
    noise = folder / "noise"
    noise.write_bytes(random.Random(3).randbytes(8192))
    expect(not _reads(reader, noise), "says that it reads noise")
    for other in map(load_reader, list_readers()):
        if other.name != reader.name and not missing_modules(other):
            stranger = other.write_example(folder / f"of-{other.name}")
            expect(not _reads(reader, stranger), f"says that it reads `{other.name}`'s example")


def check_loads(reader: Reader, folder: Path) -> None:
    """Gives a whole model: a graph in its place, the true signature, lineage and golden samples."""
    example = reader.write_example(folder / "own")
    before = digest_folder(folder / "own")
    model = _load(reader, example, folder / "into")
    expect(digest_folder(folder / "own") == before, "changed the source, or wrote beside it")
    inside = model.graph.resolve().is_relative_to((folder / "into").resolve())
    expect(inside and model.graph.is_file(), "did not leave the graph in `into`")
    expect(model.variant == "original", f"names the variant `{model.variant}`")
    expect(bool(model.lineage.framework), "the lineage does not say the framework")
    digest = model.lineage.source_digest
    expect(digest.startswith("sha256:") and len(digest) == 71, "the lineage has no digest")
    expect_signature(model)
    expect_golden(model)


def check_repeats(reader: Reader, folder: Path) -> None:
    """The same source gives the same graph and the same golden samples."""
    example = reader.write_example(folder / "own")
    one = _load(reader, example, folder / "one")
    two = _load(reader, example, folder / "two")
    expect(one.graph.read_bytes() == two.graph.read_bytes(), "gives another graph the second time")
    expect(
        one.golden is not None
        and two.golden is not None
        and one.golden.to_json(one.signature) == two.golden.to_json(two.signature),
        "gives other golden samples the second time",
    )


def check_damaged(reader: Reader, folder: Path) -> None:
    """A file cut off or flipped is refused with a `formats.*` code, or read whole: never worse."""
    example = reader.write_example(folder / "own")
    content = example.read_bytes()
    for cut in _CUTS:
        example.write_bytes(content[: int(len(content) * cut)])
        if _reads(reader, example):
            refused = _is_refused(reader, example, folder / f"cut{cut}")
            expect(refused, f"accepts its example cut off at {cut:.0%}")
    chosen = random.Random(5)
    for flip in range(_FLIPS):
        damaged = bytearray(content)
        damaged[chosen.randrange(len(damaged))] ^= 1 << chosen.randrange(8)
        example.write_bytes(damaged)
        if _reads(reader, example):
            _is_refused(reader, example, folder / f"flip{flip}")


READER_CHECKS: dict[str, Callable[[Reader, Path], None]] = {
    "name": check_name,
    "reads-by-content": check_reads_by_content,
    "loads": check_loads,
    "repeats": check_repeats,
    "damaged": check_damaged,
}


def _reads(reader: Reader, path: Path) -> bool:
    with path.open("rb") as file:
        return reader.reads(file.read(HEAD_BYTES), path)


def _load(reader: Reader, path: Path, into: Path) -> Model:
    into.mkdir()
    return reader.load_model(path, into=into, samples=None, trust=True)


def _is_refused(reader: Reader, path: Path, into: Path) -> bool:
    try:
        _load(reader, path, into)
    except InputError as error:
        expect(
            error.code.startswith("formats."),
            f"refuses a damaged file with `{error.code}`, a `formats.*` code is expected",
        )
        expect("Traceback" not in error.message, "shows a traceback to the user")
        return True
    return False
