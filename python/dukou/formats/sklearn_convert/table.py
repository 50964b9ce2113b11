"""The rows that a scikit-learn model is asked: as the framework wants them, and as the graph will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.formats.child import ConversionError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Rows that are made up where the user gave none.
INVENTED_ROWS = 256
_WORDS = ["ferry", "river", "boat", "crossing", "cargo", "harbour", "tide", "rope"]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, in the model's order.

    Attributes:
        columns: `(rows,)` each; text or numbers.
        by_column: whether the graph has an input a column, or one matrix `x`.
        named: whether the model was fitted on a table with names and picks columns by them.
        is_text: whether the model takes a list of texts.
    """

    columns: Mapping[str, Array]
    by_column: bool
    named: bool
    is_text: bool

    def matrix(self) -> Array:
        """`(rows, columns)`, object where a column is text."""
        import numpy as np

        kinds = [column.dtype.kind for column in self.columns.values()]
        dtype = object if any(kind in "OUS" for kind in kinds) else np.float64
        return np.stack([c.astype(dtype) for c in self.columns.values()], axis=1)

    def for_framework(self) -> Any:
        """What `predict` takes: a list, a matrix or a table with names."""
        if self.is_text:
            return next(iter(self.columns.values())).astype(str).tolist()
        if not self.named:
            return self.matrix()
        try:
            import pandas
        except ImportError as error:
            raise ConversionError(
                "formats.missing-extra",
                "the model picks columns by name, which needs `pandas` as when it was trained",
            ) from error
        return pandas.DataFrame(
            {
                name: column.astype(object) if is_text(column) else column
                for name, column in self.columns.items()
            }
        )

    def used(self) -> dict[str, Array]:
        """What the graph takes, by the names of its inputs."""
        if self.by_column:
            return dict(self.columns)
        return {"x": self.matrix()}


def is_text(column: Array) -> bool:
    """Whether a column holds strings."""
    return column.dtype.kind in "OUS"


def read_table(path: Path, model: Any, samples: Path | None) -> Table:
    """The user's rows, or made-up ones, in the model's order.

    Raises:
        ConversionError: `data.mismatch` where columns are missing or of another number.
    """
    first = _first_step(model)
    text_model = "Vectorizer" in type(first).__name__ and hasattr(first, "vocabulary_")
    columns = _invent(path, model, text_model) if samples is None else _load(path, model, samples)
    picks_by_name = any(
        isinstance(name, str)
        for transformer in _iter_column_transformers(model)
        for name in _named_columns(transformer)
    )
    has_text = any(is_text(column) for column in columns.values())
    if text_model and len(columns) != 1:
        raise ConversionError(
            "data.mismatch",
            f"`{path}` takes one column of text, the samples have {len(columns)}",
        )
    return Table(
        columns,
        by_column=has_text or picks_by_name,
        named=picks_by_name,
        is_text=text_model,
    )


def _load(path: Path, model: Any, samples: Path) -> dict[str, Array]:
    import numpy as np

    with np.load(samples, allow_pickle=False) as archive:
        given = {str(name): archive[f"column{i}"] for i, name in enumerate(archive["names"])}
    columns: dict[str, Array] = {}
    for name, array in given.items():
        if array.ndim == 1:
            columns[name] = array
        else:
            flat = array.reshape(len(array), -1)
            for i in range(flat.shape[1]):
                columns[f"{name}{i}"] = flat[:, i]
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if names and set(names) <= set(columns):
        return {name: columns[name] for name in names}
    wanted = getattr(model, "n_features_in_", len(columns))
    if wanted != len(columns):
        raise ConversionError(
            "data.mismatch",
            f"`{path}` was fitted on {wanted} columns, the samples have {len(columns)}",
        )
    if names:
        return dict(zip(names, columns.values(), strict=True))
    return columns


def _invent(path: Path, model: Any, text_model: bool) -> dict[str, Array]:
    """Seeded rows: text from the encoders' own categories, numbers at several scales."""
    import numpy as np

    rng = np.random.default_rng(0)
    if text_model:
        lines = [" ".join(rng.choice(_WORDS, size=4)) for _ in range(INVENTED_ROWS)]
        return {"x": np.array(lines)}
    count = getattr(model, "n_features_in_", None)
    if count is None:
        raise ConversionError(
            "data.mismatch", f"`{path}` does not say what it takes: rows of its data are needed"
        )
    names = [str(n) for n in getattr(model, "feature_names_in_", ())]
    names = names or [f"x{i}" for i in range(count)]
    categories = _known_categories(model, names)
    # Centres and widths of a first scaler, where there is one, are where the data was.
    first = _first_step(model)
    centre = np.broadcast_to(first.mean_ if _is_scaler(first) else 0.0, count)
    width = np.broadcast_to(first.scale_ if _is_scaler(first) else 1.0, count)
    spread = rng.choice([0.1, 1.0, 10.0], size=INVENTED_ROWS)
    columns: dict[str, Array] = {}
    for i, name in enumerate(names):
        if name in categories:
            columns[name] = rng.choice(categories[name], size=INVENTED_ROWS)
        else:
            noise = rng.standard_normal(INVENTED_ROWS) * spread
            columns[name] = (centre[i] + width[i] * noise).astype(np.float32).astype(np.float64)
    return columns


def _is_scaler(step: Any) -> bool:
    return getattr(step, "mean_", None) is not None and getattr(step, "scale_", None) is not None


def _first_step(model: Any) -> Any:
    steps = getattr(model, "steps", None)
    return _first_step(steps[0][1]) if steps else model


def _iter_column_transformers(model: Any) -> Iterator[Any]:
    for _, step in getattr(model, "steps", None) or ():
        yield from _iter_column_transformers(step)
    if type(model).__name__ == "ColumnTransformer":
        yield model


def _named_columns(transformer: Any) -> list[Any]:
    """The columns of each part as the user wrote them."""
    found: list[Any] = []
    for _, _, columns in transformer.transformers:
        found += columns if isinstance(columns, list | tuple) else [columns]
    return found


def _known_categories(model: Any, names: list[str]) -> dict[str, list[str]]:
    """Columns of text by the categories that an encoder learned of them."""
    found: dict[str, list[str]] = {}
    for transformer in _iter_column_transformers(model):
        for _, part, columns in transformer.transformers_:
            for step in [part, *(s for _, s in getattr(part, "steps", None) or ())]:
                learned = getattr(step, "categories_", None)
                chosen = columns if isinstance(columns, list | tuple) else [columns]
                if learned is None or len(learned) != len(chosen):
                    continue
                for column, values in zip(chosen, learned, strict=True):
                    name = names[column] if isinstance(column, int) else str(column)
                    if values.dtype.kind in "OUS":
                        found[name] = [str(value) for value in values if isinstance(value, str)]
    return found
