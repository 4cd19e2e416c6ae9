"""The pictures of the study; they draw rows that lower floors computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from kbit_ref.figures.ink import PLAIN, Axes, Figure, Look, drawn, figure, named, ordered, style
from kbit_ref.study.curves import Curve
from kbit_ref.study.distortion import Distortion
from kbit_ref.study.gathered import Pictured
from kbit_ref.study.kinds import KINDS
from kbit_ref.study.sources import SOURCES, lloyd_max

__all__ = ["blocks", "draw", "kinds", "performance", "precisions", "rate_distortion", "training"]

MEASURES = {
    "excess": "excess loss (nats a token)",
    "loss": "loss (nats a token)",
    "accuracy": "zero-shot accuracy",
}
TOTAL = "total model bits"


# Curves over total bits ---------------------------------------------------------------------------


def _lines(axes: Axes, found: Mapping[str, Curve], looks: Mapping[str, Look]) -> None:
    """A line with intervals for each curve."""
    for label, curve in found.items():
        colour, marker, dashes = looks[label]
        x = [point.total_bits for point in curve.points]
        y = [point.quality.value for point in curve.points]
        _bars(axes, x, [point.quality for point in curve.points], colour)
        axes.plot(x, y, color=colour, marker=marker, linestyle=dashes, label=label, markeredgecolor="white",
                  markeredgewidth=0.5, gid=f"line {label}")  # fmt: skip


def _bars(axes: Axes, x: Sequence[float], estimates: Sequence[Any], colour: str) -> None:
    """Intervals as thin upright lines, where they are known."""
    known = [(at, e.low, e.high) for at, e in zip(x, estimates, strict=True) if math.isfinite(e.high - e.low)]
    if known:
        at, low, high = zip(*known, strict=True)
        axes.vlines(at, low, high, color=colour, linewidth=0.9, alpha=0.8)


def _dressed(axes: Axes, measure: str, chance: float | None = None) -> None:
    """Scales and labels of an axis of quality over total bits."""
    axes.set_xscale("log")
    _quality(axes, measure, chance)
    axes.set_xlabel(TOTAL)


def _quality(axes: Axes, measure: str, chance: float | None) -> None:
    if measure != "accuracy":
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    elif chance is not None:
        axes.axhline(chance, color="#555555", linewidth=0.9, linestyle=(0, (1, 2)))
        axes.annotate("chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                      textcoords="offset points", ha="right", va="bottom", fontsize=8, color="#555555")  # fmt: skip
    axes.set_ylabel(MEASURES[measure])


def _plain_ticks(axis: Any) -> None:
    """1, 2, 3, 5, 7 in every decade, written as people do."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0, 7.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def precisions(panels: Mapping[str, Sequence[Curve]], chance: float | None = None) -> Figure:
    """The paper's figure: quality against total model bits, one line a precision.

    Parameters
    ----------
    panels
        For each measure ("excess", "accuracy") one curve for each width, as `curves.by_precision` gives them.
    chance
        The accuracy of guessing.
    """
    with style():
        paper, all_axes = figure(1, len(panels), 3.4)
        widths = sorted({curve.series.bits for found in panels.values() for curve in found})
        looks = ordered([str(bits) for bits in widths if bits < 16]) | {"16": PLAIN}
        for axes, (measure, found) in zip(all_axes, panels.items(), strict=True):
            _lines(axes, {str(curve.series.bits): curve for curve in found}, looks)
            _dressed(axes, measure, chance)
        _legend(paper, all_axes, "bits")
        return paper


def _legend(
    paper: Figure, all_axes: Sequence[Axes], title: str = "", columns: int = 10, order: Iterable[str] = ()
) -> None:
    """One for all panels, above them; it has every label once, the title before them."""
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {title: Line2D([], [], linestyle="none")} if title else {}
    handles |= dict.fromkeys(order)  # those of no panel are left out below
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if handles.get(label) is None:
                handles[label] = handle
    handles = {label: handle for label, handle in handles.items() if handle is not None}
    paper.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(columns, len(handles)),
                 handlelength=2.4, columnspacing=1.2)  # fmt: skip


def kinds(panels: Mapping[int, Sequence[Curve]]) -> Figure:
    """Data types compared: a panel for each width, a line for each kind.

    Parameters
    ----------
    panels
        For each width the curves of its kinds, with the same blocks and method.
    """
    there = {curve.series.kind for found in panels.values() for curve in found}
    names = [*(kind for kind in KINDS if kind in there), *sorted(there - set(KINDS))]
    return _small_multiples(panels, named(names), lambda curve: curve.series.kind)


def blocks(panels: Mapping[int, Sequence[Curve]]) -> Figure:
    """Block sizes compared: a panel for each width, a line for each size.

    Parameters
    ----------
    panels
        For each width curves that differ in their blocks alone.
    """
    sizes = {curve.series.block for found in panels.values() for curve in found}
    names = [_block_name(size) for size in sorted(sizes, key=lambda size: size or math.inf)]
    with style():
        looks = ordered(names)
    return _small_multiples(panels, looks, lambda curve: _block_name(curve.series.block), "numbers a block")


def _block_name(size: int) -> str:
    return str(size) if size else "tensor"


def _small_multiples(
    panels: Mapping[int, Sequence[Curve]], looks: Mapping[str, Look], name: Callable[[Curve], str], title: str = ""
) -> Figure:
    """A panel for each width, in rows of three."""
    with style():
        columns = min(3, len(panels))
        lines = -(-len(panels) // columns)
        paper, all_axes = figure(lines, columns, 0.5 + 2.35 * lines, sharex=True)
        for axes in all_axes[len(panels) :]:
            axes.remove()
        for i, (axes, (bits, found)) in enumerate(zip(all_axes, panels.items(), strict=False)):
            by_name = {name(curve): curve for curve in found}
            _lines(axes, {label: by_name[label] for label in looks if label in by_name}, looks)
            _dressed(axes, found[0].measure)
            axes.set_title(f"{bits} bits")
            if i % columns:
                axes.set_ylabel("")
            if i + columns < len(panels):
                axes.set_xlabel("")
            axes.tick_params(labelbottom=i + columns >= len(panels))
        _legend(paper, all_axes[: len(panels)], title, columns=5, order=looks)
        return paper


# Quality over the width of a code -----------------------------------------------------------------


def performance(panels: Mapping[str, Sequence[Curve]], chance: float | None = None) -> Figure:
    """Does more k always help? Quality against k with intervals, a line for each size of model.

    Parameters
    ----------
    panels
        As of `precisions`.
    chance
        The accuracy of guessing.
    """
    with style():
        paper, all_axes = figure(1, len(panels), 3.4)
        for axes, (measure, found) in zip(all_axes, panels.items(), strict=True):
            sizes = {p.size: p.n_parameters for curve in found for p in curve.points}
            labels = {size: _count(sizes[size]) for size in sorted(sizes, key=lambda s: sizes[s])}
            looks = ordered(list(labels))
            for size, label in labels.items():
                points = [(c.series.bits, p) for c in found for p in c.points if p.size == size]
                colour, marker, dashes = looks[size]
                x = [bits for bits, _ in points]
                _bars(axes, x, [p.quality for _, p in points], colour)
                axes.plot(x, [p.quality.value for _, p in points], color=colour, marker=marker, linestyle=dashes,
                          label=label, markeredgecolor="white", markeredgewidth=0.5, gid=f"line {size}")  # fmt: skip
            axes.set_xscale("log")
            widths = sorted({curve.series.bits for curve in found})
            axes.set_xticks(widths, [str(bits) for bits in widths])
            axes.minorticks_off()
            axes.set_xlabel("bits of a code, k")
            _quality(axes, measure, chance)
        _legend(paper, all_axes, "parameters")
        return paper


def _count(n: int) -> str:
    """11.7 k, 1.55 M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return str(n)


# The rate-distortion plane ------------------------------------------------------------------------

PLANE_KINDS = ("int", "float", "dynamic", "quantile", "nf")
FARTHEST = 4.0  # bits above the bound; types beyond are not shown


def rate_distortion(rows: Sequence[Distortion], sources: Sequence[str] = ("normal", "t3")) -> Figure:
    """Every type on the rate-distortion plane, beside Shannon's bound and Lloyd-Max; below, its distance in bits.

    Parameters
    ----------
    rows
        Of one block size, of `distortion.table`.
    sources
        A column for each.
    """
    with style():
        paper, all_axes = figure(2, len(sources), 5.6, sharex=True)
        for i, name in enumerate(sources):
            mine = [row for row in rows if row.source == name and row.above_at_width < FARTHEST and row.sqnr > 0]
            above, below = all_axes[i], all_axes[i + len(sources)]
            _plane(above, mine, name, lambda row: row.sqnr)
            _plane(below, mine, name, lambda row: row.above_at_width)
            above.set_title({"normal": "Normal source"}.get(name, f"Student's t, {SOURCES[name].nu:g} d.o.f."))
            above.set_ylim(0, 56)
            below.set_ylim(-0.06, FARTHEST)
            below.set_xticks(range(2, 10))
            below.set_xlabel("bits a number, scales included")
            if not i:
                above.set_ylabel("signal to noise (dB)")
                below.set_ylabel("bits above the bound")
        _legend(paper, all_axes, columns=4)
        return paper


def _plane(axes: Axes, rows: Sequence[Distortion], name: str, height: Callable[[Distortion], float]) -> None:
    """Points for all types, lines for kinds, the bound and Lloyd-Max."""
    axes.plot([r.width for r in rows], [height(r) for r in rows], ".", color="#AAAAAA", markersize=4, label="all types")
    at = {(row.type, row.block): row for row in rows}
    block = rows[0].block if rows else 0
    for kind, (colour, marker, dashes) in named(PLANE_KINDS).items():
        names = [KINDS[kind].type.format(bits=bits, block=block) for bits in KINDS[kind].widths]
        found = [at[key] for key in ((type_, block) for type_ in names) if key in at]
        axes.plot([r.width for r in found], [height(r) for r in found], color=colour, marker=marker, linestyle=dashes,
                  label=kind, markeredgecolor="white", markeredgewidth=0.5, gid=f"line {kind}")  # fmt: skip
    best = _best_levels(name)
    axes.plot([r.width for r in best], [height(r) for r in best], color="black", marker="o", markersize=4.5,
              markerfacecolor="white", linewidth=0.9, label="Lloyd-Max, one scale", gid="line lloyd-max")  # fmt: skip
    rates = np.linspace(1.8, 9.2, 50)
    bound = [Distortion("", name, 0, float(r), float(r), SOURCES[name].bound(float(r)), float(r), "") for r in rates]
    heights = [height(row) for row in bound]
    axes.plot(rates, heights, color="black", linewidth=2.2, label="Shannon's bound", gid="line bound")


@lru_cache(maxsize=4)
def _best_levels(name: str) -> tuple[Distortion, ...]:
    """Lloyd-Max for the source itself, 2 to 8 bits."""
    s, found = SOURCES[name], []
    for bits in range(2, 9):
        levels = lloyd_max(s, bits)
        edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        m0, m1, m2 = s.cells(edges)
        lost = float((m2 - 2 * levels * m1 + levels**2 * m0).sum())
        found.append(Distortion("", name, 0, bits, bits, lost, s.rate(lost), "integral"))
    return tuple(found)


# Training and all together -----------------------------------------------------------------------------------------


def training(curves: Mapping[str, Sequence[tuple[int, float]]], floor: float | None = None) -> Figure:
    """Loss curves of models.

    Parameters
    ----------
    curves
        For each model, small ones first, pairs of a step and the mean loss before it.
    floor
        The least possible loss, where it is known.
    """
    with style():
        paper, (axes,) = figure(1, 1, 3.6)
        looks = ordered(list(dict.fromkeys(name.partition("-")[0] for name in curves)))
        last: dict[str, tuple[int, float]] = {}
        for name, points in curves.items():
            size = name.partition("-")[0]
            colour, _, dashes = looks[size]
            step, loss = zip(*points, strict=True)
            axes.plot(step, loss, color=colour, linestyle=dashes, linewidth=1.1, gid=f"line {name}")
            last.setdefault(size, (step[-1], loss[-1]))
        apart = 0.045 * np.diff(axes.get_ylim())[0]
        heights = _spread([loss for _, loss in last.values()], apart)
        for (size, (end, _)), height in zip(last.items(), heights, strict=True):
            axes.annotate(size, (end, height), xytext=(5, 0), textcoords="offset points", va="center",
                          color=looks[size][0], fontweight="bold", fontsize=8.5)  # fmt: skip
        if floor is not None:
            axes.axhline(floor, color="black", linewidth=1.4, gid="line floor")
            axes.annotate("the least there is: the entropy of the language", (0, floor), xytext=(4, 3), va="bottom",
                          xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=8.5)  # fmt: skip
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)
        axes.set_xlabel("training step")
        axes.set_ylabel(MEASURES["loss"])
        return paper


def _spread(heights: Sequence[float], apart: float) -> list[float]:
    """The same heights, moved until labels there do not touch.

    Examples
    --------
    >>> _spread([3.0, 1.0, 1.0], 0.5)
    [3.0, 1.25, 0.75]
    """
    order = sorted(range(len(heights)), key=lambda i: -heights[i])
    moved = list(heights)
    for _ in range(100):
        for high, low in pairwise(order):
            lacking = apart - (moved[high] - moved[low])
            if lacking > 1e-9:
                moved[high] += lacking / 2
                moved[low] -= lacking / 2
    return moved


def draw(rows: Pictured) -> dict[str, dict[str, bytes]]:
    """Every picture of a report that there are rows for: its name, and its bytes as svg and png."""
    made: dict[str, Figure] = {}
    if any(rows.precisions.values()):
        made["precisions"] = precisions(rows.precisions, rows.chance)
        made["performance"] = performance(rows.precisions, rows.chance)
    if rows.kinds:
        made["kinds"] = kinds(rows.kinds)
    if rows.blocks:
        made["blocks"] = blocks(rows.blocks)
    if rows.distortion:
        made["rate_distortion"] = rate_distortion(rows.distortion)
    if rows.training:
        made["training"] = training(rows.training, rows.floor)
    return {name: {form: drawn(picture, form) for form in ("svg", "png")} for name, picture in made.items()}
