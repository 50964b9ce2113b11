"""The five strategies of deployment, as data: what each is good at, where it ends, what carries it out."""

from __future__ import annotations

from dataclasses import dataclass

from dukou.deploy.document import Profile


@dataclass(frozen=True, slots=True)
class Strategy:
    """One strategy.

    Attributes:
        profile: its name in `[deploy]`.
        place: the word for it on a command line.
        advantage: what it is chosen for.
        limit: what it costs.
        means: what carries it out; the command stands in `dukou.deploy.placement`.
    """

    profile: Profile
    place: str
    advantage: str
    limit: str
    means: str


STRATEGIES = (
    Strategy(
        "centralized",
        "here",
        "simple, easy to maintain: one engine on one machine",
        "may become the bottleneck, and is the one thing that can fail",
        "one server; it follows the registry",
    ),
    Strategy(
        "distributed",
        "cluster",
        "high concurrency: as many engines as it takes, and one may fail",
        "needs load balancing, and all must serve the same version",
        "replicas and a gateway before them, on this machine or placed by Ray (`--ray`)",
    ),
    Strategy(
        "edge",
        "device",
        "low latency and little traffic: the model runs where the data is",
        "limited compute, memory and energy; many devices to keep up to date",
        "a folder that runs without Python, updates itself by delta and rolls back; measure on the "
        "device itself",
    ),
    Strategy(
        "container",
        "container",
        "portable and isolated: the same image everywhere",
        "CPU and memory must be given and watched, for each",
        "an image of the engine and the model, without root and without Python; `dukou fleet "
        "manifests` writes what Kubernetes needs",
    ),
    Strategy(
        "microservice",
        "services",
        "independent: released and scaled apart from the services beside it",
        "services must stay consistent with each other, and every hop costs time",
        "a server for each model, and one document that joins them in sequences and ensembles",
    ),
)


@dataclass(frozen=True, slots=True)
class Trade:
    """What an optimization is chosen for, and what it costs."""

    advantage: str
    limit: str


# By the pass's name; a form of several passes has all of theirs.
OPTIMIZATIONS = {
    "simplify": Trade(
        "fewer nodes, the same answers", "gains little on a graph that is lean already"
    ),
    "int8": Trade(
        "weights of a quarter of the size", "costs some accuracy; on small models no faster"
    ),
    "int8-static": Trade(
        "activations in 8 bits too: the fastest form where the CPU has the instructions",
        "needs rows to calibrate with; costs some accuracy",
    ),
}
