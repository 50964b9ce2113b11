"""Smaller or faster variants of a Model, judged through a Measure that is given."""

from __future__ import annotations

from dukou.base.lazy import lazy_attributes

_PUBLIC = {
    "Budget": "dukou.optimize.contract:Budget",
    "Candidate": "dukou.optimize.contract:Candidate",
    "Measure": "dukou.optimize.contract:Measure",
    "Measurement": "dukou.optimize.contract:Measurement",
    "Optimization": "dukou.optimize.contract:Optimization",
    "PASSES": "dukou.optimize.table:PASSES",
    "Pass": "dukou.optimize.contract:Pass",
    "optimize_model": "dukou.optimize.search:optimize_model",
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
