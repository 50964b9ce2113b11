"""PyTorch's files and code: what they take is found, every kind converts, what cannot says why."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.frameworks import require
from tests.unit.formats.network_convert.conversion import convert

from dukou.base.errors import InputError
from dukou.model.signature import TensorSpec

pytestmark = pytest.mark.timeout(300)
NETWORK = """\
import torch


class Digits(torch.nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4 * 36, classes)

    def forward(self, pixels):
        found = self.norm(self.convolution(pixels.reshape(-1, 1, 8, 8))).relu()
        return self.head(found.flatten(1))


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = torch.nn.Linear(3, 4), torch.nn.Embedding(9, 4)

    def forward(self, amounts, place):
        both = self.left(amounts) + self.right(place)
        return {"best": both.argmax(-1), "scores": both.softmax(-1)}


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = torch.nn.GRU(4, 6, batch_first=True), torch.nn.Linear(6, 2)

    def forward(self, steps):
        return self.head(self.gru(steps)[0].mean(1))


class Rank(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x.reshape(-1, 2, 2))


def digits():
    return Digits()


def digits_with_rows():
    return Digits(), torch.zeros(1, 64)


def two():
    return Two(), {"amounts": torch.zeros(1, 3), "place": torch.zeros(1, dtype=torch.int64)}


def recurrent():
    return Recurrent()


def rank():
    return Rank(), torch.zeros(1, 4)


def broken():
    raise RuntimeError("no weights here")


def number():
    return 7
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One network in every kind of file."""
    require("torch", "onnxscript")
    import torch

    folder = tmp_path_factory.mktemp("made")
    (folder / "net.py").write_text(NETWORK, encoding="utf-8")
    names: dict[str, Any] = {"__name__": "net"}
    exec(compile(NETWORK, "net.py", "exec"), names)  # noqa: S102
    torch.manual_seed(3)
    network = names["Digits"]().eval()
    example = torch.zeros(2, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, example).save(str(folder / "traced.pt"))
        torch.jit.script(torch.nn.Sequential(torch.nn.Linear(5, 2), torch.nn.Tanh())).save(
            str(folder / "scripted.pt")
        )
        batch = torch.export.Dim("rows")
        free = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
        torch.export.save(free, str(folder / "free.pt2"))
        torch.export.save(torch.export.export(network, (example,)), str(folder / "fixed.pt2"))
    torch.save(network.state_dict(), folder / "weights.pt")
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, folder / "checkpoint.pt")
    torch.save(names["Digits"](classes=3).state_dict(), folder / "other.pt")
    return {path.name: path for path in folder.iterdir()}


def test_a_traced_module_says_what_it_was_traced_with(
    made: dict[str, Path], tmp_path: Path
) -> None:
    found = convert(made["traced.pt"], "script", tmp_path / "o")
    assert found.inputs() == {"pixels": ["batch", 64]}
    assert found.told["kind"] == "TorchScript"
    found.check()
    found.check(rows=1)


def test_a_scripted_module_takes_what_the_rows_are(made: dict[str, Path], tmp_path: Path) -> None:
    columns = {f"c{i}": np.linspace(0, i, 30) for i in range(5)}
    found = convert(made["scripted.pt"], "script", tmp_path / "o", samples=columns)
    assert list(found.inputs().values()) == [["batch", 5]]
    assert len(found.used[next(iter(found.inputs()))]) == 30
    found.check()
    with pytest.raises(InputError, match="does not say what its inputs") as caught:
        convert(made["scripted.pt"], "script", tmp_path / "p")
    assert "--input" in caught.value.hint
    wrong = [TensorSpec("x", "FP32", ("batch", 4))]
    with pytest.raises(InputError, match=r"itself refuses rows of `x` \[4\]"):
        convert(made["scripted.pt"], "script", tmp_path / "q", inputs=wrong)


def test_an_exported_program_keeps_its_free_batch(made: dict[str, Path], tmp_path: Path) -> None:
    found = convert(made["free.pt2"], "export", tmp_path / "o")
    assert found.inputs() == {"pixels": ["batch", 64]}
    found.check()
    found.check(rows=1)
    # Stack traces name files of whoever exported.
    assert b"net.py" not in found.proto.SerializeToString()
    assert not any(node.metadata_props for node in found.proto.graph.node)


def test_an_exported_program_with_a_fixed_batch_says_so(
    made: dict[str, Path], tmp_path: Path
) -> None:
    rows = {"pixels": np.random.default_rng(0).random((7, 64), np.float32)}
    found = convert(made["fixed.pt2"], "export", tmp_path / "o", samples=rows)
    assert found.inputs() == {"pixels": [2, 64]}
    assert found.told["rows_a_run"] == 2
    assert len(found.used["pixels"]) == 6, "whole batches"


@pytest.mark.parametrize("file", ["weights.pt", "checkpoint.pt"])
def test_weights_with_the_code_that_builds_the_module(
    made: dict[str, Path], tmp_path: Path, file: str
) -> None:
    factory = f"{made['net.py']}:digits_with_rows"
    found = convert(made[file], "checkpoint", tmp_path / "o", factory=factory)
    assert found.inputs() == {"pixels": ["batch", 64]}
    found.check()
    same = convert(made["traced.pt"], "script", tmp_path / "p")
    np.testing.assert_allclose(
        found.answers["output"], same.answers["output"], rtol=1e-4, atol=1e-5
    )


def test_weights_of_another_network(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"`other\.pt` does not fit what .* size mismatch for head"
    ):
        convert(
            made["other.pt"],
            "checkpoint",
            tmp_path / "o",
            factory=f"{made['net.py']}:digits_with_rows",
        )
    with pytest.raises(InputError, match=r"missing \(`left\.weight`.*too many \("):
        convert(made["other.pt"], "checkpoint", tmp_path / "p", factory=f"{made['net.py']}:two")


def test_several_inputs_and_named_outputs(made: dict[str, Path], tmp_path: Path) -> None:
    found = convert(made["net.py"], "code", tmp_path / "o", factory=f"{made['net.py']}:two")
    assert found.inputs() == {"amounts": ["batch", 3], "place": ["batch"]}
    assert list(found.answers) == ["best", "scores"]
    found.check()


def test_a_named_axis_stays_free(made: dict[str, Path], tmp_path: Path) -> None:
    steps = [TensorSpec("steps", "FP32", ("batch", "time", 4))]
    factory = f"{made['net.py']}:recurrent"
    found = convert(made["net.py"], "code", tmp_path / "o", factory=factory, inputs=steps)
    assert found.inputs() == {"steps": ["batch", "time", 4]}
    found.check()
    short = np.random.default_rng(1).random((2, 5, 4), np.float32)
    assert found.session.run(None, {"steps": short})[0].shape == (2, 2)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("rank", r"operator `aten\._linalg_svd` cannot be written as ONNX"),
        ("broken", r"does not build a model: RuntimeError: no weights here"),
        ("number", r"returned a `int`, a `torch\.nn\.Module` or a Keras model is expected"),
        ("absent", r"has no function `absent`"),
        ("digits", r"does not say what its inputs \(pixels\) look like"),
    ],
)
def test_code_that_gives_no_graph(
    made: dict[str, Path], tmp_path: Path, function: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        convert(made["net.py"], "code", tmp_path / "o", factory=f"{made['net.py']}:{function}")
    assert caught.value.code == "formats.cannot-convert"
