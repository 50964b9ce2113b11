"""A project's privacy tags on the line: whether they are whole, and what may travel with a version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.lifecycle.project import Project
from dukou.lifecycle.stage import Line
from dukou.trust.privacy.patterns import mask_personal
from dukou.trust.privacy.policy import EVERY, OUTPUT, PrivacyPolicy
from dukou.trust.privacy.secret import load_or_create_privacy_key
from dukou.trust.privacy.tags import apply_tag, keyed_hash

if TYPE_CHECKING:
    import numpy as np

    from dukou.model.model import Model

    Array = np.ndarray[Any, Any]


def policy_of(line: Line) -> PrivacyPolicy:
    """The project's policy, with the columns that the data stage found."""
    project = line.project
    return project.privacy.policy(line.facts("data")["features"], project.data.target)


def check_tags(project: Project, features: Iterable[str]) -> PrivacyPolicy:
    """Whether every tag is of a field that there is, and every field has one where requests are kept.

    Raises:
        InputError: `privacy.unknown-field`, `privacy.untagged`.
    """
    columns, target = list(features), project.data.target
    policy = project.privacy.policy(columns, target)
    answers = [name for name in policy.fields if name.startswith(OUTPUT)]
    policy.require_known([*columns, target, *project.data.drop, *answers])
    if project.monitor.capture:
        policy.require_tags(columns, project.model.name)
    return policy


def check_answers(policy: PrivacyPolicy, model: Model) -> None:
    """Whether every tag of an answer is of one that the model gives.

    Raises:
        InputError: `privacy.unknown-field`.
    """
    outputs = [OUTPUT + spec.name for spec in model.signature.outputs]
    said = {name: tag for name, tag in policy.fields.items() if name.startswith(OUTPUT)}
    PrivacyPolicy(said).require_known(outputs)


def require_learnable(policy: PrivacyPolicy, features: Iterable[str], model: str) -> None:
    """Refuses to learn from captures of which a feature is gone: no caller sends what would be learnt.

    Raises:
        InputError: `privacy.not-learnable`.
    """
    gone = [name for name in features if not policy.column_tag(name, text=True).keeps_values]
    if gone:
        shown = ", ".join(
            f"`{name}` ({policy.column_tag(name, text=True).kind})" for name in gone[:5]
        )
        raise InputError(
            "privacy.not-learnable",
            f"the requests of `{model}` are kept without what the model takes: {shown}",
        )


def secret_of(line: Line, policy: PrivacyPolicy) -> bytes:
    """The key for keyed hashes; none is made where none is asked for."""
    if any(tag.kind == "hash" for tag in policy.fields.values()):
        return load_or_create_privacy_key(line.home).current
    return b""


def travel_marks(line: Line) -> dict[str, Any] | None:
    """What golden samples depend on beside the model; None where nothing is tagged."""
    policy = policy_of(line)
    if not policy.fields:
        return None
    secret = secret_of(line, policy)
    return {"tags": policy.to_json(), "key": keyed_hash(secret, "mark") if secret else ""}


def make_golden_private(model: Model, policy: PrivacyPolicy, secret: bytes) -> Model:
    """The model with golden samples that may travel: their inputs as the tags say, and what it answers.

    Where the model refuses such inputs, samples are made up instead.
    """
    from dukou.evaluate.predict import run_model
    from dukou.formats.golden import record_golden
    from dukou.model.golden import GoldenSamples

    if model.golden is None:
        return model
    changed, samples = False, []
    for inputs, outputs in model.golden.samples:
        private = {}
        for name, array in inputs.items():
            private[name] = make_input_private(policy, name, array, secret)
            changed = changed or private[name] is not array
        samples.append((private, outputs))
    if not changed:
        return model
    try:
        answered = tuple((inputs, run_model(model, inputs)) for inputs, _ in samples)
    except InputError:
        made_up, _ = record_golden(model.signature, lambda asked: run_model(model, asked), None)
        return model.replace(golden=made_up)
    golden = GoldenSamples(answered, model.golden.tolerance, model.golden.classes)
    return model.replace(golden=golden)


def record_golden_of(model: Model, rows: Path, target: str) -> Model:
    """The model with golden samples of these rows instead.

    Raises:
        InputError: `data.*`.
    """
    from dukou.evaluate.data import load_table
    from dukou.evaluate.predict import run_model
    from dukou.formats.golden import record_golden

    table = load_table(rows)
    samples = {name: column for name, column in table.columns.items() if name != target}
    golden, _ = record_golden(model.signature, lambda asked: run_model(model, asked), samples)
    return model.replace(golden=golden)


def make_input_private(policy: PrivacyPolicy, name: str, array: Array, secret: bytes) -> Array:
    """An input's rows as they may travel; the very array where nothing changes."""
    text = array.dtype.kind in "OUS"
    flat = array.reshape(len(array), -1) if array.ndim else array.reshape(1, -1)
    tags = policy.for_travel().input_tags(name, flat.shape[1], text=text)
    if all(tag.kind == "keep" or (tag.kind == "detect" and not text) for tag in tags):
        return array
    private = flat.copy()
    for tag in set(tags):
        columns = [i for i in range(flat.shape[1]) if tags[i if len(tags) > 1 else 0] == tag]
        private[:, columns] = apply_tag(tag, flat[:, columns], secret)
    same = private == flat
    if text and bool(same.all()):
        return array
    return private.reshape(array.shape)


def make_columns_private(
    policy: PrivacyPolicy, columns: Mapping[str, Array], secret: bytes
) -> tuple[dict[str, Array], list[str]]:
    """Columns as a profile may count them, and the names of those of which nothing may travel."""
    travelling, kept, gone = policy.for_travel(), {}, []
    for name, column in columns.items():
        tag = travelling.column_tag(name, text=column.dtype.kind in "OUS")
        if not tag.keeps_values:
            gone.append(name)
        kept[name] = apply_tag(tag, column, secret) if tag.keeps_values else column
    return kept, gone


def make_limits_private(
    policy: PrivacyPolicy, limits: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The limits of a model as its card may carry them.

    Without those that say a value of a field that does not travel as it is: a part of the rows, a
    range, the texts that were seen, the classes.
    """
    changed = {name for name, tag in policy.fields.items() if tag.kind not in ("keep", "detect")}
    found = []
    for limit in limits:
        said = str(limit.get("slice") or "")
        if any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said) for name in changed):
            continue
        if limit["kind"] == "rare-class" and policy.target in changed:
            continue
        private = dict(limit)
        for text in ("sentence", "slice"):
            if isinstance(private.get(text), str):
                private[text] = mask_personal(private[text])
        if "features" in private:
            private["features"] = {
                name: _without_personal(known)
                for name, known in private["features"].items()
                if name not in changed and not (EVERY in changed and name not in policy.fields)
            }
        found.append(private)
    return found


def _without_personal(known: Mapping[str, Any]) -> dict[str, Any]:
    values = known.get("values")
    return {**known, "values": sorted(set(map(mask_personal, values)))} if values else dict(known)
