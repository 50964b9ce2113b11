"""The Python model that Triton runs: every request of a batch in one call of ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args):
        """Opens the model that lies beside this file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        model = Path(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        """Joins the rows, runs once, and gives each request its own."""
        inputs = [
            pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests
        ]
        rows = inputs[0] if len(inputs) == 1 else np.concatenate(inputs)
        (probabilities,) = self.session.run(None, {"X": rows})
        responses = []
        begin = 0
        for tensor in inputs:
            end = begin + len(tensor)
            output = pb_utils.Tensor("probabilities", probabilities[begin:end])
            responses.append(pb_utils.InferenceResponse(output_tensors=[output]))
            begin = end
        return responses
