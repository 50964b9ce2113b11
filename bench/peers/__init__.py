"""What is compared: one file a server, one line in the table below."""

from __future__ import annotations

import importlib
from typing import Any

from bench.peers.peer import Peer
from bench.workplace import BenchError

# name on the command line and in reports → where it is.
PEERS = {
    "echo": "bench.peers.echo:Echo",
    "echo-grpc": "bench.peers.echo:EchoCalls",
    "echo-both-ways": "bench.peers.images:EchoBothWays",
    "naive-rust": "bench.peers.naive_rust:NaiveRust",
    "dukou": "bench.peers.dukou:Dukou",
    "dukou-cached": "bench.peers.dukou:DukouCached",
    "dukou-guarded": "bench.peers.dukou:DukouGuarded",
    "dukou-gateway": "bench.peers.gateway:DukouGateway",
    "triton": "bench.peers.triton:Triton",
    "dukou-grpc": "bench.peers.dukou:DukouCalls",
    "dukou-images": "bench.peers.images:DukouImages",
    "triton-images": "bench.peers.images:TritonImages",
    "triton-grpc": "bench.peers.triton:TritonCalls",
    "mosec": "bench.peers.mosec:Mosec",
}


def open_peer(name: str) -> Peer[Any]:
    """The peer of this name.

    Raises:
        BenchError: there is none.
    """
    if name not in PEERS:
        raise BenchError(f"`{name}` is not one of {', '.join(PEERS)}")
    module, _, attribute = PEERS[name].partition(":")
    peer: Peer[Any] = getattr(importlib.import_module(module), attribute)()
    return peer
