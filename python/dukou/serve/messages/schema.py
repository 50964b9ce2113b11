"""The messages of inference and metadata of four servers: their fields and numbers, as protobuf types.

Made here, in a pool of their own, so that no stub of any server need be installed and none that is clashes.
Written down is what is read or written: a field that is not named here is passed over. Sources: the protocol pages of
Triton and KServe (package `inference`), TensorFlow Serving and TorchServe.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message → `number name type`, a `*` for a repeated field; `map` is from text to that type.
_MESSAGES = {
    "v2.Contents": (
        "1 bool_contents bool*",
        "2 int_contents int32*",
        "3 int64_contents int64*",
        "4 uint_contents uint32*",
        "5 uint64_contents uint64*",
        "6 fp32_contents float*",
        "7 fp64_contents double*",
        "8 bytes_contents bytes*",
    ),
    "v2.Tensor": (
        "1 name string",
        "2 datatype string",
        "3 shape int64*",
        "5 contents v2.Contents",
    ),
    "v2.ModelInferRequest": (
        "1 model_name string",
        "2 model_version string",
        "5 inputs v2.Tensor*",
        "7 raw_input_contents bytes*",
    ),
    "v2.ModelInferResponse": (
        "3 id string",
        "5 outputs v2.Tensor*",
        "6 raw_output_contents bytes*",
    ),
    "v2.ModelStreamInferResponse": (
        "1 error_message string",
        "2 infer_response v2.ModelInferResponse",
    ),
    "v2.ServerMetadataResponse": ("1 name string",),
    "v2.ModelMetadataRequest": ("1 name string", "2 version string"),
    "v2.TensorMetadata": ("1 name string", "2 datatype string", "3 shape int64*"),
    "v2.ModelMetadataResponse": (
        "1 name string",
        "4 inputs v2.TensorMetadata*",
        "5 outputs v2.TensorMetadata*",
    ),
    "tf.Dim": ("1 size int64",),
    "tf.Shape": ("2 dim tf.Dim*",),
    "tf.Tensor": (
        "1 dtype int32",
        "2 tensor_shape tf.Shape",
        "4 tensor_content bytes",
        "5 float_val float*",
        "6 double_val double*",
        "7 int_val int32*",
        "8 string_val bytes*",
        "10 int64_val int64*",
        "11 bool_val bool*",
        "13 half_val int32*",
        "16 uint32_val uint32*",
        "17 uint64_val uint64*",
    ),
    "tf.Number": ("1 value int64",),
    "tf.ModelSpec": (
        "1 name string",
        "2 version tf.Number",
        "3 signature_name string",
        "4 version_label string",
    ),
    "tf.GetModelMetadataRequest": ("1 model_spec tf.ModelSpec", "2 metadata_field string*"),
    "tf.Any": ("1 type_url string", "2 value bytes"),
    "tf.GetModelMetadataResponse": ("2 metadata map tf.Any",),
    "tf.TensorInfo": ("2 dtype int32", "3 tensor_shape tf.Shape"),
    "tf.SignatureDef": ("1 inputs map tf.TensorInfo", "2 outputs map tf.TensorInfo"),
    "tf.SignatureDefMap": ("1 signature_def map tf.SignatureDef",),
    "tf.PredictRequest": ("1 model_spec tf.ModelSpec", "2 inputs map tf.Tensor"),
    "tf.PredictResponse": ("1 outputs map tf.Tensor",),
    "tf.Class": ("1 label string", "2 score float"),
    "tf.Classes": ("1 classes tf.Class*",),
    "tf.Classifications": ("1 classifications tf.Classes*",),
    "tf.ClassificationResponse": ("1 result tf.Classifications",),
    "tf.Regression": ("1 value float",),
    "tf.Regressions": ("1 regressions tf.Regression*",),
    "tf.RegressionResponse": ("1 result tf.Regressions",),
    "tf.InferenceResult": (
        "2 classification_result tf.Classifications",
        "3 regression_result tf.Regressions",
    ),
    "tf.MultiInferenceResponse": ("1 results tf.InferenceResult*",),
    # Of ClassificationRequest, RegressionRequest and InferenceTask alike.
    "tf.ExamplesRequest": ("1 model_spec tf.ModelSpec", "2 input bytes"),
    "torch.PredictionsRequest": (
        "1 model_name string",
        "2 model_version string",
        "3 input map bytes",
    ),
    "torch.PredictionResponse": ("1 prediction bytes",),
    "torch.Health": ("1 health string",),
}
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "bytes": _FIELD.TYPE_BYTES,
    "string": _FIELD.TYPE_STRING,
}


def new_message(kind: str, /, **fields: Any) -> Any:
    """A message of the table with these fields: `v2.ModelInferRequest`."""
    return _type_of(kind)(**fields)


def read_message(name: str, raw: bytes) -> Any:
    """A message from its bytes.

    Args:
        name: of the table: `v2.ModelInferResponse`.
        raw: as it came.

    Raises:
        google.protobuf.message.DecodeError: it is none.
    """
    return _type_of(name).FromString(raw)


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for package in ("v2", "tf", "torch"):
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{package}.proto", package=package, syntax="proto3"
        )
        for name, fields in _MESSAGES.items():
            if name.partition(".")[0] == package:
                _declare(file.message_type.add(name=name.partition(".")[2]), name, fields)
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _declare(message: Any, name: str, fields: tuple[str, ...]) -> None:
    for field in fields:
        number, called, *kind = field.split()
        if kind[0] != "map":
            _add(message, int(number), called, kind[0])
            continue
        entry = message.nested_type.add(name=_entry_name(called))
        entry.options.map_entry = True
        _add(entry, 1, "key", "string")
        _add(entry, 2, "value", kind[1])
        _add(message, int(number), called, f"{name}.{entry.name}*")


def _entry_name(field: str) -> str:
    """As protobuf demands of a map's entries: `ModelStatsEntry` of `model_stats`."""
    return "".join(word.capitalize() for word in field.split("_")) + "Entry"


def _add(message: Any, number: int, name: str, kind: str) -> None:
    single = kind.rstrip("*")
    label = _FIELD.LABEL_OPTIONAL if single == kind else _FIELD.LABEL_REPEATED
    field = message.field.add(name=name, number=number, label=label)
    if single in _SCALARS:
        field.type = _SCALARS[single]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{single}"


@cache
def _type_of(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))
