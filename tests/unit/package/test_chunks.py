"""Weights leave the graph by the rule of spec/artifact.md, the same way wherever they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.artifacts import make_layers, make_proto

from dukou.base.errors import InputError
from dukou.package import chunks
from dukou.package.chunks import Chunk, CutGraph, cut_graph, external_files, load_graph


def save(proto: onnx.ModelProto, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, str(path), **options)
    return path


def lay_out(cut: CutGraph, folder: Path) -> Path:
    folder.mkdir()
    (folder / "graph.onnx").write_bytes(cut.graph)
    for chunk in cut.chunks:
        (folder / chunk.name).write_bytes(b"".join(chunk.parts))
    return folder / "graph.onnx"


def places(cut: CutGraph) -> dict[str, tuple[str, int, int]]:
    """Tensor → (file, offset, length)."""
    proto = onnx.load_from_string(cut.graph)
    found = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            said = {entry.key: entry.value for entry in tensor.external_data}
            found[tensor.name] = (said["location"], int(said["offset"]), int(said["length"]))
    return found


def test_the_cut_graph_answers_as_the_whole_one(tmp_path: Path) -> None:
    layers = make_layers(64, 600, 500, 10)
    whole = save(make_proto(*layers), tmp_path / "m.onnx")
    cut = cut_graph(whole)
    # 64×600 and the biases behind it, then 600×500 (1.2 MB) begins a chunk and 500×10 goes behind.
    assert places(cut) == {
        "w0": ("weights-0.bin", 0, 153600),
        "w1": ("weights-1.bin", 0, 1200000),
        "w2": ("weights-1.bin", 1200000, 20000),
    }
    assert [chunk.size for chunk in cut.chunks] == [153600, 1220000]
    assert len(cut.graph) < 1000
    x = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0]
        for path in (whole, lay_out(cut, tmp_path / "version"))
    ]
    np.testing.assert_array_equal(*answers)


def test_how_the_weights_were_stored_makes_no_difference(tmp_path: Path) -> None:
    layers = make_layers(32, 40, 16)
    inline = cut_graph(save(make_proto(*layers), tmp_path / "inline.onnx"))
    outside = cut_graph(
        save(
            make_proto(*layers),
            tmp_path / "outside" / "m.onnx",
            save_as_external_data=True,
            location="all.bin",
            size_threshold=0,
        )
    )
    proto = make_proto(*layers)
    for tensor, weight in zip(proto.graph.initializer, layers, strict=True):
        tensor.ClearField("raw_data")
        tensor.float_data.extend(weight.reshape(-1).tolist())
    typed = cut_graph(save(proto, tmp_path / "typed.onnx"))
    for other in (outside, typed, cut_graph(lay_out(inline, tmp_path / "again"))):
        assert other.graph == inline.graph
        assert [b"".join(c.parts) for c in other.chunks] == [
            b"".join(c.parts) for c in inline.chunks
        ]


def test_small_tensors_and_strings_stay(tmp_path: Path) -> None:
    proto = make_proto(*make_layers(16, 15))  # 960 bytes
    proto.graph.initializer.append(
        helper.make_tensor("names", TensorProto.STRING, [300], [b"label"] * 300)
    )
    cut = cut_graph(save(proto, tmp_path / "m.onnx"))
    assert cut.chunks == ()
    assert onnx.load_from_string(cut.graph).graph.initializer[1].string_data[299] == b"label"
    assert (
        cut_graph(save(make_proto(*make_layers(16, 16)), tmp_path / "n.onnx")).chunks[0].size
        == 1024
    )


def test_weights_inside_nodes_are_put_into_the_graph(tmp_path: Path) -> None:
    weight = make_layers(32, 32)[0]
    constant = numpy_helper.from_array(weight, "inner")
    (tmp_path / "inner.bin").write_bytes(weight.tobytes())
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    entry = constant.external_data.add()
    entry.key, entry.value = "location", "inner.bin"
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["w"], value=constant),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert external_files(load_graph(path)) == {"inner.bin"}
    cut = cut_graph(path)
    value = onnx.load_from_string(cut.graph).graph.node[0].attribute[0].t
    np.testing.assert_array_equal(numpy_helper.to_array(value), weight)


@pytest.mark.parametrize(
    ("location", "code", "said"),
    [
        ("../secret.bin", "formats.external-data-outside", "../secret.bin"),
        ("/etc/passwd", "formats.external-data-outside", "/etc/passwd"),
        ("link.bin", "formats.external-data-outside", "link.bin"),
        ("absent.bin", "formats.external-data-missing", "absent.bin"),
        ("short.bin", "formats.external-data-missing", "which has 100"),
        ("", "formats.external-data-outside", "tensor `w0`"),
    ],
)
def test_weights_that_are_not_there_are_refused(
    tmp_path: Path, location: str, code: str, said: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (folder / "short.bin").write_bytes(bytes(100))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    proto = make_proto(*make_layers(32, 32))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4096")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match=".") as caught:
        cut_graph(path)
    assert caught.value.code == code
    assert said in caught.value.message


def test_a_truncated_file_is_corrupt(tmp_path: Path) -> None:
    path = save(make_proto(*make_layers(32, 32)), tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError) as caught:
        cut_graph(path)
    assert caught.value.code == "formats.corrupt"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30))
def test_the_rule(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "BEGINS_CHUNK", 10)
        patch.setattr(chunks, "PACKED_BYTES", 20)
        patch.setattr(chunks, "ALONE_ABOVE", 30)
        patch.setattr(chunks, "ALIGNMENT", 4)
        cut: list[list[int]] = []
        current = None
        for number, size in enumerate(sizes):
            if current is None or not current.takes(size):
                current = Chunk(str(len(cut)))
                cut.append([])
            offset = current.add(bytes([number % 256]) * size)
            cut[-1].append(size)
            content = b"".join(current.parts)
            assert offset % 4 == 0
            assert len(content) == current.size == offset + size
            assert content[offset:] == bytes([number % 256]) * size
    assert [size for chunk in cut for size in chunk] == sizes
    for index, chunk in enumerate(cut):
        assert all(size < 10 for size in chunk[1:]), "a large tensor begins a chunk"
        assert chunk[0] <= 30 or len(chunk) == 1, "a very large one stands alone"
        packed = [size for size in chunk if size < 10]
        assert sum(packed) <= 20
        if index and chunk[0] < 10 and cut[index - 1][0] <= 30:
            before = sum(size + 3 for size in cut[index - 1] if size < 10)
            assert before + chunk[0] + 3 > 20, "a chunk is left only when it is full"
