"""Ours as a gateway: an engine whose model three other engines answer. Its own processes alone are counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.digits import NAME, Digits
from bench.peers.dukou import Dukou, serve
from bench.peers.peer import Running

_REPLICAS = 3


class DukouGateway:
    """`dukou serve gateway.toml` before three times `dukou serve digits.onnx`."""

    name = "dukou-gateway"
    settings = (
        f"`dukou serve gateway.toml` before {_REPLICAS} × `dukou serve FILE`, all with their defaults; the CPU "
        "and the memory are the gateway's, without its replicas'"
    )

    def versions(self) -> dict[str, str]:
        """Ours."""
        return Dukou().versions()

    @contextmanager
    def start(self, digits: Digits, folder: Path) -> Iterator[Running]:
        """All on port 0."""
        with contextlib.ExitStack() as stack:
            replicas = [
                stack.enter_context(serve([digits.files["1"]], folder / f"replica-{at}"))[1]["url"]
                for at in range(_REPLICAS)
            ]
            folder.mkdir(parents=True, exist_ok=True)
            document = folder / "gateway.toml"
            document.write_text(
                f'name = "gateway"\n[[models]]\nname = "{NAME}"\n'
                f"[models.remote]\nreplicas = {replicas}\n"
            )
            server, facts = stack.enter_context(serve([], folder, [str(document)]))
            url = f"{facts['url']}/v2/models/{NAME}/infer"
            yield Running(server.pid, url, server.command, server.started_at)
