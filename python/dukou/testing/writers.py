"""What every target format promises, checked on small graphs of the kinds that people have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError
from dukou.formats.writer import Writer
from dukou.testing.expect import digest_folder, expect
from dukou.testing.passes import make_examples

if TYPE_CHECKING:
    from dukou.model.model import Model


def check_writer(writer: Writer, folder: Path) -> None:
    """Runs the whole suite.

    Args:
        writer: what is checked.
        folder: an empty folder for this suite alone.

    Raises:
        AssertionError: with the sentence of the contract that does not hold.
    """
    for name, check in WRITER_CHECKS.items():
        own = folder / name
        own.mkdir()
        check(writer, own)


def check_name(writer: Writer, folder: Path) -> None:
    """It has a name, and words for people."""
    del folder
    expect(writer.name.isidentifier(), f"`{writer.name}` is not a name for a table")
    expect(len(writer.kind) > 3, "`kind` does not say what is written")
    expect(not writer.needs or bool(writer.extra), "names no extra that brings what it needs")


def check_writes(writer: Writer, folder: Path) -> None:
    """Writes into its folder alone, leaves the model as it is, and proves what it wrote."""
    for kind, model in make_examples(folder):
        before = digest_folder(model.graph.parent)
        into = folder / f"into-{kind}"
        into.mkdir()
        written = writer.write_model(model, into, "example")
        expect(digest_folder(model.graph.parent) == before, "changed the model, or wrote beside it")
        expect(written.file.parent == into and written.file.is_file(), "left no file in its folder")
        expect(written.file.stem == "example", "does not name its file as it was told")
        expect(written.parity.rows > 0, "compared no rows")
        expect(bool(written.tool), "does not say what wrote it")


def check_repeats(writer: Writer, folder: Path) -> None:
    """The same model gives the same files."""
    _, model = make_examples(folder)[0]
    digests = []
    for number in (1, 2):
        into = folder / f"into-{number}"
        into.mkdir()
        writer.write_model(model, into, "example")
        digests.append(digest_folder(into))
    expect(digests[0] == digests[1], "gives other files the second time")


def check_refuses(writer: Writer, folder: Path) -> None:
    """What the target lacks is refused in one sentence, or written and proved: nothing between."""
    into = folder / "into"
    into.mkdir()
    model = _unusual(folder)
    try:
        written = writer.write_model(model, into, "example")
    except InputError as error:
        expect(
            error.code in ("formats.cannot-convert", "formats.parity"),
            f"refuses with `{error.code}`, a `formats.*` code is expected",
        )
        expect("Traceback" not in error.message, "shows a traceback to the user")
        expect("\n" not in error.message, "refuses in several lines")
    else:
        expect(written.parity.rows > 0, "compared no rows")


def _unusual(folder: Path) -> Model:
    """Words are told apart and hashed: operators that few runtimes have."""
    import onnx
    from onnx import TensorProto, helper

    from dukou.formats.open import open_model

    graph = helper.make_graph(
        [
            helper.make_node(
                "StringNormalizer",
                ["text"],
                ["lower"],
                case_change_action="LOWER",
                locale="C.UTF-8",
            ),
            helper.make_node(
                "LabelEncoder",
                ["lower"],
                ["kind"],
                domain="ai.onnx.ml",
                keys_strings=["ferry", "boat"],
                values_int64s=[1, 2],
                default_int64=0,
            ),
        ],
        "words",
        [helper.make_tensor_value_info("text", TensorProto.STRING, ["batch"])],
        [helper.make_tensor_value_info("kind", TensorProto.INT64, ["batch"])],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    path = folder / "words.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), str(path))
    return open_model(path, into=folder / "words")


WRITER_CHECKS: dict[str, Callable[[Writer, Path], None]] = {
    "name": check_name,
    "writes": check_writes,
    "repeats": check_repeats,
    "refuses": check_refuses,
}
