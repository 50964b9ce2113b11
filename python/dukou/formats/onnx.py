"""ONNX graphs come in: checked, copied with their weights, read, and asked for golden answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError
from dukou.formats.external import check_external_data
from dukou.formats.finish import digest_files, finish_model
from dukou.formats.outline import read_outline
from dukou.model.model import Card, Lineage, Model

if TYPE_CHECKING:
    import onnx

    from dukou.formats.reader import Samples


class OnnxReader:
    """Reads ONNX graphs, with weights inside or beside."""

    name = "onnx"
    kind = "ONNX graphs (.onnx)"

    def reads(self, head: bytes, path: Path) -> bool:
        """Whether the outer fields are a ModelProto's, whole or cut off."""
        if len(head) < 8 or not path.is_file():
            return False
        return read_outline(path).is_onnx

    def load_model(
        self,
        path: Path,
        *,
        into: Path,
        samples: Samples | None,
        trust: bool,  # noqa: ARG002 - an ONNX graph runs no code of its own
    ) -> Model:
        """The graph, copied into `into` so that what is judged is what is shipped."""
        import onnx

        proto = parse_graph(path)
        names = check_external_data(path, proto)
        graph = into / ("graph.onnx" if "graph.onnx" not in names else "model.onnx")
        steps = []
        if _replace_zipmaps(proto):
            steps.append("replace ZipMap by the tensor that it takes")
            onnx.save(proto, str(graph))
        else:
            _copy(path, graph)
        for name in names:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            # A copy: the checker refuses files with several links, as unpacked versions have.
            _copy(path.parent / name, into / name)
        return finish_model(
            graph,
            lineage=Lineage(
                str(path),
                f"onnx {_producer(proto)}".strip(),
                digest_files(path, *(path.parent / name for name in names)),
                steps=tuple(steps),
            ),
            samples=samples,
            card=Card(title=path.stem, description=proto.doc_string or proto.graph.doc_string),
        )

    def write_example(self, into: Path) -> Path:
        """A dense layer with a softmax over seeded weights kept beside the graph."""
        import numpy as np
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        rng = np.random.default_rng(7)
        weights = numpy_helper.from_array(
            rng.standard_normal((16, 3)).astype(np.float32), "weights"
        )
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "weights"], ["logits"]),
                helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
            ],
            "example",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
            [weights],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        into.mkdir(parents=True, exist_ok=True)
        path = into / "example.onnx"
        onnx.save(
            model,
            str(path),
            save_as_external_data=True,
            location="example.weights",
            size_threshold=0,
        )
        return path


def parse_graph(path: Path) -> onnx.ModelProto:
    """The graph without its external weights.

    Raises:
        InputError: `formats.corrupt`, saying how many bytes there are of how many.
    """
    import onnx
    from google.protobuf.message import DecodeError

    outline = read_outline(path)
    size = path.stat().st_size
    if outline.wanted_bytes > size:
        raise InputError(
            "formats.corrupt",
            f"`{path}` ends after {size} bytes, at least {outline.wanted_bytes} are expected",
        )
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        raise InputError(
            "formats.corrupt", f"`{path}` begins like an ONNX graph, but does not parse"
        ) from error
    if not proto.HasField("graph") or not proto.graph.output:
        raise InputError("formats.corrupt", f"`{path}` has no graph with an output in it")
    return proto


def _copy(source: Path, target: Path) -> None:
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


def _producer(proto: onnx.ModelProto) -> str:
    return " ".join(text for text in (proto.producer_name, proto.producer_version) if text.strip())


def _replace_zipmaps(proto: onnx.ModelProto) -> bool:
    """Outputs that are lists of dictionaries become the tensors that these were made of."""
    from onnx import TensorProto, helper

    outputs = {value.name: value for value in proto.graph.output}
    found = [
        node
        for node in proto.graph.node
        if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml" and node.output[0] in outputs
    ]
    for node in found:
        name = node.output[0]
        keys = next((len(a.ints) or len(a.strings) for a in node.attribute), 0)
        tensor = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", keys or None])
        outputs[name].CopyFrom(tensor)
        passing = helper.make_node("Identity", [node.input[0]], [name], name=node.name)
        node.CopyFrom(passing)
    return bool(found)
