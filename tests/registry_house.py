"""A house whose registry holds versions of a small model, each answering differently."""

from __future__ import annotations

from pathlib import Path

from dukou.package.package import PackagedVersion
from dukou.registry.registry import ANYTHING, Registry
from tests.artifacts import Place, make_layers, make_model
from tests.serving import House


def publish(house: House, folder: Path, *, seed: int, name: str = "chain") -> PackagedVersion:
    """Packages, signs and registers a version of `x` FP32 [n, 4] → `y` FP32 [n, 3]."""
    place = Place.make(house.home.parent)
    assert place.home == house.home
    packaged = place.publish(
        make_model(folder / f"{name}-{seed}", *make_layers(4, 3, seed=seed)), name
    )
    with Registry.open(house.home) as registry:
        registry.register_version(name, packaged.digest)
    return packaged


def move_alias(house: House, number: int, *, name: str = "chain", alias: str = "champion") -> None:
    """Moves the alias, whatever it was."""
    with Registry.open(house.home) as registry:
        registry.set_alias(name, alias, number, expected=ANYTHING)
