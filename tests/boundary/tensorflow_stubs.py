"""TensorFlow Serving's own stubs, without TensorFlow.

The stubs (`tensorflow-serving-api`) and the messages of TensorFlow that they need (`tensorflow-protobuf`) lie in
`build/tensorflow-serving`, where `make test` puts them. One message file is missing there, the list of error
codes; it is declared here, before anything asks for it.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool

FOLDER = Path(__file__).resolve().parents[2] / "build" / "tensorflow-serving"
_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)


def _declare_error_codes() -> None:
    name = "tensorflow.core.protobuf.error_codes_pb2"
    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow/core/protobuf/error_codes.proto",
        package="tensorflow.error",
        syntax="proto3",
    )
    codes = file.enum_type.add(name="Code")
    for number, code in enumerate(_CODES):
        codes.value.add(name=code, number=number)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    module: Any = types.ModuleType(name)
    # Where newer TensorFlows declare it; a stub asks for that module by way of this one.
    module.xla_dot_tsl_dot_protobuf_dot_error__codes__pb2 = module
    sys.modules[name] = module


if "tensorflow_serving" not in sys.modules:
    assert FOLDER.is_dir(), f"{FOLDER} is missing: `make .stamps/tensorflow-serving`"
    sys.path.append(str(FOLDER))
    _declare_error_codes()

from tensorflow.core.example import example_pb2  # noqa: E402
from tensorflow.core.framework import tensor_pb2, types_pb2  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

# What lies in that folder is not of this environment: whoever asks what is installed does not see it, and Keras,
# which asks for `tensorflow` by name, is not given its messages for the whole.
if str(FOLDER) in sys.path:
    sys.path.remove(str(FOLDER))
for _name in [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]:
    del sys.modules[_name]

__all__ = [
    "DTYPES",
    "classification_pb2",
    "example_pb2",
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "inference_pb2",
    "make_ndarray",
    "make_tensor_proto",
    "model_management_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_service_pb2_grpc",
    "regression_pb2",
    "tensor_pb2",
]

# numpy's name → TensorFlow's, and the field that carries its elements one by one.
DTYPES = {
    "float32": (types_pb2.DT_FLOAT, "float_val"),
    "float64": (types_pb2.DT_DOUBLE, "double_val"),
    "float16": (types_pb2.DT_HALF, "half_val"),
    "int8": (types_pb2.DT_INT8, "int_val"),
    "int16": (types_pb2.DT_INT16, "int_val"),
    "int32": (types_pb2.DT_INT32, "int_val"),
    "int64": (types_pb2.DT_INT64, "int64_val"),
    "uint8": (types_pb2.DT_UINT8, "int_val"),
    "uint16": (types_pb2.DT_UINT16, "int_val"),
    "uint32": (types_pb2.DT_UINT32, "uint32_val"),
    "uint64": (types_pb2.DT_UINT64, "uint64_val"),
    "bool": (types_pb2.DT_BOOL, "bool_val"),
    "object": (types_pb2.DT_STRING, "string_val"),
}


def make_tensor_proto(array: np.ndarray[Any, Any], *, content: bool) -> Any:
    """A tensor in one of its two forms: `tensor_content`, or one by one."""
    dtype, field = DTYPES[array.dtype.name]
    proto = tensor_pb2.TensorProto(dtype=dtype)
    for extent in array.shape:
        proto.tensor_shape.dim.add(size=extent)
    if content and dtype != types_pb2.DT_STRING:
        proto.tensor_content = array.tobytes()
    elif dtype == types_pb2.DT_HALF:
        proto.half_val.extend(array.view(np.uint16).ravel().tolist())
    else:
        getattr(proto, field).extend(array.ravel().tolist())
    return proto


def make_ndarray(proto: Any) -> np.ndarray[Any, Any]:
    """The array of a tensor that a server wrote one by one."""
    name, (_, field) = next(item for item in DTYPES.items() if item[1][0] == proto.dtype)
    shape = [dim.size for dim in proto.tensor_shape.dim]
    values = list(getattr(proto, field))
    if name == "float16":
        return np.array(values, np.uint16).view(np.float16).reshape(shape)
    return np.array(values, name).reshape(shape)
