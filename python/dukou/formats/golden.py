"""Golden samples are recorded: a few steady requests with the answers of the very graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.formats.runtime import runtime_errors, shorten
from dukou.model.golden import GoldenSamples, Tolerance
from dukou.model.rows import count_rows, fit_rows
from dukou.model.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from dukou.formats.reader import Samples

    Array = np.ndarray[Any, Any]
    Answer = Callable[[Mapping[str, Array]], dict[str, Array]]

# Requests of one row, and the rows of the one request that is a batch.
SINGLES, BATCH_ROWS = 8, 4
# How many rows are looked at to choose steady ones.
_LOOK_ROWS = 512
# A row is steady where its best class leads by this share of the widest lead.
_STEADY = 0.1
# Names that say that an output holds a number per class.
_CLASS_WORDS = ("prob", "logit", "score", "softmax")
# What made-up inputs of text say.
_WORDS = ["ferry", "river", "渡口", "crossing", "été", ""]


def record_golden(
    signature: Signature, answer: Answer, samples: Samples | None, *, seed: int = 0
) -> tuple[GoldenSamples | None, str]:
    """Golden samples of a graph, and a sentence where there are none.

    Args:
        signature: of the graph.
        answer: runs it: inputs by name → outputs by name.
        samples: rows of the user's data; seeded inputs are made where absent.
        seed: of the made inputs.

    Raises:
        InputError: `data.mismatch`, where `samples` do not fit the signature.
    """
    if samples is None:
        requests = _invent(signature, answer, seed)
        if not requests:
            return None, "no golden samples: the model refused every input that was made up for it"
    else:
        requests = _choose(signature, answer, fit_rows(signature, samples))
    recorded = []
    for request in requests:
        try:
            outputs, again = answer(request), answer(request)
        except runtime_errors() as error:
            raise InputError(
                "data.mismatch", f"the model refuses the samples: {shorten(str(error))}"
            ) from error
        if not all(_same(outputs[name], again[name]) for name in outputs):
            return None, "no golden samples: the model answers the same request in two ways"
        recorded.append((request, outputs))
    classes = find_classes(signature, recorded[0][1]) if recorded else None
    return GoldenSamples(tuple(recorded), _tolerance(signature), classes), ""


def find_classes(signature: Signature, outputs: Mapping[str, Array]) -> str | None:
    """The output that holds a number per class, where one does by its name, values or neighbours."""
    import numpy as np

    wide = [
        s
        for s in signature.outputs
        if s.dtype in ("FP16", "BF16", "FP32", "FP64") and outputs[s.name].ndim >= 2
        if outputs[s.name].shape[-1] >= 2
    ]
    if not wide:
        return None
    for spec in wide:
        if any(word in spec.name.lower() for word in _CLASS_WORDS):
            return spec.name
    beside_label = any(
        s.dtype in ("INT32", "INT64", "BYTES") and outputs[s.name].ndim == 1
        for s in signature.outputs
    )
    values = np.asarray(outputs[wide[0].name], dtype=np.float64)
    distribution = bool((values >= 0).all() and np.allclose(values.sum(-1), 1, atol=1e-3))
    return wide[0].name if beside_label or distribution else None


def _tolerance(signature: Signature) -> Tolerance:
    dtypes = {spec.dtype for spec in signature.outputs}
    if "BF16" in dtypes:
        return Tolerance(absolute=2e-2, relative=2e-2)
    if "FP16" in dtypes:
        return Tolerance(absolute=2e-3, relative=5e-3)
    return Tolerance()


def _same(one: Array, other: Array) -> bool:
    import numpy as np

    if one.shape != other.shape:
        return False
    if one.dtype.kind in "fV":
        return bool(
            np.allclose(
                one.astype(np.float64), other.astype(np.float64), 1e-5, 1e-6, equal_nan=True
            )
        )
    return bool((one == other).all())


def _choose(
    signature: Signature, answer: Answer, inputs: Mapping[str, Array]
) -> list[dict[str, Array]]:
    """Requests out of the user's rows: steady ones, of every class where there are classes."""
    rows = count_rows(inputs)
    if rows is None or rows == 0:
        return [dict(inputs)]
    fixed = {s.shape[0] for s in signature.inputs if s.shape and isinstance(s.shape[0], int)}
    step = fixed.pop() if fixed else 1
    if not isinstance(step, int) or fixed or rows < step:
        return [dict(inputs)]
    # Evenly over the whole: data sets are often sorted by class.
    looked = min(_LOOK_ROWS, rows // step)
    starts = [int(i * (rows // step) / looked) * step for i in range(looked)]
    if step > 1:
        return [_cut(inputs, range(start, start + step)) for start in starts[:SINGLES]]
    order = _steady_first(signature, answer, inputs, starts)
    requests = [_cut(inputs, range(row, row + 1)) for row in order[:SINGLES]]
    if signature.has_free_rows and len(order) >= BATCH_ROWS:
        requests.append(_cut(inputs, order[:BATCH_ROWS]))
    return requests


def _steady_first(
    signature: Signature, answer: Answer, inputs: Mapping[str, Array], rows: list[int]
) -> list[int]:
    """Rows whose class would survive a small error, the classes taking turns.

    A golden sample that sits on the fence between two classes would raise alarms on another
    CPU where nothing is wrong.
    """
    import numpy as np

    if not signature.has_free_rows:
        return rows
    try:
        outputs = answer(_cut(inputs, rows))
    except runtime_errors() as error:
        raise InputError(
            "data.mismatch", f"the model refuses the samples: {shorten(str(error))}"
        ) from error
    name = find_classes(signature, outputs)
    if name is None or outputs[name].ndim != 2 or len(outputs[name]) != len(rows):
        return rows
    scores = np.nan_to_num(np.asarray(outputs[name], dtype=np.float64))
    ordered = np.sort(scores, axis=1)
    lead = ordered[:, -1] - ordered[:, -2]
    steady = lead >= _STEADY * lead.max()
    queues: dict[int, list[int]] = {}
    for row, best, keep in zip(rows, scores.argmax(1).tolist(), steady.tolist(), strict=True):
        if keep:
            queues.setdefault(best, []).append(row)
    turns = max((len(queue) for queue in queues.values()), default=0)
    return [
        queue[turn] for turn in range(turns) for queue in queues.values() if turn < len(queue)
    ] or rows


def _cut(inputs: Mapping[str, Array], rows: range | list[int]) -> dict[str, Array]:
    import numpy as np

    return {name: np.ascontiguousarray(array[list(rows)]) for name, array in inputs.items()}


def _invent(signature: Signature, answer: Answer, seed: int) -> list[dict[str, Array]]:
    """Seeded requests that the model accepts; none where it accepts none that we think of."""
    import numpy as np

    for extent in (8, 1, 16, 32, 64, 128, 224, 3):
        rng = np.random.default_rng(seed)
        first = {s.name: _random(rng, s, 1, extent) for s in signature.inputs}
        try:
            answer(first)
        except runtime_errors():
            continue
        requests = [first]
        for rows in (*[1] * (SINGLES - 1), *([BATCH_ROWS] if signature.has_free_rows else [])):
            request = {s.name: _random(rng, s, rows, extent) for s in signature.inputs}
            try:
                answer(request)
            except runtime_errors():
                continue
            requests.append(request)
        return requests
    return []


def _random(rng: np.random.Generator, spec: TensorSpec, rows: int, extent: int) -> Array:
    shape = [
        dim if isinstance(dim, int) else rows if axis == 0 else extent
        for axis, dim in enumerate(spec.shape)
    ]
    kind = spec.to_numpy()
    if spec.dtype == "BYTES":
        return rng.choice(_WORDS, size=shape).astype(object)
    if spec.dtype == "BOOL":
        return rng.integers(0, 2, size=shape).astype(kind)
    if spec.dtype.startswith(("INT", "UINT")):
        # Small: integers are mostly indices (tokens, categories), and 0 and 1 exist in each.
        return rng.integers(0, 2, size=shape).astype(kind)
    return rng.standard_normal(size=shape).astype(kind)
