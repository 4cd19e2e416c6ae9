"""The quick study's answer: a table by model, bits and kind, and a sentence a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from kbit_ref.study.rows import Result

__all__ = ["difference", "headlines", "table"]


def difference(a: Result, b: Result) -> tuple[float, float]:
    """How much more nats a token a has than b, and the standard error: window by window, of the same windows."""
    mean, variance = 0.0, 0.0
    for name, share in a.shares.items():
        d = a.nats[name].astype(np.float64) - b.nats[name]
        mean += share * float(d.mean())
        variance += share**2 * float(d.var(ddof=1)) / len(d) if len(d) > 1 else float("nan")
    return mean, float(np.sqrt(variance))


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each model and width: all bits, and for each kind loss (above the floor, where it is known) and
    accuracy.
    """
    kinds = list(dict.fromkeys(r.cell.kind for r in results if r.cell.kind != "none"))
    rows = []
    for model, of_model in _by(results, "model").items():
        for bits, found in sorted(_by(of_model, "bits").items(), reverse=True):
            by_kind = {r.cell.kind: r for r in found}
            same = by_kind.get("none")
            row: dict[str, Any] = {"model": model, "bits": bits, "Mbit": found[0].total_bits / 1e6}
            row |= {kind: _height(by_kind.get(kind, same)) for kind in kinds}
            row |= {f"{kind} right": _accuracy(by_kind.get(kind, same)) for kind in kinds}
            rows.append(row)
    return rows


def _by(results: Sequence[Result], part: str) -> dict[Any, list[Result]]:
    found: dict[Any, list[Result]] = {}
    for r in results:
        found.setdefault(getattr(r.cell, part), []).append(r)
    return found


def _height(r: Result | None) -> float | None:
    """The loss above the floor; the loss, where that is unknown."""
    return None if r is None else r.loss if r.excess is None else r.excess


def _accuracy(r: Result | None) -> float | None:
    return None if r is None else r.accuracy


def headlines(results: Sequence[Result]) -> list[str]:
    """For each model: what 3 bits cost beside 4, and which width is best for as many bits as it has at 4.

    Of the kinds of a width the best one counts. Between models the loss is interpolated over the logarithm of the
    bits, as in the paper.
    """
    best: dict[int, dict[str, Result]] = {}
    for r in results:
        of_width = best.setdefault(r.cell.bits, {})
        if r.cell.model not in of_width or r.loss < of_width[r.cell.model].loss:
            of_width[r.cell.model] = r
    lines = []
    for model, four in best.get(4, {}).items():
        line = f"{model} at 4 bits ({four.cell.kind}) has {four.total_bits / 1e6:.3f} Mbit."
        if (three := best.get(3, {}).get(model)) is not None:
            mean, error = difference(three, four)
            line += f" The best of 3 bits ({three.cell.kind}) loses {mean:.3f} nats more, standard error {error:.3f}."
        heights = _heights_at(best, float(four.total_bits))
        told = ", ".join(f"{bits}: {height:.3f}" for bits, height in sorted(heights.items()))
        least = min(heights, key=lambda bits: heights[bits])
        if len(heights) > 1:
            line += f" Of models with so many Mbit, interpolated, {least} bits are the best measured ({told})."
        lines.append(line)
    return lines


def _heights_at(best: Mapping[int, Mapping[str, Result]], total: float) -> dict[int, float]:
    """For each width: the loss at a number of bits in all, where two models lie on both sides of it."""
    found = {}
    for bits, of_width in best.items():
        line = sorted((float(r.total_bits), _height(r) or 0.0) for r in of_width.values())
        for (low, left), (high, right) in pairwise(line):
            if low <= total <= high:
                share = np.log(total / low) / np.log(high / low)
                found[bits] = float(left + share * (right - left))
    return found
