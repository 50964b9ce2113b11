"""MLServer with the tests' classifier in it; `settings` beside this file are written by whoever starts it."""

from __future__ import annotations

import os

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Classifier(MLModel):
    """`m`, in the V2 protocol."""

    async def load(self) -> bool:
        """Reads the weights."""
        self._weights = np.load(os.environ["WEIGHTS"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """What the ONNX file of the same weights answers."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        scores = rows @ self._weights
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        found = {
            "label": scores.argmax(-1).astype(np.int64),
            "probabilities": powers / powers.sum(-1, keepdims=True),
        }
        wanted = [output.name for output in payload.outputs or []]
        outputs = {name: NumpyCodec.encode_output(name, array) for name, array in found.items()}
        # Its codec makes a column of a vector.
        outputs["label"].shape = list(found["label"].shape)
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            outputs=[o for name, o in outputs.items() if not wanted or name in wanted],
        )
