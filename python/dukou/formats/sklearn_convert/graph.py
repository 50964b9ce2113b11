"""A fitted scikit-learn model becomes an ONNX graph with dukou's names and a free batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.formats.child import ConversionError
from dukou.formats.sklearn_convert.table import Table, is_text

if TYPE_CHECKING:
    import onnx

BATCH = "batch"


def convert_graph(
    path: Path, model: Any, table: Table, classifier: bool
) -> tuple[bytes, list[str]]:
    """The graph and the names of its outputs.

    Inputs: `x` FP32 `[batch, columns]`, or one `[batch, 1]` a column (FP32 or BYTES). Outputs:
    `label` and `probabilities` (`scores` where the model has no probabilities), or `prediction`.

    Raises:
        ConversionError: `formats.cannot-convert`, naming the part.
    """
    proto = _to_onnx(path, model, table)
    wanted = ["prediction"]
    if classifier:
        wanted = ["label", "probabilities" if hasattr(model, "predict_proba") else "scores"]
    names = dict(zip([o.name for o in proto.graph.output], wanted, strict=False))
    _rename_outputs(proto.graph, names)
    for value in (*proto.graph.input, *proto.graph.output):
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].dim_param = BATCH
    _merge_opsets(proto)
    _use_plain_locale(proto)
    return proto.SerializeToString(), [o.name for o in proto.graph.output]


def _to_onnx(path: Path, model: Any, table: Table) -> onnx.ModelProto:
    from skl2onnx import __max_supported_opset__, to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    if table.by_column:
        types = [
            (name, (StringTensorType if is_text(column) else FloatTensorType)([None, 1]))
            for name, column in table.columns.items()
        ]
    else:
        types = [("x", FloatTensorType([None, len(table.columns)]))]
    heard = ""
    # Not every estimator knows the option that gives a tensor instead of dictionaries.
    for options in ({id(model): {"zipmap": False}}, None):
        try:
            proto: onnx.ModelProto = to_onnx(
                model,
                initial_types=types,
                options=options,
                target_opset={"": __max_supported_opset__, "ai.onnx.ml": 3},
            )
        except NameError as error:
            heard = heard or str(error)
        except Exception as error:
            raise ConversionError(
                "formats.cannot-convert",
                f"`{path}` ({type(model).__name__}) does not convert: {_sentence(error)}",
            ) from error
        else:
            return proto
    raise ConversionError("formats.cannot-convert", f"`{path}` does not convert: {heard}")


def _sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or ['no words'])[0][:300]}"


def _rename_outputs(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Renames values wherever they stand; nothing where a new name is taken."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    names = {old: new for old, new in names.items() if old == new or new not in taken}
    for value in graph.output:
        value.name = names.get(value.name, value.name)
    _rename_nodes(graph, names)


def _rename_nodes(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_nodes(attribute.g, names)


def _merge_opsets(proto: onnx.ModelProto) -> None:
    """One import a domain: the converter may name a domain twice, which the checker refuses."""
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        versions[entry.domain] = max(entry.version, versions.get(entry.domain, 0))
    del proto.opset_import[:]
    for domain, version in versions.items():
        proto.opset_import.add(domain=domain, version=version)


def _use_plain_locale(proto: onnx.ModelProto) -> None:
    """Lower-casing is asked for in `en_US`, which small images lack; this one is always there."""
    from onnx import helper

    for node in proto.graph.node:
        if node.op_type == "StringNormalizer":
            kept = [a for a in node.attribute if a.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("locale", "C.UTF-8")])
