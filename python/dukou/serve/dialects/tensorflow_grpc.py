"""TensorFlow Serving's services over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from dukou.base.errors import InputError, RemoteError
from dukou.serve.dialects.table import Ask, Document, Target
from dukou.serve.dialects.v2_grpc import checked_inputs
from dukou.serve.messages.schema import new_message, read_message
from dukou.serve.messages.tensors import (
    read_tensorflow_tensors,
    tensorflow_datatype,
    write_tensorflow_tensor,
)

_SERVICE = "/tensorflow.serving.PredictionService/"
_SIGNATURE = "serving_default"


class TensorFlowGrpc:
    """Asked in columns, by the names of the signature `serving_default`."""

    def metadata(self, ask: Ask, target: Target) -> Document | None:
        """`GetModelMetadata`."""
        request = new_message("tf.GetModelMetadataRequest", metadata_field=["signature_def"])
        _fill(request.model_spec, target)
        answer = ask("CALL", _SERVICE + "GetModelMetadata", request.SerializeToString())
        try:
            said = read_message("tf.GetModelMetadataResponse", answer)
            packed = said.metadata["signature_def"].value
            signatures = read_message("tf.SignatureDefMap", packed).signature_def
            name = _SIGNATURE if _SIGNATURE in signatures else next(iter(sorted(signatures)))
            found = {
                side: _specs(getattr(signatures[name], side)) for side in ("inputs", "outputs")
            }
        except (DecodeError, LookupError, StopIteration) as error:
            raise RemoteError(
                "client.server-error",
                f"the metadata of `{target.model}` has no signature that could be read",
                hint="is it a server of TensorFlow Serving's kind?",
            ) from error
        return {"name": target.model, **found}

    def infer(self, ask: Ask, target: Target, request: Document) -> Document:
        """`Predict`."""
        message = new_message("tf.PredictRequest")
        _fill(message.model_spec, target)
        for each in checked_inputs(request):
            try:
                write_tensorflow_tensor(each, message.inputs[each["name"]])
            except (LookupError, ValueError, TypeError, OverflowError) as error:
                raise InputError(
                    "data.mismatch",
                    f"`{each['name']}` is {each['datatype']}, and what was given is not: {error}",
                ) from error
        answer = ask("CALL", _SERVICE + "Predict", message.SerializeToString())
        try:
            outputs = read_tensorflow_tensors(read_message("tf.PredictResponse", answer).outputs)
        except (DecodeError, LookupError, ValueError) as error:
            raise RemoteError(
                "client.server-error", f"what was answered of `{target.model}` cannot be read"
            ) from error
        return {"outputs": [{"name": name, **tensor} for name, tensor in outputs.items()]}

    def infer_rows(self, ask: Ask, target: Target, rows: Sequence[Any]) -> Document:  # noqa: ARG002
        """Nobody asks for this: the protocol tells what a model takes."""
        raise InputError("usage.invalid", "TensorFlow Serving is asked in tensors, not in rows")


def _fill(spec: Any, target: Target) -> None:
    spec.name = target.model
    if target.version is not None and target.version.isdecimal() and len(target.version) < 19:
        spec.version.value = int(target.version)
    elif target.version is not None or target.alias is not None:
        spec.version_label = target.version or target.alias


def _specs(said: Any) -> list[Document]:
    """In the order of their names: a signature's own order is nobody's promise."""
    return [
        {
            "name": name,
            "datatype": tensorflow_datatype(said[name].dtype),
            "shape": [dim.size for dim in said[name].tensor_shape.dim],
        }
        for name in sorted(said)
    ]
