"""TorchServe's own handler with what it leaves to its users: a request's JSON becomes a tensor."""

import json

import torch
from ts.torch_handler.base_handler import BaseHandler


class RowsHandler(BaseHandler):
    """A row or a list of rows, in whatever a client may wrap them; one request at a time."""

    def preprocess(self, data):
        """The rows of the one request."""
        (request,) = data
        body = request.get("data") if "data" in request else request.get("body")
        if isinstance(body, (bytes, bytearray, str)):
            body = json.loads(body)
        if isinstance(body, dict):
            body = body["data"] if "data" in body else body["body"]
        return torch.as_tensor(body, dtype=torch.float32)

    def postprocess(self, data):
        """Its answer, as JSON has it."""
        return [data.tolist()]
