"""The five strategies of deployment, as data: what each is good at, where it ends, what is there today."""

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
        today: what this release does for it.
        missing: what this release does not do, and what to do instead; empty where it does all.
    """

    profile: Profile
    place: str
    advantage: str
    limit: str
    today: str
    missing: str = ""


STRATEGIES = (
    Strategy(
        "centralized",
        "here",
        "simple, easy to maintain: one engine on one machine",
        "may become the bottleneck, and is the one thing that can fail",
        "`dukou serve`",
    ),
    Strategy(
        "distributed",
        "cluster",
        "high concurrency: as many engines as it takes, and one may fail",
        "needs load balancing, and all must serve the same version",
        "signed versions that every machine verifies by itself",
        "no gateway and no replicas yet: start `dukou serve` on each machine behind a balancer of "
        "your own",
    ),
    Strategy(
        "edge",
        "device",
        "low latency and little traffic: the model runs where the data is",
        "limited compute, memory and energy; many devices to keep up to date",
        "smaller forms, an engine that needs no Python",
        "nothing brings versions to devices yet: copy the folder of a version, and measure on the "
        "device itself",
    ),
    Strategy(
        "container",
        "container",
        "portable and isolated: the same image everywhere",
        "CPU and memory must be given and watched, for each",
        "limits of a control group are seen by `dukou doctor`, and heeded",
        "no image and no manifests are written yet: `pip install` dukou into an image of your own",
    ),
    Strategy(
        "microservice",
        "services",
        "independent: released and scaled apart from the services beside it",
        "services must stay consistent with each other, and every hop costs time",
        "a server of its own for each model, with its own version and limits",
        "nothing keeps several services consistent yet: name versions by number (`digits:3`) in the "
        "services that call",
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
