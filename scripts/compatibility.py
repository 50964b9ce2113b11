"""Records how the real clients fare, and how other servers' answers differ, for docs/compatibility.md and its tests.

`make compatibility` runs this: it starts a server as the tests do, and asks it with each client in that client's own
environment (`conformance/clients.json`). What is recorded is `works`, or the reason that stands in `NOT_YET`; anything
else is an error here. `make compare` runs it with `peers`: the same is asked of our server and of others
(`conformance/peers.json`); a difference without a reason in `REASONS` is an error here.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# module in tests/compatibility/clients → what the page calls it. The order is the page's.
CLIENTS = {
    "triton_http": "tritonclient.http",
    "triton_http_aio": "tritonclient.http.aio",
    "triton_grpc": "tritonclient.grpc",
    "kserve_rest": "kserve.InferenceRESTClient",
    "tensorflow_rest": "TensorFlow Serving's REST, by requests",
    "torchserve_rest": "TorchServe's REST, by requests",
    "tensorflow_grpc": "TensorFlow Serving's gRPC, by its own stubs",
}
# (module, operation) → why it does not work yet.
NOT_YET: dict[tuple[str, str], str] = {}

# (question, or "" for every one; the beginning of what differs) → why.
REASONS = {
    ("", "only there: `detail`"): "the words of its web framework; `error` is the protocol's",
    ("", "only here: `error`"): "the protocol's own word",
    (
        "",
        "422 there, 400 here",
    ): "what is no request is 400 by Triton and TensorFlow Serving; 422 is its framework's",
    (
        "",
        "500 there, 400 here",
    ): "the caller's mistake is told before the model runs; there its code fails on it",
    (
        "",
        "200 there, 400 here",
    ): "what the model has not is refused, as by Triton; there it is passed over",
    (
        "model metadata",
        "only",
    ): "the graph tells the signature; there the model's code would have to",
    (
        "model status",
        "only here: `model_version_status",
    ): "what TensorFlow Serving's clients read at this path",
    ("predict by GET", "404 there, 400 here"): "TensorFlow Serving's answer to a wrong method",
    (
        "infer, no content type",
        "400 there, 200 here",
    ): "Triton takes it, and Triton's own client sends none",
    ("infer, binary both ways", "500 there, 200 here"): "its REST does not read binary tensor data",
    ("live", "only"): "an empty body there; KServe's clients read ours",
    ("ready", "only"): "an empty body there; KServe's clients read ours",
    ("model ready", "only"): "an empty body there; KServe's clients read ours",
    (
        "infer",
        "only there",
    ): "it makes an id where none was given, and adds its own parameters, empty ones too",
    ("infer", "only here: `model_version`"): "Triton names the version that answered",
}


def record() -> list[dict[str, Any]]:
    """How every client fares now.

    Raises:
        SystemExit: one fares otherwise than `NOT_YET` says.
    """
    from tests import serving
    from tests.compatibility.models import write_models
    from tests.compatibility.test_clients import run_client

    recorded = []
    with tempfile.TemporaryDirectory() as name, serving.house() as house:
        folder = Path(name, "models")
        folder.mkdir()
        expected = write_models(folder)
        with house.serving(folder, "--versions", "all") as server:
            address = f"{server.address[0]}:{server.address[1]}"
            facts = Path(name, "facts.json")
            facts.write_text(json.dumps({**expected, "url": server.url, "address": address}))
            for module, title in CLIENTS.items():
                run = run_client(module, facts)
                operations = {
                    operation: _state(module, operation, found)
                    for operation, found in run["found"].items()
                }
                recorded.append(
                    {
                        "name": title,
                        "module": module,
                        "package": run["package"],
                        "version": run["version"],
                        "operations": operations,
                    }
                )
    return recorded


def record_peers() -> list[dict[str, Any]]:
    """How answers differ from those of other servers, each difference with its reason.

    Raises:
        SystemExit: one has no reason.
    """
    from tests import serving
    from tests.compatibility.peers import KSERVE, MLSERVER, compare_with

    recorded = []
    with tempfile.TemporaryDirectory() as name, serving.house() as house:
        model = serving.write_model(Path(name, "m.onnx"))
        with house.serving(model) as server:
            for peer in (KSERVE, MLSERVER):
                found = compare_with(peer, server.address, model)
                for protocol, questions in found["protocols"].items():
                    found["protocols"][protocol] = {
                        question: {what: _reason(peer.name, question, what) for what in differing}
                        for question, differing in questions.items()
                    }
                recorded.append(found)
    return recorded


def _reason(peer: str, question: str, what: str) -> str:
    for (about, begin), reason in REASONS.items():
        if what.startswith(begin) and (
            question == about or question.startswith(f"{about}, ") or not about
        ):
            return reason
    raise SystemExit(f"`{peer}: {question}` differs, and nothing says why: {what}")


def _state(module: str, operation: str, found: str) -> str:
    reason = NOT_YET.get((module, operation))
    if found == "works" and reason is None:
        return found
    if found == "works":
        raise SystemExit(f"`{module}: {operation}` works now: take it out of NOT_YET")
    if reason is None:
        raise SystemExit(f"`{module}: {operation}` does not work:\n{found}")
    return f"not yet: {reason}"


if __name__ == "__main__":
    name, found = (
        ("peers.json", record_peers()) if sys.argv[1:] == ["peers"] else ("clients.json", record())
    )
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    (ROOT / "conformance" / name).write_text(text, encoding="utf-8")
    print(f"wrote conformance/{name}")
