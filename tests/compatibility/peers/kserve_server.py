"""KServe's own server with the tests' classifier in it: `python kserve_server.py WEIGHTS.npy PORT`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

WEIGHTS = np.load(sys.argv[1])


def answer(rows: np.ndarray) -> dict[str, np.ndarray]:
    """What the ONNX file of the same weights answers."""
    scores = rows.astype(np.float32) @ WEIGHTS
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return {
        "label": scores.argmax(-1).astype(np.int64),
        "probabilities": powers / powers.sum(-1, keepdims=True),
    }


class Classifier(Model):
    """`m`, in both protocols."""

    def load(self) -> bool:
        """It is loaded already."""
        self.ready = True
        return True

    def predict(self, payload: Any, headers: Any = None, **_: Any) -> Any:
        """V2's request, or V1's."""
        if not isinstance(payload, InferRequest):
            found = answer(np.asarray(payload["instances"], np.float32))
            rows = zip(found["label"].tolist(), found["probabilities"].tolist(), strict=True)
            return {"predictions": [{"label": a, "probabilities": b} for a, b in rows]}
        found = answer(payload.inputs[0].as_numpy())
        wanted = [output.name for output in payload.request_outputs or []]
        outputs = []
        for name, array in found.items():
            if wanted and name not in wanted:
                continue
            datatype = {"label": "INT64", "probabilities": "FP32"}[name]
            output = InferOutput(name, list(array.shape), datatype)
            output.set_data_from_numpy(array, binary_data=bool(payload.use_binary_outputs))
            outputs.append(output)
        response_id = payload.id or generate_uuid()
        binary = payload.use_binary_outputs
        return InferResponse(response_id, "m", outputs, use_binary_outputs=binary)


if __name__ == "__main__":
    model = Classifier("m")
    model.load()
    ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1).start([model])
