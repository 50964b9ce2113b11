"""The suites themselves: each catches what it is there to catch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest

from dukou.base.errors import InputError
from dukou.formats.onnx import OnnxReader
from dukou.model.model import Model
from dukou.optimize.passes.int8 import Int8Pass
from dukou.testing import PASS_CHECKS, READER_CHECKS, check_pass, check_reader

if TYPE_CHECKING:
    from dukou.formats.reader import Samples


class _EatsAll(OnnxReader):
    def reads(self, head: bytes, path: Path) -> bool:
        return True


class _ByName(OnnxReader):
    def reads(self, head: bytes, path: Path) -> bool:
        return path.suffix == ".onnx"


class _Changed(OnnxReader):
    """A reader whose model is changed at the end."""

    def change(self, model: Model, path: Path) -> Model:
        return model

    def load_model(self, path: Path, *, into: Path, samples: Samples | None, trust: bool) -> Model:
        model = super().load_model(path, into=into, samples=samples, trust=trust)
        return self.change(model, path)


class _NoGolden(_Changed):
    def change(self, model: Model, path: Path) -> Model:
        return model.replace(golden=None)


class _WrongGolden(_Changed):
    def change(self, model: Model, path: Path) -> Model:
        assert model.golden is not None
        samples = tuple(
            (inputs, {name: array + 1 for name, array in outputs.items()})
            for inputs, outputs in model.golden.samples
        )
        return model.replace(golden=dataclasses.replace(model.golden, samples=samples))


class _TouchesSource(_Changed):
    def change(self, model: Model, path: Path) -> Model:
        (path.parent / "cache").write_text("mine", encoding="utf-8")
        return model


class _NotThere(_Changed):
    def change(self, model: Model, path: Path) -> Model:
        return model.replace(graph=path)


class _Swallows(OnnxReader):
    """Takes anything: a damaged file becomes its example."""

    def load_model(self, path: Path, *, into: Path, samples: Samples | None, trust: bool) -> Model:
        try:
            return super().load_model(path, into=into, samples=samples, trust=trust)
        except InputError:
            whole = self.write_example(into / "other")
            return super().load_model(whole, into=into, samples=samples, trust=trust)


@pytest.mark.parametrize(
    ("reader", "check", "words"),
    [
        (_EatsAll, "reads-by-content", "says that it reads"),
        (_ByName, "reads-by-content", "file's name"),
        (_NoGolden, "loads", "no golden samples"),
        (_WrongGolden, "loads", "not what the graph gives"),
        (_TouchesSource, "loads", "beside it"),
        (_NotThere, "loads", "in `into`"),
        (_Swallows, "damaged", "accepts its example cut off"),
    ],
)
def test_a_reader_that_breaks_the_contract(
    reader: type[OnnxReader], check: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=words):
        READER_CHECKS[check](reader(), tmp_path)
    with pytest.raises(AssertionError):
        (tmp_path / "whole").mkdir()
        check_reader(reader(), tmp_path / "whole")


class _Pass(Int8Pass):
    """The int8 pass with its form changed at the end."""

    def __init__(self, change: Callable[[Model, Model], Model | None]) -> None:
        self._change = change

    def apply(self, model: Model, into: Path, calibration: Any) -> Model | None:
        form = super().apply(model, into, calibration)
        return self._change(model, form) if form is not None else None


def _overwrite(model: Model, form: Model) -> Model:
    proto = onnx.load(str(model.graph))
    proto.doc_string = "touched"
    onnx.save(proto, str(model.graph))
    return form


def _turn_weights(model: Model, form: Model) -> Model:
    proto = onnx.load(str(model.graph))
    for tensor in proto.graph.initializer:
        if len(tensor.dims) == 2:
            array = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(-array, tensor.name))
    onnx.save(proto, str(form.graph))
    return form


_COUNT = iter(range(10_000))


def _stamp(model: Model, form: Model) -> Model:
    proto = onnx.load(str(form.graph))
    proto.doc_string = f"made as number {next(_COUNT)}"
    onnx.save(proto, str(form.graph))
    return form


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (lambda model, form: None, "applies-to-something", "makes nothing"),
        (_overwrite, "keeps-the-original", "changed the original"),
        (lambda model, form: form.replace(golden=model.golden), "forms", "not what the graph"),
        (lambda model, form: form.replace(variant="best"), "forms", "named the variant `best`"),
        (lambda model, form: form.replace(lineage=model.lineage), "forms", "lineage"),
        (lambda model, form: form.replace(graph=model.graph), "forms", "in `into`"),
        (_turn_weights, "answers", "agrees on only"),
        (_stamp, "repeats", "another form"),
    ],
)
def test_a_pass_that_breaks_the_contract(
    change: Callable[[Model, Model], Model | None], check: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=words):
        PASS_CHECKS[check](_Pass(change), tmp_path)
    with pytest.raises(AssertionError):
        (tmp_path / "whole").mkdir()
        check_pass(_Pass(change), tmp_path / "whole")
