"""What the servers of a remote model speak, and what has to be said for those that tell little of it.

The engine holds a table to the same.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dukou.deploy.rules import TableDocument

Peer = Literal[
    "v2",
    "v2-grpc",
    "tensorflow",
    "tensorflow-grpc",
    "kserve-v1",
    "torchserve",
    "torchserve-grpc",
    "keras",
]
# They have no page that says what a model takes and gives.
_SILENT = ("kserve-v1", "torchserve", "torchserve-grpc", "keras")
_WITHOUT_VERSIONS = ("kserve-v1", "keras")
DType = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
]


class DeclaredTensor(TableDocument):
    """A declared input or output."""

    name: Annotated[str, Field(min_length=1, description="as requests and answers name it")]
    dtype: DType
    shape: Annotated[
        list[Annotated[int, Field(ge=-1)]], Field(description="-1 for what may be any number")
    ]


class DeclaredSignature(TableDocument):
    """What a model takes and gives, where its servers are not asked for it."""

    inputs: Annotated[list[DeclaredTensor], Field(min_length=1)]
    outputs: Annotated[list[DeclaredTensor], Field(min_length=1)]


def problem_with_peer(
    dialect: str, model: str, version: str | None, signature: DeclaredSignature | None
) -> tuple[str, str] | None:
    """What cannot be asked of such servers, and the field that says it; None where all can be.

    Args:
        dialect: what they speak.
        model: its name there.
        version: that is asked for there.
        signature: as it was declared.
    """
    if version is not None and dialect in _WITHOUT_VERSIONS:
        return "version", f"`{dialect}` has no versions, and `{version}` of `{model}` is asked for"
    if signature is None:
        if dialect not in _SILENT:
            return None
        problem = f"a server of `{dialect}` does not tell what a model takes and gives"
        return "signature", f"is missing: {problem}"
    for side, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        seen: set[str] = set()
        for index, tensor in enumerate(tensors):
            if tensor.name in seen:
                return f"signature.{side}[{index}].name", f"`{tensor.name}` is there twice"
            seen.add(tensor.name)
    return None
