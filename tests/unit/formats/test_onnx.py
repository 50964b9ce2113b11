from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.graphs import dense, make_model, relocate, save_external

from dukou.base.errors import DukouError, InputError
from dukou.formats import open_model
from dukou.model.golden import GoldenSamples
from dukou.model.signature import TensorSpec


def _save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def _refusal(path: Path, into: Path, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        open_model(path, into=into, **options)
    return caught.value


def test_signature_lineage_and_golden(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)
    source = _save(dense(), tmp_path / "m.onnx")
    model = open_model(source, into=tmp_path / "o", samples=rows)
    assert model.signature.inputs == (TensorSpec("x", "FP32", ("batch", 8)),)
    assert model.signature.outputs == (TensorSpec("y", "FP32", ("batch", 3)),)
    assert model.lineage.source == str(source)
    assert model.graph.read_bytes() == source.read_bytes()
    assert model.golden is not None
    session = onnxruntime.InferenceSession(str(source))
    seen = {row.tobytes() for row in rows}
    for inputs, outputs in model.golden.samples:
        np.testing.assert_allclose(session.run(None, dict(inputs))[0], outputs["y"], rtol=1e-6)
        assert all(row.tobytes() in seen for row in inputs["x"])
    assert [len(inputs["x"]) for inputs, _ in model.golden.samples] == [1] * 8 + [4]


def test_made_up_samples_are_the_same_every_time(tmp_path: Path) -> None:
    source = _save(dense(), tmp_path / "m.onnx")
    found = []
    for name in ("a", "b"):
        model = open_model(source, into=tmp_path / name)
        assert model.golden is not None
        found.append(model.golden.to_json(model.signature))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("onnx_type", "dtype"),
    [
        (TensorProto.BOOL, "BOOL"),
        (TensorProto.UINT8, "UINT8"),
        (TensorProto.INT8, "INT8"),
        (TensorProto.INT16, "INT16"),
        (TensorProto.INT32, "INT32"),
        (TensorProto.INT64, "INT64"),
        (TensorProto.UINT64, "UINT64"),
        (TensorProto.FLOAT16, "FP16"),
        (TensorProto.BFLOAT16, "BF16"),
        (TensorProto.FLOAT, "FP32"),
        (TensorProto.DOUBLE, "FP64"),
        (TensorProto.STRING, "BYTES"),
    ],
)
def test_every_dtype_is_read_and_recorded(tmp_path: Path, onnx_type: int, dtype: str) -> None:
    graph = make_model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", onnx_type, ["n", 2])],
        [("y", onnx_type, ["n", 2])],
    )
    model = open_model(_save(graph, tmp_path / "m.onnx"), into=tmp_path / "o")
    assert model.signature.inputs[0].dtype == dtype
    assert model.golden is not None
    again = GoldenSamples.from_json(model.golden.to_json(model.signature))
    for inputs, outputs in again.samples:
        assert inputs["x"].dtype == outputs["y"].dtype == model.signature.inputs[0].to_numpy()
        assert (inputs["x"] == outputs["y"]).all()


def test_symbols_fixed_and_any_extents(tmp_path: Path) -> None:
    graph = make_model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["rows", 3, None])],
        [("y", TensorProto.FLOAT, ["rows", 3, None])],
    )
    model = open_model(_save(graph, tmp_path / "m.onnx"), into=tmp_path / "o")
    assert model.signature.inputs[0].shape == ("rows", 3, None)


def test_fixed_rows_make_requests_of_that_many(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((12, 8)).astype(np.float32)
    model = open_model(_save(dense(4), tmp_path / "m.onnx"), into=tmp_path / "o", samples=rows)
    assert model.golden is not None
    assert {len(inputs["x"]) for inputs, _ in model.golden.samples} == {4}


def test_random_answers_have_no_golden_samples(tmp_path: Path) -> None:
    graph = make_model(
        [
            helper.make_node("RandomNormalLike", ["x"], ["noise"]),
            helper.make_node("Add", ["x", "noise"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["n", 4])],
        [("y", TensorProto.FLOAT, ["n", 4])],
    )
    model = open_model(_save(graph, tmp_path / "m.onnx"), into=tmp_path / "o")
    assert model.golden is None
    assert "two ways" in model.lineage.facts["golden"]


def test_zipmap_becomes_the_tensor_under_it(tmp_path: Path) -> None:
    graph = make_model(
        [
            helper.make_node("Softmax", ["x"], ["p"], axis=-1),
            helper.make_node(
                "ZipMap",
                ["p"],
                ["probabilities"],
                domain="ai.onnx.ml",
                classlabels_int64s=[0, 1, 2],
            ),
        ],
        [("x", TensorProto.FLOAT, ["n", 3])],
        [],
        domains=["ai.onnx.ml"],
    )
    output = graph.graph.output.add()
    output.name = "probabilities"
    maps = output.type.sequence_type.elem_type.map_type
    maps.key_type = TensorProto.INT64
    maps.value_type.tensor_type.elem_type = TensorProto.FLOAT
    model = open_model(_save(graph, tmp_path / "m.onnx"), into=tmp_path / "o")
    assert model.signature.outputs == (TensorSpec("probabilities", "FP32", ("batch", 3)),)
    assert any("ZipMap" in step for step in model.lineage.steps)
    assert model.golden is not None
    assert model.golden.classes == "probabilities"


def test_golden_samples_stay_off_the_fence(tmp_path: Path) -> None:
    """Rows whose two best classes are all but equal would raise alarms on other CPUs."""
    graph = make_model(
        [helper.make_node("Softmax", ["x"], ["probabilities"], axis=-1)],
        [("x", TensorProto.FLOAT, ["n", 2])],
        [("probabilities", TensorProto.FLOAT, ["n", 2])],
    )
    rows = np.array([[0, 1e-4], [3, 0], [0, 3], [1e-5, 0]] * 8, dtype=np.float32)
    model = open_model(_save(graph, tmp_path / "m.onnx"), into=tmp_path / "o", samples=rows)
    assert model.golden is not None
    tops = [np.sort(o["probabilities"], axis=1)[:, -1] for _, o in model.golden.samples]
    assert np.concatenate(tops).min() > 0.9
    classes = {int(c) for _, o in model.golden.samples for c in o["probabilities"].argmax(1)}
    assert classes == {0, 1}


class TestExternalData:
    def test_weights_come_along(self, tmp_path: Path) -> None:
        source = save_external(dense(), tmp_path / "m.onnx")
        model = open_model(source, into=tmp_path / "o")
        assert (tmp_path / "o" / "w.bin").read_bytes() == (tmp_path / "w.bin").read_bytes()
        assert model.size_bytes() == model.graph.stat().st_size + 96

    def test_several_links_to_the_weights_are_no_matter(self, tmp_path: Path) -> None:
        source = save_external(dense(), tmp_path / "m.onnx")
        os.link(tmp_path / "w.bin", tmp_path / "again.bin")
        assert open_model(source, into=tmp_path / "o").golden is not None

    def test_opening_in_its_own_folder(self, tmp_path: Path) -> None:
        source = save_external(dense(), tmp_path / "graph.onnx")
        assert open_model(source, into=tmp_path).graph == source

    @pytest.mark.parametrize(
        "location", ["../w.bin", "/etc/hostname", "a/../../w.bin", "C:\\w", ""]
    )
    def test_outside(self, tmp_path: Path, location: str) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        source = save_external(dense(), folder / "m.onnx")
        (tmp_path / "w.bin").write_bytes(bytes(96))
        relocate(source, location=location)
        error = _refusal(source, tmp_path / "o")
        assert error.code == "formats.external-data-outside"
        assert str(folder) in error.message

    def test_a_link_out_of_the_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        source = save_external(dense(), folder / "m.onnx")
        (folder / "w.bin").rename(tmp_path / "elsewhere.bin")
        (folder / "w.bin").symlink_to(tmp_path / "elsewhere.bin")
        error = _refusal(source, tmp_path / "o")
        assert error.code == "formats.external-data-outside"
        assert "elsewhere.bin" in error.message

    def test_missing(self, tmp_path: Path) -> None:
        source = save_external(dense(), tmp_path / "m.onnx")
        (tmp_path / "w.bin").unlink()
        assert _refusal(source, tmp_path / "o").code == "formats.external-data-missing"

    def test_too_short(self, tmp_path: Path) -> None:
        source = save_external(dense(), tmp_path / "m.onnx")
        (tmp_path / "w.bin").write_bytes(bytes(50))
        error = _refusal(source, tmp_path / "o")
        assert error.code == "formats.external-data-missing"
        assert "96" in error.message
        assert "50" in error.message

    def test_offset_behind_the_end(self, tmp_path: Path) -> None:
        source = save_external(dense(), tmp_path / "m.onnx")
        relocate(source, offset="64")
        assert _refusal(source, tmp_path / "o").code == "formats.external-data-missing"

    @pytest.mark.parametrize("offset", ["-1", "x", "9" * 40, "1e3", "٣"])
    def test_an_offset_that_is_no_number(self, tmp_path: Path, offset: str) -> None:
        source = save_external(dense(), tmp_path / "m.onnx")
        relocate(source, offset=offset)
        assert _refusal(source, tmp_path / "o").code == "formats.corrupt"

    def test_weights_inside_a_subgraph_are_looked_at_too(self, tmp_path: Path) -> None:
        proto = dense()
        tensor = TensorProto(name="deep", data_type=TensorProto.FLOAT, dims=[2])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret")
        inner = helper.make_graph([], "inner", [], [], [tensor])
        proto.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner))
        error = _refusal(_save(proto, tmp_path / "m.onnx"), tmp_path / "o")
        assert error.code == "formats.external-data-outside"
        assert "deep" in error.message


class TestRefusals:
    def test_truncated_says_both_sizes(self, tmp_path: Path) -> None:
        content = dense().SerializeToString()
        source = tmp_path / "m.onnx"
        source.write_bytes(content[:100])
        error = _refusal(source, tmp_path / "o")
        assert error.code == "formats.corrupt"
        assert "100" in error.message

    @pytest.mark.parametrize(
        ("operator", "domain", "opset", "words"),
        [
            ("Frobnicate", "", 20, ("Frobnicate", "20")),
            ("Frob", "com.acme", 20, ("Frob", "com.acme")),
            ("Relu", "", 99, ("99",)),
        ],
    )
    def test_operator_that_the_runtime_lacks(
        self, tmp_path: Path, operator: str, domain: str, opset: int, words: tuple[str, ...]
    ) -> None:
        graph = make_model(
            [helper.make_node(operator, ["x"], ["y"], domain=domain)],
            [("x", TensorProto.FLOAT, ["n", 2])],
            [("y", TensorProto.FLOAT, ["n", 2])],
            opset=opset,
            domains=[domain] if domain else [],
        )
        error = _refusal(_save(graph, tmp_path / "m.onnx"), tmp_path / "o")
        assert error.code == "formats.unsupported-operator"
        assert all(word in error.message for word in words)
        assert onnxruntime.__version__ in error.message

    def test_operator_without_a_kernel_for_the_dtype(self, tmp_path: Path) -> None:
        graph = make_model(
            [helper.make_node("Sin", ["x"], ["y"])],
            [("x", TensorProto.BFLOAT16, ["n", 2])],
            [("y", TensorProto.BFLOAT16, ["n", 2])],
            opset=22,
        )
        error = _refusal(_save(graph, tmp_path / "m.onnx"), tmp_path / "o")
        assert error.code == "formats.unsupported-operator"
        assert "Sin" in error.message

    def test_ir_version_of_the_future(self, tmp_path: Path) -> None:
        graph = dense()
        graph.ir_version = 999
        error = _refusal(_save(graph, tmp_path / "m.onnx"), tmp_path / "o")
        assert error.code == "formats.unsupported-operator"
        assert "999" in error.message

    def test_a_node_that_takes_what_nobody_gives(self, tmp_path: Path) -> None:
        graph = make_model(
            [helper.make_node("Relu", ["nobody"], ["y"])],
            [("x", TensorProto.FLOAT, ["n", 2])],
            [("y", TensorProto.FLOAT, ["n", 2])],
        )
        error = _refusal(_save(graph, tmp_path / "m.onnx"), tmp_path / "o")
        assert error.code == "formats.corrupt"
        assert "nobody" in error.message

    def test_an_output_that_is_no_tensor(self, tmp_path: Path) -> None:
        graph = make_model(
            [helper.make_node("SequenceConstruct", ["x"], ["y"])],
            [("x", TensorProto.FLOAT, ["n", 2])],
            [],
        )
        output = graph.graph.output.add()
        output.name = "y"
        output.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
        error = _refusal(_save(graph, tmp_path / "m.onnx"), tmp_path / "o")
        assert error.code == "formats.cannot-convert"
        assert "`y`" in error.message

    def test_samples_of_another_width(self, tmp_path: Path) -> None:
        error = _refusal(
            _save(dense(), tmp_path / "m.onnx"), tmp_path / "o", samples=np.zeros((3, 5))
        )
        assert error.code == "data.mismatch"
        assert "8" in error.message
        assert "5" in error.message

    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_flipped_bytes_are_refused_or_read(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        """Whatever is damaged: a model or one of our errors, nothing else."""
        folder = tmp_path_factory.mktemp("flip")
        content = bytearray(dense().SerializeToString())
        for _ in range(data.draw(st.integers(1, 4))):
            where = data.draw(st.integers(0, len(content) - 1))
            content[where] = data.draw(st.integers(0, 255))
        (folder / "m.onnx").write_bytes(content)
        try:
            open_model(folder / "m.onnx", into=folder / "o")
        except DukouError as error:
            assert error.code.startswith("formats.")
