"""The pictures of the study; they draw rows that lower floors computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from kbit_ref.figures.ink import PLAIN, Axes, Figure, Look, above_one, drawn, figure, named, ordered, style
from kbit_ref.figures.parts import MEASURES, dressed, legend, line, lines, plain_ticks, quality, ratios, shaded, short
from kbit_ref.study.curves import Curve, by_precision
from kbit_ref.study.distortion import Distortion
from kbit_ref.study.gathered import Pictured
from kbit_ref.study.kinds import KINDS
from kbit_ref.study.sources import SOURCES, lloyd_max

__all__ = ["blocks", "draw", "kinds", "performance", "precisions", "rate_distortion", "training"]

CLOSE = 4  # bits; beside narrower codes, which are much worse, the others lie on one line


# Curves over total bits ---------------------------------------------------------------------------


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
        losses = next((found for measure, found in panels.items() if measure != "accuracy"), ())
        close = {str(curve.series.bits): curve for curve in losses if curve.series.bits >= CLOSE}
        paper, all_axes = above_one(len(panels), 5.6) if close else figure(1, len(panels), 3.4)
        widths = sorted({curve.series.bits for found in panels.values() for curve in found})
        looks = ordered([str(bits) for bits in widths if bits < 16]) | {"16": PLAIN}
        for axes, (measure, found) in zip(all_axes, panels.items(), strict=False):
            lines(axes, {str(curve.series.bits): curve for curve in found}, looks)
            dressed(axes, measure, chance)
        if close:
            foot, rivals = all_axes[-1], list(close.values())
            ratios(foot, close, looks, rivals, least=2)
            shaded(foot, rivals)
            foot.set_ylabel(f"{short(rivals[0].measure)} ÷\nthat of the best width")
            foot.set_title(f"{CLOSE} bits and more at the same total bits; gray: not all of them have models")
        legend(paper, all_axes, "bits")
        return paper


def kinds(panels: Mapping[int, Sequence[Curve]]) -> Figure:
    """Data types compared: a line for each kind, divided by the best kind of that width at the same total bits.

    A panel for each width, with the kinds that have a colour; the others of a width are in a panel of their own.

    Parameters
    ----------
    panels
        For each width the curves of its kinds, with the same blocks and method.
    """
    there = {curve.series.kind for found in panels.values() for curve in found}
    looks = named([*(kind for kind in KINDS if kind in there), *sorted(there - set(KINDS))])
    main: dict[str, Sequence[Curve]] = {}
    more: dict[str, Sequence[Curve]] = {}
    best: dict[str, Curve] = {}
    for bits, found in panels.items():
        for title, part, hollow in ((f"{bits} bits", main, False), (f"{bits} bits, more types", more, True)):
            if mine := [curve for curve in found if looks[curve.series.kind].hollow == hollow]:
                part[title] = mine
                (best[title],) = by_precision(found)
    return _small_multiples(main | more, looks, lambda curve: curve.series.kind, best=best)


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
    titled = {f"{bits} bits": found for bits, found in panels.items()}
    return _small_multiples(titled, looks, lambda curve: _block_name(curve.series.block), "numbers a block")


def _block_name(size: int) -> str:
    return str(size) if size else "tensor"


def _small_multiples(
    panels: Mapping[str, Sequence[Curve]],
    looks: Mapping[str, Look],
    name: Callable[[Curve], str],
    title: str = "",
    best: Mapping[str, Curve] | None = None,
) -> Figure:
    """Panels in rows of three; with `best` each is divided by its best curve."""
    with style():
        columns = min(3, len(panels))
        rows = -(-len(panels) // columns)
        paper, all_axes = figure(rows, columns, 0.5 + 2.35 * rows, sharex=True)
        for axes in all_axes[len(panels) :]:
            axes.remove()
        for i, (axes, (above, found)) in enumerate(zip(all_axes, panels.items(), strict=False)):
            by_name = {name(curve): curve for curve in found}
            mine = {label: by_name[label] for label in looks if label in by_name}
            if best:
                ratios(axes, mine, looks, [best[above]])
                axes.set_ylabel(f"{short(found[0].measure)} ÷\nthat of the best type")
            else:
                lines(axes, mine, looks)
                dressed(axes, found[0].measure)
            axes.set_title(above)
            if i % columns:
                axes.set_ylabel("")
            if i + columns < len(panels):
                axes.set_xlabel("")
            axes.tick_params(labelbottom=i + columns >= len(panels))
        legend(paper, all_axes[: len(panels)], title, order=looks)
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
                line(axes, label, [bits for bits, _ in points], [p.quality for _, p in points], looks[size], size)
            axes.set_xscale("log")
            widths = sorted({curve.series.bits for curve in found})
            axes.set_xticks(widths, [str(bits) for bits in widths])
            axes.minorticks_off()
            axes.set_xlabel("bits of a code, k")
            quality(axes, measure, chance)
        legend(paper, all_axes, "parameters")
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
        legend(paper, all_axes)
        return paper


def _plane(axes: Axes, rows: Sequence[Distortion], name: str, height: Callable[[Distortion], float]) -> None:
    """Points for all types, lines for kinds, the bound and Lloyd-Max."""
    axes.plot([r.width for r in rows], [height(r) for r in rows], ".", color="#AAAAAA", markersize=4, label="all types")
    at = {(row.type, row.block): row for row in rows}
    block = rows[0].block if rows else 0
    for kind, look in named(PLANE_KINDS).items():
        names = [KINDS[kind].type.format(bits=bits, block=block) for bits in KINDS[kind].widths]
        found = [at[key] for key in ((type_, block) for type_ in names) if key in at]
        axes.plot([r.width for r in found], [height(r) for r in found], label=kind, gid=f"line {kind}", **look.words)
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
        until = max((points[-1][0] for points in curves.values()), default=1)
        last: dict[str, list[float]] = {size: [] for size in looks}
        for name, points in curves.items():
            size = name.partition("-")[0]
            step, loss = zip(*points, strict=True)
            axes.plot(step, loss, color=looks[size].colour, linestyle=looks[size].dashes, linewidth=1.1,
                      gid=f"line {name}")  # fmt: skip
            if step[-1] == max(points[-1][0] for other, points in curves.items() if other.partition("-")[0] == size):
                last[size].append(float(np.mean(loss[-max(1, len(loss) // 12) :])))
        axes.set_xscale("log")
        if floor is not None:
            axes.axhline(floor, color="black", linewidth=1.4, gid="line floor")
            axes.annotate("the least there is: the entropy of the language", (0, floor), xytext=(4, 3), va="bottom",
                          xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=8.5)  # fmt: skip
        _names_at_the_ends(axes, {size: float(np.mean(ends)) for size, ends in last.items()}, looks, floor)
        axes.set_xlim(right=1.02 * until)
        plain_ticks(axes.xaxis)
        axes.set_xlabel("training step")
        axes.set_ylabel(MEASURES["loss"])
        return paper


def _names_at_the_ends(axes: Axes, ends: Mapping[str, float], looks: Mapping[str, Look], floor: float | None) -> None:
    """Names of lines right of the axes, each tied to where its lines end, none on the floor."""
    low, high = axes.get_ylim()
    apart = 0.042 * (high - low)
    heights = _spread(list(ends.values()), apart, -math.inf if floor is None else floor + 0.7 * apart)
    for (size, end), height in zip(ends.items(), heights, strict=True):
        ink = {"color": looks[size].colour}
        tie = {"arrowstyle": "-", "linewidth": 0.8, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 0, **ink}
        axes.annotate(size, (1, end), xycoords=("axes fraction", "data"), xytext=(1.04, height), va="center",
                      textcoords=("axes fraction", "data"), fontweight="bold", fontsize=8.5, arrowprops=tie,
                      annotation_clip=False, **ink)  # fmt: skip


def _spread(heights: Sequence[float], apart: float, least: float = -math.inf) -> list[float]:
    """The same heights, moved as little as possible until labels there do not touch, and none is below the least.

    Examples
    --------
    >>> _spread([3.0, 1.0, 1.0], 0.5)
    [3.0, 1.25, 0.75]
    >>> _spread([3.0, 1.0, 1.0], 0.5, 1.0)
    [3.0, 1.5, 1.0]
    """
    groups: list[list[int]] = []  # upwards; labels that touch, and move together
    order = sorted(range(len(heights)), key=lambda i: (heights[i], -i))

    def bottom(group: Sequence[int]) -> float:
        middle = float(np.mean([heights[i] - n * apart for n, i in enumerate(group)]))
        return max(middle, least)

    for i in order:
        groups.append([i])
        while len(groups) > 1 and bottom(groups[-2]) + len(groups[-2]) * apart > bottom(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = list(heights)
    for group in groups:
        for n, i in enumerate(group):
            moved[i] = bottom(group) + n * apart
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
