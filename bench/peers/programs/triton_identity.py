"""The Python model that Triton runs: it hands on the array that it is given."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance, in a process of its own."""

    def execute(self, requests):
        """Answers each request with its own array."""
        return [
            pb_utils.InferenceResponse(
                output_tensors=[
                    pb_utils.Tensor(
                        "same", pb_utils.get_input_tensor_by_name(request, "pixels").as_numpy()
                    )
                ]
            )
            for request in requests
        ]
