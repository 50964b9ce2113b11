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
    monitor    captured requests, drift, quality, logs
    rollout    from facts to a decision: the next step, hold, or roll back
    control    the loop that holds the engine at the desired table
    lifecycle  the project file and its runner: the only place that knows the whole order
    fleet      beyond one machine: replicas, images, Kubernetes; one file a target
    edge       devices that serve alone: their folder, their status, their reports
    cli        one file a noun: parse, call, show

Everything here is imported on first use: `import dukou` costs next to nothing.
"""

from __future__ import annotations

from dukou.base.lazy import lazy_attributes

__version__ = "0.1.0"

# name → where it lives. The public surface, in one place.
_PUBLIC = {
    "DukouError": "dukou.base.errors:DukouError",
    "dukou_home": "dukou.base.settings:dukou_home",
    "TensorSpec": "dukou.model.signature:TensorSpec",
    "Signature": "dukou.model.signature:Signature",
    "GoldenSamples": "dukou.model.golden:GoldenSamples",
    "Model": "dukou.model.model:Model",
    "load_or_create_signing_key": "dukou.trust.keys:load_or_create_signing_key",
    "load_trust_store": "dukou.trust.keys:load_trust_store",
    "open_model": "dukou.formats.open:open_model",
    "load_table": "dukou.evaluate.data:load_table",
    "evaluate_model": "dukou.evaluate.tasks:evaluate_model",
    "Budget": "dukou.optimize.contract:Budget",
    "optimize_model": "dukou.optimize.search:optimize_model",
    "EngineMeasure": "dukou.lifecycle.measure:EngineMeasure",
    "Store": "dukou.package.store:Store",
    "package_model": "dukou.package.package:package_model",
    "open_version": "dukou.package.unpack:open_version",
    "Registry": "dukou.registry.registry:Registry",
    "Server": "dukou.serve.server:Server",
    "serve": "dukou.serve:room",
    "Project": "dukou.lifecycle.project:Project",
    "load_project": "dukou.lifecycle.project:load_project",
    "create_project": "dukou.lifecycle.create:create_project",
    "ship": "dukou.lifecycle.runner:ship",
}

__all__ = ["__version__", *_PUBLIC]

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
