"""Records how the real clients fare, and how other servers' answers differ, for docs/compatibility.md and its tests.

`make compatibility` runs this: it starts a server as the tests do, and asks it with each client in that client's own
environment (`conformance/clients.json`). What is recorded is `works`, or the reason that stands in `NOT_YET`; anything
else is an error here. `make compare` runs it with `peers`: the same is asked of our server and of others
(`conformance/peers.json`, and what those answered that CI cannot start in `conformance/answers`); a difference without
a reason in `tests/compatibility/reasons.py` is an error here. `peers NAME …` asks these alone and keeps what is
recorded of the others.
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
    "triton_grpc_aio": "tritonclient.grpc.aio",
    "kserve_rest": "kserve.InferenceRESTClient",
    "kserve_grpc": "kserve.InferenceGRPCClient",
    "tensorflow_rest": "TensorFlow Serving's REST, by requests",
    "torchserve_rest": "TorchServe's REST, by requests",
    "tensorflow_grpc": "TensorFlow Serving's gRPC, by its own stubs",
    "torchserve_grpc": "TorchServe's gRPC, by stubs with its numbers",
}
# (module, operation) → why it does not work yet.
NOT_YET: dict[tuple[str, str], str] = {}


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


def record_peers(names: list[str]) -> list[dict[str, Any]]:
    """How answers differ from those of other servers, each difference with its reason.

    Args:
        names: of the servers to ask; all where there is none.

    Raises:
        SystemExit: differences have no reason.
    """
    from tests import serving
    from tests.compatibility.peers import PEERS, compare_with
    from tests.compatibility.reasons import reason_for

    before = json.loads((ROOT / "conformance" / "peers.json").read_text(encoding="utf-8"))
    recorded, without = [], []
    for peer in PEERS:
        if names and peer.name not in names:
            recorded += [each for each in before if each["name"] == peer.name]
            continue
        with serving.house() as house:
            found = compare_with(peer, house)
        for protocol, questions in found["protocols"].items():
            for question, differing in questions.items():
                reasons = {what: reason_for(peer.name, question, what) for what in differing}
                without += [
                    f"{peer.name}, {protocol}, {question}: {what}"
                    for what, reason in reasons.items()
                    if reason is None
                ]
                found["protocols"][protocol][question] = reasons
        recorded.append(found)
    if without:
        raise SystemExit("\n".join(["nothing says why these differ:", *without]))
    return recorded


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
        ("peers.json", record_peers(sys.argv[2:]))
        if sys.argv[1:2] == ["peers"]
        else ("clients.json", record())
    )
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    (ROOT / "conformance" / name).write_text(text, encoding="utf-8")
    print(f"wrote conformance/{name}")
