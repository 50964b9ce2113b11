"""Records how the real clients fare (`conformance/clients.json`), for docs/compatibility.md and its test.

`make compatibility` runs this. It starts a server as the tests do, and asks it with each client in that client's own
environment. What is recorded is `works`, or the reason that stands in `NOT_YET`; anything else is an error here.
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
    "kserve_rest": "kserve.InferenceRESTClient",
    "tensorflow_rest": "TensorFlow Serving's REST, by requests",
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
    text = json.dumps(record(), indent=1, ensure_ascii=False) + "\n"
    (ROOT / "conformance" / "clients.json").write_text(text, encoding="utf-8")
    print("wrote conformance/clients.json")
