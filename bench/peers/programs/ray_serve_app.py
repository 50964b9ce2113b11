"""The bench's model in Ray Serve: V2 JSON in and out, ONNX Runtime in the handler.

    python ray_serve_app.py ADDRESS MODEL REPLICAS PORT

As its documentation recommends for speed: an `async` handler, one thread a session, enough ongoing requests,
(the standard library's JSON), Starlette's plain Response. Runs until SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time

import numpy
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(max_ongoing_requests=64)
class Digits:
    """One replica."""

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        (output,) = self._session.get_outputs()
        self._name = output.name

    async def __call__(self, request: Request) -> Response:
        """One request."""
        (tensor,) = json.loads(await request.body())["inputs"]
        rows = numpy.asarray(tensor["data"], numpy.float32).reshape(tensor["shape"])
        (found,) = self._session.run(None, {"X": rows})
        output = {
            "name": self._name,
            "datatype": "FP32",
            "shape": list(found.shape),
            "data": found.ravel().tolist(),
        }
        body = {"model_name": "digits", "model_version": "1", "outputs": [output]}
        return Response(json.dumps(body), media_type="application/json")


def main(address: str, model: str, replicas: str, port: str) -> None:
    """Runs it until told to end."""
    ended = threading.Event()
    ray.init(address=address, log_to_driver=False)
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    for tries_left in reversed(range(5)):
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
            serve.run(Digits.options(num_replicas=int(replicas)).bind(model), route_prefix="/infer")
            break
        except ray.exceptions.RayActorError:
            # What ran here in the turn before is still being taken down.
            if not tries_left:
                raise
            time.sleep(3)
    print("SERVING", flush=True)
    ended.wait()
    serve.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
