"""A model is cut into stages that run one after the other, each with its own part of the weights.

`split_model` is the door: an outline of the graph (`outline`), the cuts that balance it (`balance`), the
stages written and proved equal to the whole (`stages`).
"""

from __future__ import annotations

from dukou.base.lazy import lazy_attributes

_PUBLIC = {
    "Split": "dukou.optimize.split.stages:Split",
    "Stage": "dukou.optimize.split.stages:Stage",
    "split_model": "dukou.optimize.split.stages:split_model",
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
