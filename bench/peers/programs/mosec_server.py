"""The mosec server of the bench: V2's JSON in and out, ONNX Runtime in every worker."""

import os

import msgspec
import numpy as np
import onnxruntime
from mosec import Server, ValidationError, Worker


class InputTensor(msgspec.Struct):
    """One input, as V2 writes it."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(msgspec.Struct):
    """What comes."""

    inputs: list[InputTensor]


class Digits(Worker):
    """Rows in, probabilities out."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.decoder = msgspec.json.Decoder(Request)
        self.encoder = msgspec.json.Encoder()

    def deserialize(self, data):
        """V2 JSON → a row of floats."""
        try:
            tensor = self.decoder.decode(data).inputs[0]
            return np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
        except (msgspec.MsgspecError, ValueError, IndexError) as error:
            raise ValidationError(str(error)) from error

    def forward(self, data):
        """A list of requests → a list of probabilities."""
        (probabilities,) = self.session.run(None, {"X": np.concatenate(data)})
        return np.split(probabilities, len(data))

    def serialize(self, data):
        """Probabilities → V2 JSON."""
        output = {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": list(data.shape),
            "data": data.ravel().tolist(),
        }
        return self.encoder.encode({"model_name": "digits", "outputs": [output]})


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Digits,
        num=int(os.environ["BENCH_WORKERS"]),
        max_batch_size=int(os.environ["BENCH_MAX_BATCH"]),
        max_wait_time=int(os.environ["BENCH_WAIT_MS"]),
    )
    server.run()
