"""dukou carries a trained model across to production and keeps it healthy there.

The folders below stand in the order of a model's life; a test compares this list with the disk:

    base       ids, errors, settings: what every room may use
    model      what a model is: signature, golden samples, card, lineage
    trust      sign, verify, keys, the trust store
    formats    a file of any framework becomes a Model
    evaluate   a Model and data become an Evaluation; gates stop the line
    optimize   smaller or faster variants, kept only where they prove better
    package    an immutable, signed, content-addressed version
    registry   names, versions, aliases, deployments, an audit chain
    deploy     a deployment becomes a ServingTable
    serve      the supervisor and the engine process
    control    the loop that holds the engine at the desired table
    lifecycle  the project file and its runner: the only place that knows the whole order
    cli        one file a noun: parse, call, show

Everything here is imported on first use: `import dukou` costs next to nothing.
"""

from __future__ import annotations

from dukou.base.lazy import lazy_attributes

__version__ = "0.1.0"

# name → where it lives. The public surface, in one place.
_PUBLIC = {
    "DukouError": "dukou.base.errors:DukouError",
    "TensorSpec": "dukou.model.signature:TensorSpec",
    "Signature": "dukou.model.signature:Signature",
    "GoldenSamples": "dukou.model.golden:GoldenSamples",
    "Model": "dukou.model.model:Model",
}

__all__ = ["__version__", *_PUBLIC]

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
