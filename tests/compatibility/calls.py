"""The same of calls over gRPC: what is asked, and the answer in the form in which answers over HTTP are compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf import json_format
from tests.compatibility.questions import Address

from dukou.serve.messages.elements import read_elements
from dukou.serve.migrate.http.answer import Answer


class Call(NamedTuple):
    """One call.

    Attributes:
        name: what it tries.
        method: its path.
        requests: the messages; several go down one stream.
        answer: the class of an answer.
        metadata: beside those that the channel sends.
        door: which of a server's ports it is for.
        streams: whether the method is one of a stream of answers.
    """

    name: str
    method: str
    requests: Sequence[Any]
    answer: Any
    metadata: Sequence[tuple[str, str]] = ()
    door: str = "grpc"
    streams: bool = False

    def translated(self, words: Callable[[str], str]) -> Call:
        """The same with other words in its messages' texts."""
        said = [json_format.MessageToJson(request) for request in self.requests]
        requests = [
            json_format.Parse(words(text), type(request)())
            for text, request in zip(said, self.requests, strict=True)
        ]
        return self._replace(requests=requests)


def call(address: Address, asked: Call) -> Answer:
    """Calls on a channel of its own. The status is gRPC's number, the body the message as JSON.

    Where several messages came they are in `answers`; what a V2 inference answered is as it is over REST.
    """
    with grpc.insecure_channel(f"{address[0]}:{address[1]}") as channel:
        kind = channel.stream_stream if asked.streams else channel.unary_unary
        method = kind(
            asked.method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=asked.answer.FromString,
        )
        metadata = tuple(asked.metadata)
        try:
            if asked.streams:
                came = list(method(iter(asked.requests), timeout=30, metadata=metadata))
                document: Any = {"answers": [_document(message) for message in came]}
            else:
                (request,) = asked.requests
                document = _document(method(request, timeout=30, metadata=metadata))
        except grpc.RpcError as error:
            return Answer(error.code().value[0], {"grpc-message": error.details() or ""}, b"{}")
    return Answer(0, {}, json.dumps(document).encode())


def _document(message: Any) -> Any:
    """A message as JSON; raw outputs as the numbers that they are."""
    document = json_format.MessageToDict(message, preserving_proto_field_name=True)
    answer = document.get("infer_response", document)
    if "error_message" in document:
        # Each server's own words.
        document["error_message"] = bool(message.error_message)
    if "raw_output_contents" in answer:
        inner = getattr(message, "infer_response", message)
        for output, raw in zip(answer["outputs"], inner.raw_output_contents, strict=True):
            output["shape"] = [int(extent) for extent in output.get("shape", [])]
            output["data"] = read_elements(output["datatype"], raw)
        # In no order that anybody promises.
        answer["outputs"].sort(key=lambda output: output["name"])
        answer["raw_output_contents"] = len(answer["raw_output_contents"])
    if "prediction" in document:
        document = {"prediction": json.loads(message.prediction)}
    return document
