"""The plots of a report, as SVG. Each takes facts and draws what they hold, nothing else.

Their words stay words: the browser that shows the report draws them, with the fonts of the reader's
machine. The machine that made the report needs no font with Chinese characters, and whoever reads it
can search and copy them.
"""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is better small is not drawn among what is better large.
_LOSSES = frozenset({"log_loss", "brier", "calibration_error", "rmse", "mae"})
_BLUE, _ORANGE, _GREY = "#1f6f8b", "#e07a3f", "#8a8f98"

# Of a label, in its height: the width of a character, and of a Chinese one.
_NARROW, _WIDE = 0.6, 1.1
_LABEL_POINTS = 10
_LONGEST_LABEL = 24


def draw_confusion(labels: Sequence[Any], matrix: Sequence[Sequence[int]]) -> str:
    """Rows are the truth, columns the prediction; the diagonal is left pale so that errors show."""
    import numpy as np

    counts = np.asarray(matrix, dtype=float)
    off = counts.copy()
    np.fill_diagonal(off, 0)
    names = [_shown(label) for label in labels]
    upright = _upright(names, inches=3.2)
    figure = _figure(5.2 + _widest(names), 4.6 + (_widest(names) if upright else 0))
    axes = figure.add_subplot()
    axes.imshow(off, cmap="Oranges", vmin=0, vmax=max(1.0, off.max()))
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            dark = off[row, column] > off.max() / 2
            axes.text(
                column,
                row,
                f"{int(counts[row, column])}",
                ha="center",
                va="center",
                size=8,
                color="white" if dark else "black",
            )
    axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return _svg(figure)


def draw_folds(values: Sequence[float], metric: str) -> str:
    """One point a fold, the mean as a line."""
    figure = _figure(5.2, 2.2)
    axes = figure.add_subplot()
    axes.plot(range(1, len(values) + 1), values, "o", color=_BLUE)
    axes.axhline(sum(values) / len(values), color=_ORANGE, linewidth=1)
    axes.set_xticks(range(1, len(values) + 1))
    axes.set_xlabel("fold")
    axes.set_ylabel(metric)
    return _svg(figure)


def draw_metrics(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Each metric with its interval."""
    names = [n for n in metrics if n not in _LOSSES] or [*metrics]
    figure = _figure(5.2, 0.5 + 0.32 * len(names))
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        m = metrics[name]
        axes.plot([m["low"], m["high"]], [row, row], color=_BLUE, linewidth=2)
        axes.plot(m["value"], row, "o", color=_ORANGE)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("value with its 95 % interval")
    return _svg(figure)


def draw_calibration(bins: Sequence[Mapping[str, Any]]) -> str:
    """What came true over what was said, a point a bin with its interval; right is the diagonal."""
    figure = _figure(5.2, 4.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
    for part in bins:
        came = part["came"]
        axes.plot([part["said"]] * 2, [came["low"], came["high"]], color=_BLUE, linewidth=2)
    said = [part["said"] for part in bins]
    axes.plot(said, [part["came"]["value"] for part in bins], "o-", color=_ORANGE, linewidth=1)
    axes.set_xlabel("said: mean probability of the bin")
    axes.set_ylabel("came true: share of its rows")
    return _svg(figure)


def draw_variants(candidates: Sequence[Mapping[str, Any]], chosen: str) -> str:
    """A row a measured variant, with its size: its time in the engine, alone and in company."""
    rows = [c for c in candidates if c["latency_us"] is not None]
    figure = _figure(7.6, 1.0 + 0.34 * len(rows))
    for place, (key, title) in enumerate((("latency_us", "alone"), ("busy_us", "in company")), 1):
        axes = figure.add_subplot(1, 2, place)
        for row, candidate in enumerate(rows):
            picked = candidate["variant"] == chosen
            time_us, color = candidate[key], _ORANGE if picked else _GREY
            axes.plot([time_us["low"], time_us["high"]], [row, row], color=color, linewidth=2)
            axes.plot(time_us["value"], row, "o", color=color, markersize=9 if picked else 6)
        names = [f"{c['variant']}, {c['size_bytes'] / 1024:,.0f} KiB" for c in rows]
        axes.set_yticks(range(len(rows)), names if place == 1 else [""] * len(rows))
        axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_title(title, size=10)
        axes.set_xlabel("compute, µs a request")
    return _svg(figure)


def draw_lines(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    names: tuple[str, str],
    marks: Mapping[float, str],
) -> str:
    """Lines over a common axis.

    Args:
        x: places on it.
        lines: what each is called → its values.
        names: of the two axes.
        marks: place → what happened there.
    """
    figure = _figure(7.6, 3.0)
    axes = figure.add_subplot()
    for (name, values), color in zip(lines.items(), (_BLUE, _ORANGE, _GREY), strict=False):
        axes.plot(x, values, color=color, label=name)
    for place, name in marks.items():
        axes.axvline(place, color=_GREY, linewidth=0.8, linestyle=":")
        axes.annotate(name, (place, 0.02), xycoords=("data", "axes fraction"), size=7, rotation=90)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.legend(loc="lower left", fontsize=8)
    return _svg(figure)


def draw_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, names: tuple[str, str]
) -> str:
    """Curves of points between 0 and 1, over the diagonal.

    Args:
        curves: what each is called → its points.
        names: of the two axes.
    """
    figure = _figure(5.2, 4.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
    for (name, points), color in zip(curves.items(), (_GREY, _ORANGE, _BLUE), strict=False):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, "o-", color=color, linewidth=1, label=name)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.legend(loc="upper left", fontsize=8)
    return _svg(figure)


def draw_balance(counts: Mapping[str, int]) -> str:
    """Rows of each class."""
    names = [_shown(name) for name in counts]
    upright = _upright(names, inches=4.4)
    figure = _figure(5.2, 2.2 + (_widest(names) if upright else 0))
    axes = figure.add_subplot()
    axes.bar(range(len(names)), list(counts.values()), color=_BLUE)
    axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
    axes.set_ylabel("rows")
    return _svg(figure)


def _shown(label: Any) -> str:
    """A label of the user's as it stands beside an axis."""
    text = str(label)
    if len(text) > _LONGEST_LABEL:
        text = text[: _LONGEST_LABEL - 1] + "…"
    # What stands between two `$` would be taken for a formula.
    return text.replace("$", r"\$")


def _widest(names: Sequence[str]) -> float:
    """Inches that the longest label takes, about: the font may lack some of its characters."""
    em = max((sum(map(_width, name)) for name in names), default=0.0)
    return em * _LABEL_POINTS / 72


def _width(character: str) -> float:
    return _WIDE if unicodedata.east_asian_width(character) in "WF" else _NARROW


def _upright(names: Sequence[str], *, inches: float) -> bool:
    """Whether labels would run into each other side by side on an axis of this length."""
    return (_widest(names) + 0.1) * len(names) > inches


def draw_histogram(edges: Sequence[float], counts: Sequence[int], mean: float) -> str:
    """Rows by the number that is to be predicted, and the mean."""
    figure = _figure(5.2, 2.4)
    axes = figure.add_subplot()
    axes.stairs(counts, edges, fill=True, color=_BLUE)
    axes.axvline(mean, color=_ORANGE, linewidth=1)
    axes.set_xlabel("target, with its mean")
    axes.set_ylabel("rows")
    return _svg(figure)


def draw_answers(answers: Sequence[Sequence[float]]) -> str:
    """A regression's pairs of true and predicted: against each other, and what is left over."""
    true, predicted = [pair[0] for pair in answers], [pair[1] for pair in answers]
    figure = _figure(7.6, 3.6)
    axes = figure.add_subplot(1, 2, 1)
    ends = [min(*true, *predicted), max(*true, *predicted)]
    axes.plot(ends, ends, color=_GREY, linewidth=0.8, linestyle=":")
    axes.plot(true, predicted, "o", color=_BLUE, markersize=3, alpha=0.6)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes = figure.add_subplot(1, 2, 2)
    axes.axhline(0, color=_GREY, linewidth=0.8, linestyle=":")
    left = [said - was for was, said in zip(true, predicted, strict=True)]
    axes.plot(predicted, left, "o", color=_ORANGE, markersize=3, alpha=0.6)
    axes.set_xlabel("predicted")
    axes.set_ylabel("predicted less true")
    return _svg(figure)


def _figure(width: float, height: float) -> Figure:
    # The object interface: no pyplot, no global state, no display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    sink = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        # It measures with a font of its own, and what that lacks is not drawn here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    return text[text.index("<svg") :]
