"""TorchServe's messages over gRPC, made from the numbers in its `.proto` files: its package ships no stubs."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INFERENCE = "org.pytorch.serve.grpc.inference"
MANAGEMENT = "org.pytorch.serve.grpc.management"
_TEXT, _BYTES, _INT, _BOOL = 9, 12, 5, 8
# Message → its fields: name → (number, type).
MESSAGES = {
    INFERENCE: {
        "Empty": {},
        "PredictionResponse": {"prediction": (1, _BYTES)},
        "TorchServeHealthResponse": {"health": (1, _TEXT)},
    },
    MANAGEMENT: {
        "ManagementResponse": {"msg": (1, _TEXT)},
        "DescribeModelRequest": {
            "model_name": (1, _TEXT),
            "model_version": (2, _TEXT),
            "customized": (3, _BOOL),
        },
        "ListModelsRequest": {"limit": (1, _INT), "next_page_token": (2, _INT)},
        "RegisterModelRequest": {
            "batch_size": (1, _INT),
            "initial_workers": (3, _INT),
            "max_batch_delay": (4, _INT),
            "model_name": (5, _TEXT),
            "synchronous": (8, _BOOL),
            "url": (9, _TEXT),
        },
        "ScaleWorkerRequest": {
            "model_name": (1, _TEXT),
            "model_version": (2, _TEXT),
            "max_worker": (3, _INT),
            "min_worker": (4, _INT),
            "synchronous": (6, _BOOL),
        },
        "SetDefaultRequest": {"model_name": (1, _TEXT), "model_version": (2, _TEXT)},
        "UnregisterModelRequest": {"model_name": (1, _TEXT), "model_version": (2, _TEXT)},
    },
}


def messages() -> dict[str, Any]:
    """The messages as classes; a prediction's request has a map, which is a message of pairs."""
    pool = descriptor_pool.DescriptorPool()
    for package, named in MESSAGES.items():
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{package}.proto", package=package, syntax="proto3"
        )
        for name, fields in named.items():
            message = file.message_type.add(name=name)
            for field, (number, kind) in fields.items():
                message.field.add(name=field, number=number, type=kind, label=1)
        if package == INFERENCE:
            _add_request(file, package)
        pool.Add(file)
    names = {name: f"{package}.{name}" for package, each in MESSAGES.items() for name in each}
    names["PredictionsRequest"] = f"{INFERENCE}.PredictionsRequest"
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(full))
        for name, full in names.items()
    }


def method(name: str, request: str) -> str:
    """The path of a method, by the name of what it takes."""
    is_inference = request in ("Empty", "PredictionsRequest")
    package = INFERENCE if is_inference else MANAGEMENT
    service = "InferenceAPIsService" if is_inference else "ManagementAPIsService"
    return f"/{package}.{service}/{name}"


def _add_request(file: descriptor_pb2.FileDescriptorProto, package: str) -> None:
    request = file.message_type.add(name="PredictionsRequest")
    request.field.add(name="model_name", number=1, type=_TEXT, label=1)
    request.field.add(name="model_version", number=2, type=_TEXT, label=1)
    entry = request.nested_type.add(name="InputEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_TEXT, label=1)
    entry.field.add(name="value", number=2, type=_BYTES, label=1)
    request.field.add(
        name="input",
        number=3,
        type=11,
        label=3,
        type_name=f".{package}.PredictionsRequest.InputEntry",
    )
