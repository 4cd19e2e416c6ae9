"""Quality against the logarithm of total model bits, one curve a precision, and which precision wins where.

Between the sizes of models a curve is a straight line, as in the paper: power laws in size and bits together
fitted its data poorly. Two curves are compared where both are measured, never beyond.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.study.bootstrap import Draws, Estimate, common, estimate
from kbit_ref.study.families import one_family
from kbit_ref.study.groups import Group, Series, longest, sign
from kbit_ref.study.rows import Result

__all__ = [
    "Best",
    "Curve",
    "Point",
    "best_precisions",
    "by_precision",
    "curve_of",
    "curves",
    "curves_of",
    "front",
    "gap",
    "totals",
]

Floats = NDArray[np.float64]
N_COMPARED = 9  # totals, evenly spaced by their logarithm, at which curves are compared


@dataclass(frozen=True)
class Point:
    """A size of model in one series.

    Parameters
    ----------
    size, n_parameters
        Of the model.
    total_bits, bits_per_parameter
        Everything counted, the mean over seeds.
    n_seeds
        How many models it is the mean of; with one the interval tells of the evaluation items alone.
    quality
        The measure, with its interval.
    """

    size: str
    n_parameters: int
    total_bits: float
    bits_per_parameter: float
    n_seeds: int
    quality: Estimate


@dataclass(frozen=True, eq=False)
class Curve:
    """One series over the sizes of models: a line of the paper's figure.

    Parameters
    ----------
    series
        What was done to the models.
    measure
        "loss", "excess" or "accuracy".
    points
        By total bits.
    draws
        [n_points, 1 + 2 n]: the measure of each point, see `bootstrap`.
    groups, source
        The results behind each point, and where they are drawn again.
    """

    series: Series
    measure: str
    points: tuple[Point, ...]
    draws: Floats
    groups: tuple[Group, ...]
    source: Draws

    def beside(self, other: Curve) -> Curve:
        """The same curve where each size has only the models that the other curve has of it, too."""
        of = {group.size: group for group in other.groups}
        rows = []
        for group, draws in zip(self.groups, self.draws, strict=True):
            names = common(group, of[group.size]) if group.size in of else None
            whole = names is None or len(names) == group.n_seeds
            rows.append(draws if whole else self.source.of(group, names))
        return replace(self, draws=np.stack(rows))

    @property
    def x(self) -> Floats:
        """[n_points]: the logarithm of total bits (any base will do for interpolation)."""
        return np.log([point.total_bits for point in self.points])

    @property
    def first(self) -> float:
        """The least total bits."""
        return self.points[0].total_bits

    @property
    def last(self) -> float:
        """The most total bits."""
        return self.points[-1].total_bits

    def covers(self, total_bits: float) -> bool:
        """Is it measured on both sides?"""
        return self.first * (1 - 1e-9) <= total_bits <= self.last * (1 + 1e-9)

    def at(self, total_bits: float) -> Floats:
        """[1 + 2 n]: the measure at so many bits, on the line between the two points beside it.

        Raises
        ------
        BadInput
            `study: total_bits = 9e9, nf 4 bits is measured from 5e4 to 6e6; ask in between`
        """
        if not self.covers(total_bits):
            rule = f"{self.series} is measured from {self.first:.3g} to {self.last:.3g}"
            raise BadInput(message("study", f"total_bits = {total_bits:.3g}", rule, "ask in between"))
        x, here = self.x, math.log(total_bits)
        right = int(np.clip(np.searchsorted(x, here), 0, len(x) - 1))
        left = max(right - 1, 0)
        share = 1.0 if left == right else float(np.clip((here - x[left]) / (x[right] - x[left]), 0, 1))
        found: Floats = (1 - share) * self.draws[left] + share * self.draws[right]
        return found

    def bits_for(self, quality: Floats) -> Floats:
        """[1 + 2 n]: the least total bits at which it is as good as `quality`; NaN where it never is."""
        better = sign(self.measure)
        x, found = self.x, np.full(len(quality), np.nan)
        for i in reversed(range(len(x))):  # from the right, so that the first crossing stays
            left = self.draws[max(i - 1, 0)]
            right = self.draws[i]
            reached = better * (right - quality) >= 0
            rise = better * (right - left)
            with np.errstate(invalid="ignore", divide="ignore"):
                share = np.where(rise > 0, better * (quality - left) / rise, 0.0)
            begin = x[max(i - 1, 0)]
            found = np.where(reached, np.exp(begin + np.clip(share, 0, 1) * (x[i] - begin)), found)
        return found


@dataclass(frozen=True)
class Best:
    """Which precision is best for so many total bits.

    Parameters
    ----------
    total_bits
        Where the curves are compared.
    series, quality
        The best one, and what it gives.
    runner_up
        The next best, None where no other is measured.
    margin
        How much better the best one is, in units of the measure (nats a token, or a share of questions).
    factor
        So many times as many total bits the runner-up needs to be as good; infinite where it never is.
    certain
        The interval of the margin lies above zero.
    lacking
        Widths that are not measured at this total, for want of larger or smaller models: they might be better.
    """

    total_bits: float
    series: Series
    quality: Estimate
    runner_up: Series | None
    margin: Estimate
    factor: Estimate
    certain: bool
    lacking: tuple[int, ...]


def curve_of(draws: Draws, chosen: Sequence[Group]) -> Curve:
    """The curve through groups of one series, one a size."""
    ordered = sorted(chosen, key=lambda group: group.total_bits)
    points = tuple(
        Point(g.size, g.n_parameters, g.total_bits, g.bits_per_parameter, g.n_seeds, estimate(draws[g]))
        for g in ordered
    )
    rows = np.stack([draws[g] for g in ordered])
    return Curve(ordered[0].series, draws.measure, points, rows, tuple(ordered), draws)


def curves(
    results: Iterable[Result], measure: str = "loss", *, n: int = 1000, seed: int = 0, **fixed: Any
) -> list[Curve]:
    """Every series as a curve over sizes; of each size the models that saw the most tokens.

    Parameters
    ----------
    results
        Of any models and cells.
    measure
        "loss", "excess" or "accuracy"; of one text or task alone "excess:ask".
    n, seed
        How often items and seeds are drawn again; 0: no intervals.
    **fixed
        As in `groups`: `scope="all", block=64`.

    Returns
    -------
    list of Curve
        By series.
    """
    return curves_of(Draws(longest(results), measure, n, seed), **fixed)


def curves_of(draws: Draws, **fixed: Any) -> list[Curve]:
    """The same from draws that are there already; of each size one number of tokens.

    Raises
    ------
    BadInput
        `study: models of 2 families (gpt_neox: a, b; llama: c), no curve goes through them; take one ...`
    """
    one_family(result for group in draws.groups for result in group.results)
    of: dict[Series, list[Group]] = {}
    for group in draws.groups_of(**fixed):
        of.setdefault(group.series, []).append(group)
    return [curve_of(draws, of[series]) for series in sorted(of)]


def by_precision(found: Sequence[Curve], kind: str | None = None, block: int | None = None) -> list[Curve]:
    """One curve for each width, widest last.

    Parameters
    ----------
    found
        Curves; only those of one scope and, besides, the method that you mean to compare.
    kind, block
        Only these; by default, for each width the series that is best at the same total bits, on the mean over where
        the series with the most sizes all are: what a smaller block costs is paid for. 16 bits is always the model as
        it is.
    """
    of: dict[int, list[Curve]] = {}
    for curve in found:
        plain = curve.series.kind == "none"
        if plain or (kind in (None, curve.series.kind) and block in (None, curve.series.block)):
            of.setdefault(curve.series.bits, []).append(curve)
    return [_best_of(of[bits]) for bits in sorted(of)]


def _best_of(rivals: Sequence[Curve]) -> Curve:
    """The curve with the best mean over the totals that the most complete curves share; over sizes, if they share none.

    Of curves that are as good the first.
    """
    most = max(len(curve.points) for curve in rivals)
    whole = [curve for curve in rivals if len(curve.points) == most]
    where = totals(whole)

    def height(curve: Curve) -> float:
        values = [curve.at(total)[0] for total in where] if len(where) else curve.draws[:, 0]
        return sign(curve.measure) * float(np.mean(values))

    return max(whole, key=height)


def totals(found: Sequence[Curve], n: int = N_COMPARED) -> Floats:
    """[n]: totals evenly spaced by their logarithm, over the range where all curves are measured; [0] if there is none.

    Where only two curves are to be compared this is where both are measured.
    """
    first, last = max(curve.first for curve in found), min(curve.last for curve in found)
    if first > last * (1 + 1e-9):
        return np.empty(0)
    return np.exp(np.linspace(math.log(first), math.log(max(first, last)), n))


def gap(worse: Curve, better: Curve) -> Floats | None:
    """[1 + 2 draws]: how much better one curve is than another at the same total bits, the mean over where both are.

    The mean is over the logarithm of the total, and exact: between the points of both curves their difference is a
    straight line. Positive where `better` is the better one, in units of the measure. None where they have no total
    in common. Of a size that both have, the models are those that both were measured on.
    """
    where = totals([worse, better], 2)
    if not len(where):
        return None
    one, other = worse.beside(better), better.beside(worse)
    low, high = np.log(where)
    x = np.unique([low, high, *(p for p in (*one.x, *other.x) if low < p < high)])
    found = sign(worse.measure) * np.stack([other.at(t) - one.at(t) for t in np.exp(x).clip(*where)])
    return np.asarray(found[0] if high - low < 1e-9 else np.trapezoid(found, x, axis=0) / (high - low))


def best_precisions(found: Sequence[Curve], n: int = 25) -> list[Best]:
    """The best curve at totals evenly spaced by their logarithm, wherever two are measured.

    Parameters
    ----------
    found
        One curve for each width, as `by_precision` gives them.
    n
        How many totals.
    """
    if len(found) < 2:
        return []
    first, last = sorted(curve.first for curve in found)[1], sorted(curve.last for curve in found)[-2]
    grid = np.exp(np.linspace(math.log(first), math.log(last), n)) if first < last else np.empty(0)
    rows = []
    for total in grid:
        here = [curve for curve in found if curve.covers(total)]
        if len(here) > 1:
            rows.append(_best_at(float(total), here, [c.series.bits for c in found if not c.covers(total)]))
    return rows


def _best_at(total: float, here: Sequence[Curve], lacking: Sequence[int]) -> Best:
    ranked = sorted(here, key=lambda curve: -sign(curve.measure) * float(curve.at(total)[0]))
    best, second = ranked[0], ranked[1]
    one, other = best.beside(second), second.beside(best)  # in the models that both have
    quality = one.at(total)
    margin = estimate(sign(best.measure) * (quality - other.at(total)))
    bits = other.bits_for(quality)
    factor = estimate(np.where(np.isnan(bits), np.inf, bits / total))
    without = tuple(sorted(set(lacking)))
    return Best(total, best.series, estimate(best.at(total)), second.series, margin, factor, margin.above, without)


def front(found: Sequence[Curve]) -> list[tuple[Series, Point]]:
    """The Pareto front: measured points which no other point with as few or fewer bits equals or beats.

    Ordered by total bits; only these are worth storing.
    """
    better = sign(found[0].measure) if found else 1
    every = [(curve.series, point) for curve in found for point in curve.points]
    every.sort(key=lambda one: (one[1].total_bits, -better * one[1].quality.value))
    kept: list[tuple[Series, Point]] = []
    for series, point in every:
        if not kept or better * (point.quality.value - kept[-1][1].quality.value) > 0:
            kept.append((series, point))
    return kept
