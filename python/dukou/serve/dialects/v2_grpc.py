"""The Open Inference Protocol over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from dukou.base.errors import InputError, RemoteError
from dukou.serve.dialects.table import Ask, Document, Target
from dukou.serve.messages.elements import write_elements
from dukou.serve.messages.schema import new_message, read_message
from dukou.serve.messages.tensors import read_v2_tensors

_SERVICE = "/inference.GRPCInferenceService/"


class V2Grpc:
    """Tells what its models take, and is asked in tensors."""

    def metadata(self, ask: Ask, target: Target) -> Document | None:
        """`ModelMetadata`."""
        request = new_message(
            "v2.ModelMetadataRequest", name=target.model, version=_version(target)
        )
        answer = ask("CALL", _SERVICE + "ModelMetadata", request.SerializeToString())
        try:
            said = read_message("v2.ModelMetadataResponse", answer)
        except DecodeError as error:
            raise _unreadable(target) from error
        sides = (("inputs", said.inputs), ("outputs", said.outputs))
        return {
            "name": said.name,
            **{
                side: [
                    {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)}
                    for each in tensors
                ]
                for side, tensors in sides
            },
        }

    def infer(self, ask: Ask, target: Target, request: Document) -> Document:
        """`ModelInfer`, its tensors raw."""
        message = new_message(
            "v2.ModelInferRequest", model_name=target.model, model_version=_version(target)
        )
        for each in checked_inputs(request):
            message.inputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
            message.raw_input_contents.append(raw_of(each))
        answer = ask("CALL", _SERVICE + "ModelInfer", message.SerializeToString())
        try:
            said = read_message("v2.ModelInferResponse", answer)
            outputs = read_v2_tensors(said.outputs, said.raw_output_contents)
        except (DecodeError, LookupError, ValueError) as error:
            raise _unreadable(target) from error
        return {"outputs": [{"name": name, **tensor} for name, tensor in outputs.items()]}

    def infer_rows(self, ask: Ask, target: Target, rows: Sequence[Any]) -> Document:  # noqa: ARG002
        """Nobody asks for this: the protocol tells what a model takes."""
        raise InputError("usage.invalid", "V2 is asked in tensors, not in rows")


def checked_inputs(request: Document) -> list[Document]:
    """The inputs of a request, each with what a tensor has.

    Raises:
        InputError: `data.mismatch`: one has not.
    """
    inputs = request.get("inputs")
    for each in inputs if isinstance(inputs, list) else [None]:
        good = (
            isinstance(each, dict)
            and all(isinstance(each.get(key), str) for key in ("name", "datatype"))
            and isinstance(each.get("shape"), list)
            and all(type(extent) is int and 0 <= extent < 1 << 63 for extent in each["shape"])
            and isinstance(each.get("data"), list)
        )
        if not good:
            raise InputError(
                "data.mismatch",
                "an input of the request has not `name`, `datatype`, `shape` and flat `data`",
            )
    return list(inputs or [])


def raw_of(tensor: Document) -> bytes:
    """The raw bytes of a request's tensor.

    Raises:
        InputError: `data.mismatch`: an element is none of its datatype.
    """
    name, datatype = tensor["name"], tensor["datatype"]
    try:
        return write_elements(datatype, tensor["data"])
    except (LookupError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise InputError(
            "data.mismatch", f"`{name}` is {datatype}, and what was given is not: {error}"
        ) from error


def _version(target: Target) -> str:
    # An alias is asked for in a version's place, as the protocol has no other.
    return target.version or target.alias or ""


def _unreadable(target: Target) -> RemoteError:
    return RemoteError(
        "client.server-error",
        f"what was answered of `{target.model}` cannot be read",
        hint="is it a server of the Open Inference Protocol? `--dialect` names another",
    )
