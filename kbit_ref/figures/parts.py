"""Parts of a picture: lines with intervals, scales, and the legend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kbit_ref.figures.ink import Axes, Figure, Look
from kbit_ref.figures.relative import relative
from kbit_ref.study.curves import Curve

__all__ = [
    *("MEASURES", "TOTAL", "dressed", "legend", "line", "lines", "plain_ticks", "quality", "ratios", "shaded"),
    "short",
]

MEASURES = {
    "excess": "excess loss (nats a token)",
    "loss": "loss (nats a token)",
    "accuracy": "zero-shot accuracy",
}
TOTAL = "total model bits"


def lines(axes: Axes, found: Mapping[str, Curve], looks: Mapping[str, Look]) -> None:
    """A line with intervals for each curve."""
    for label, curve in found.items():
        x = [point.total_bits for point in curve.points]
        line(axes, label, x, [point.quality for point in curve.points], looks[label])


def ratios(
    axes: Axes, found: Mapping[str, Curve], looks: Mapping[str, Look], rivals: Sequence[Curve], least: int = 1
) -> None:
    """The same, divided by the best of the rivals at the same total bits, see `relative`."""
    axes.axhline(1, color="#555555", linewidth=0.9)
    for label, curve in found.items():
        points = relative(curve, rivals, least)
        line(axes, label, [x for x, _ in points], [e for _, e in points], looks[label])
    axes.set_xscale("log")
    axes.set_xlabel(TOTAL)
    axes.set_yscale("log")
    _few_ticks(axes.yaxis)


def shaded(axes: Axes, found: Sequence[Curve]) -> None:
    """Gray where not all curves are measured; the scale of x stays."""
    ends = axes.get_xlim()
    first, last = max(curve.first for curve in found), min(curve.last for curve in found)
    for low, high in [(ends[0], first), (last, ends[1])] if first < last else [ends]:
        axes.axvspan(low, high, color="#EEEEEE", linewidth=0, zorder=0)
    axes.set_xlim(ends)


def line(axes: Axes, label: str, x: Sequence[float], estimates: Sequence[Any], look: Look, name: str = "") -> None:
    """A line with intervals, where they are known."""
    known = [(at, e.low, e.high) for at, e in zip(x, estimates, strict=True) if math.isfinite(e.high - e.low)]
    if known:
        at, low, high = zip(*known, strict=True)
        axes.vlines(at, low, high, color=look.colour, linewidth=0.9, alpha=0.8)
    axes.plot(x, [e.value for e in estimates], label=label, gid=f"line {name or label}", **look.words)


def dressed(axes: Axes, measure: str, chance: float | None = None) -> None:
    """Scales and labels of an axis of quality over total bits."""
    axes.set_xscale("log")
    quality(axes, measure, chance)
    axes.set_xlabel(TOTAL)


def short(measure: str) -> str:
    """What a measure is called, without its unit."""
    return MEASURES[measure].partition(" (")[0]


def quality(axes: Axes, measure: str, chance: float | None) -> None:
    """Scale and label of a measure; for accuracy a line for guessing."""
    if measure != "accuracy":
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    elif chance is not None:
        axes.axhline(chance, color="#555555", linewidth=0.9, linestyle=(0, (1, 2)))
        axes.annotate("chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                      textcoords="offset points", ha="right", va="bottom", fontsize=8, color="#555555")  # fmt: skip
    axes.set_ylabel(MEASURES[measure])


def plain_ticks(axis: Any) -> None:
    """1, 2, 3, 5, 7 in every decade, written as people do."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0, 7.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _few_ticks(axis: Any) -> None:
    """About five, for less than a decade."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def legend(paper: Figure, all_axes: Sequence[Axes], title: str = "", order: Iterable[str] = ()) -> None:
    """One for all panels, above them; it has every label once, in as few rows as the paper is wide for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    handles: dict[str, Any] = dict.fromkeys(order)  # those of no panel are left out below
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if handles.get(label) is None:
                handles[label] = handle
    handles = {label: handle for label, handle in handles.items() if handle is not None}
    pen = FigureCanvasAgg(paper).get_renderer()
    for rows in range(1, len(handles) + 1):
        made = paper.legend(handles.values(), handles.keys(), loc="outside upper center", title=title or None,
                            ncols=-(-len(handles) // rows), handlelength=2.4, columnspacing=1.2)  # fmt: skip
        if made.get_window_extent(pen).width <= paper.bbox.width or rows == len(handles):
            break
        made.remove()
