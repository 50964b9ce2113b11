"""Any ONNX file under Triton's python backend, which the wheel has in place of one for ONNX Runtime.

Lies in a version's folder beside `model.onnx`, as `model.py`.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args):
        """Opens the file of its version."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        """Each request by itself, with the outputs that it wants."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        inputs = {tensor.name(): _read(tensor.as_numpy()) for tensor in request.inputs()}
        names = list(request.requested_output_names())
        try:
            found = self.session.run(names, inputs)
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        outputs = [pb_utils.Tensor(name, array) for name, array in zip(names, found, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=outputs)


def _read(array):
    """Text as ONNX Runtime takes it; Triton has bytes."""
    if array.dtype != object:
        return array
    texts = [value.decode() for value in array.reshape(-1)]
    return np.array(texts, object).reshape(array.shape)
