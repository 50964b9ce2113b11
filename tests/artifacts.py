"""Small models of our own to package, and a place to package them to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dukou.model.golden import GoldenSamples
from dukou.model.model import Card, Lineage, Model
from dukou.model.signature import Signature, TensorSpec
from dukou.package.package import PackagedVersion, package_model
from dukou.package.store import Store
from dukou.trust.keys import SigningKey, TrustStore, load_or_create_signing_key, load_trust_store


def make_proto(*layers: np.ndarray) -> onnx.ModelProto:
    """A chain of matrix products, `x` [n, first.rows] to `y` [n, last.columns]."""
    nodes, weights, name = [], [], "x"
    for index, weight in enumerate(layers):
        output = "y" if index == len(layers) - 1 else f"h{index}"
        nodes.append(helper.make_node("MatMul", [name, f"w{index}"], [output]))
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{index}"))
        name = output
    return helper.make_model(
        helper.make_graph(
            nodes,
            "chain",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", layers[0].shape[0]])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", layers[-1].shape[1]])],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def make_layers(*widths: int, seed: int = 7) -> list[np.ndarray]:
    """Weights of a chain of these widths."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(rows, columns)).astype(np.float32) for rows, columns in pairwise(widths)
    ]


def make_model(folder: Path, *layers: np.ndarray, variant: str = "original") -> Model:
    """The chain in `folder/model.onnx`, with its golden sample computed by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(make_proto(*layers), str(path))
    x = np.ones((1, layers[0].shape[0]), np.float32)
    y = x
    for weight in layers:
        y = y @ weight.astype(np.float32)
    return Model(
        graph=path,
        signature=Signature(
            (TensorSpec("x", "FP32", ("n", layers[0].shape[0])),),
            (TensorSpec("y", "FP32", ("n", layers[-1].shape[1])),),
        ),
        lineage=Lineage("model.onnx", "onnx 1", "sha256:" + "0" * 64, steps=("import onnx",)),
        golden=GoldenSamples((({"x": x}, {"y": y}),)),
        card=Card(title="chain", task="regression", labels=()),
        variant=variant,
    )


@dataclass
class Place:
    """A home with a key, a store and the trust of its own key."""

    home: Path
    store: Store
    key: SigningKey
    trusted: TrustStore

    @classmethod
    def make(cls, folder: Path) -> Place:
        home = folder / "home"
        key = load_or_create_signing_key(home)
        return cls(home, Store(home / "store"), key, load_trust_store(home))

    def publish(self, model: Model, name: str = "chain") -> PackagedVersion:
        return package_model(model, self.store, name=name, signer=self.key)
