"""Performance = f(k): does a model get better with every bit more, and what does a bit cost?

Two questions, which have different answers. With the size fixed, one more bit makes the same model larger: does it
make it better? With the total fixed, one more bit makes the model smaller: is it worth that?
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.study.bootstrap import Draws, Estimate, estimate
from kbit_ref.study.curves import Curve, by_precision, curves_of
from kbit_ref.study.groups import Group, Series, longest, sign
from kbit_ref.study.rows import Result

__all__ = ["Answer", "Step", "at_fixed_bits", "at_fixed_size"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """From one width to the next.

    Parameters
    ----------
    bits, next_bits
        Widths of a code.
    quality
        The measure at the first.
    gain
        How much better the next width is; below zero: it is worse.
    verdict
        "better", "worse", or "no difference" where the interval of the gain holds zero.
    total_bits, next_total_bits
        Of the model: the price. At a fixed total they are the same.
    n_parameters, next_n_parameters
        At a fixed size they are the same; at a fixed total the price is parameters (interpolated).
    seconds, next_seconds
        What a cell took on the mean, 0 where it is between two sizes.
    """

    bits: int
    next_bits: int
    quality: Estimate
    gain: Estimate
    verdict: str
    total_bits: float
    next_total_bits: float
    n_parameters: float
    next_n_parameters: float
    seconds: float
    next_seconds: float

    @property
    def gain_per_bit(self) -> float:
        """The gain for each bit more a parameter, at a fixed size."""
        more = (self.next_total_bits - self.total_bits) / self.n_parameters
        return self.gain.value / more if more > 0 else float("nan")


@dataclass(frozen=True)
class Answer:
    """f(k) for one size of model, or for one total.

    Parameters
    ----------
    what
        "size" or "total".
    size, total_bits
        Which one: the name of the size ("" for a total), and the bits ("size": of the model in 16 bits).
    kind, block
        Of the types; at a fixed total those of each width may differ: kind "best".
    steps
        From each width to the next.
    monotone
        Does more always help? True: every step is better; False: some step is worse; None: neither is certain.
    best
        The width with the best measured value.
    enough
        The least width from which on, up to the best, no width is surely worse than it.
    """

    what: str
    size: str
    total_bits: float
    kind: str
    block: int
    steps: tuple[Step, ...]
    monotone: bool | None
    best: int
    enough: int

    @property
    def told(self) -> str:
        """In one sentence.

        Examples
        --------
        >>> Answer("size", "s", 8e5, "int", 64, (), None, 8, 6).told
        's, int: more bits are never surely worse; from 6 bits on no gain is certain (best 8).'
        >>> Answer("size", "s", 8e5, "int", 64, (), None, 8, 8).told
        's, int: more bits are never surely worse; 8 are best, all widths below surely lose.'
        """
        where = self.size if self.what == "size" else f"{self.total_bits:.3g} bits in all"
        begin = f"{where}, {self.kind}"
        if self.monotone:
            return f"{begin}: every bit helps, up to {self.best}."
        if self.monotone is None and self.enough == self.best:
            return f"{begin}: more bits are never surely worse; {self.best} are best, all widths below surely lose."
        if self.monotone is None:
            return (
                f"{begin}: more bits are never surely worse; from {self.enough} bits on no gain is certain "
                f"(best {self.best})."
            )
        worse = ", ".join(f"{step.bits} to {step.next_bits}" for step in self.steps if step.verdict == "worse")
        return f"{begin}: more bits do not always help ({worse}); best {self.best}."


def at_fixed_size(
    results: Iterable[Result],
    kind: str,
    block: int,
    measure: str = "loss",
    *,
    n: int = 1000,
    seed: int = 0,
    **fixed: Any,
) -> list[Answer]:
    """f(k) of every size of model: the same model in more and more bits, up to 16.

    Parameters
    ----------
    results
        Of any cells.
    kind, block
        Of the types.
    measure
        See `groups.parts`.
    n, seed
        How often items and seeds are drawn again.
    **fixed
        As in `groups`; by default `scope="all", method="nearest", activations=""`.

    Raises
    ------
    BadInput
        `performance: kind = int in blocks of 63, it was not measured in two widths; name what was`
    """
    draws = Draws(longest(results), measure, n, seed)
    fixed = {"scope": "all", "method": "nearest", "activations": ""} | fixed
    of: dict[str, list[Group]] = {}
    for group in draws.groups_of(kind=kind, block=block, **fixed):
        of.setdefault(group.size, []).append(group)
    answers = []
    for size, chosen in of.items():
        ordered = sorted(chosen, key=lambda group: group.series.bits)
        if len({group.series.kind for group in ordered} - {"none"}) and len(ordered) > 1:
            rows = [_Row(g.series, draws[g], g.total_bits, g.n_parameters, _seconds(g)) for g in ordered]
            answers.append(_answer("size", size, ordered[-1].total_bits, kind, block, rows, sign(measure)))
    if not answers:
        rule = "it was not measured in two widths"
        raise BadInput(message("performance", f"kind = {kind} in blocks of {block}", rule, "name what was"))
    return answers


def at_fixed_bits(
    results: Iterable[Result],
    totals: Sequence[float],
    kind: str | None = None,
    block: int | None = None,
    measure: str = "loss",
    *,
    n: int = 1000,
    seed: int = 0,
    **fixed: Any,
) -> list[Answer]:
    """f(k) at given total bits, on the interpolated curves: more bits a parameter, and fewer parameters.

    Parameters
    ----------
    results
        Of any cells.
    totals
        Total bits; of those where fewer than two widths are measured there is no answer.
    kind, block
        Of the types; by default the best of each width.
    measure, n, seed, **fixed
        As in `at_fixed_size`.
    """
    draws = Draws(longest(results), measure, n, seed)
    fixed = {"scope": "all", "method": "nearest", "activations": ""} | fixed
    found = by_precision(curves_of(draws, **fixed), kind, block)
    answers = []
    for total in totals:
        rows = [
            _Row(curve.series, curve.at(total), total, _parameters_at(curve, total), 0.0)
            for curve in found
            if curve.covers(total)
        ]
        if len(rows) > 1:
            answers.append(_answer("total", "", total, kind or "best", block or 0, rows, sign(measure)))
    return answers


@dataclass(frozen=True, eq=False)
class _Row:
    series: Series
    draws: Floats
    total_bits: float
    n_parameters: float
    seconds: float


def _answer(what: str, size: str, total: float, kind: str, block: int, rows: Sequence[_Row], better: int) -> Answer:
    steps = tuple(_step(one, after, better) for one, after in pairwise(rows))
    verdicts = {step.verdict for step in steps}
    monotone = False if "worse" in verdicts else None if "no difference" in verdicts else True
    best = max(rows, key=lambda row: better * float(row.draws[0]))
    lose = [row.series.bits for row in rows if estimate(better * (best.draws - row.draws)).above]
    top = best.series.bits
    enough = min(row.series.bits for row in rows if row.series.bits > max((b for b in lose if b < top), default=0))
    return Answer(what, size, total, kind, block, steps, monotone, top, enough)


def _step(one: _Row, after: _Row, better: int) -> Step:
    gain = estimate(better * (after.draws - one.draws))
    verdict = "better" if gain.above else "worse" if gain.below else "no difference"
    widths = one.series.bits, after.series.bits
    prices = one.total_bits, after.total_bits, one.n_parameters, after.n_parameters, one.seconds, after.seconds
    return Step(*widths, estimate(one.draws), gain, verdict, *prices)


def _seconds(group: Group) -> float:
    return float(np.mean([result.seconds for result in group.results]))


def _parameters_at(curve: Curve, total: float) -> float:
    """Of the model that would have so many bits: interpolated as the curve is."""
    logs = np.log([point.n_parameters for point in curve.points])
    return float(np.exp(np.interp(np.log(total), curve.x, logs)))
