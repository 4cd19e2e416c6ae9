"""Curves divided by the best at the same total bits: what lies on one line in absolute numbers comes apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kbit_ref.study.bootstrap import Estimate, estimate
from kbit_ref.study.curves import Curve
from kbit_ref.study.groups import sign

__all__ = ["relative"]


def relative(curve: Curve, rivals: Sequence[Curve], least: int = 1) -> list[tuple[float, Estimate]]:
    """Each point of a curve divided by the best of its rivals at the same total bits, interpolated.

    Parameters
    ----------
    curve
        Of a loss.
    rivals
        Of the same results; those that are not measured at a total are no rivals there.
    least
        So many rivals must be measured at a total, or the point is left out.

    Returns
    -------
    list of (total bits, ratio)
        Where the best rival is above zero. Items and seeds are drawn again for both together, so what is
        chance in both does not widen an interval; where seeds are fewer in one, both are of those.
    """
    found = []
    for i, point in enumerate(curve.points):
        there = [rival for rival in rivals if rival.covers(point.total_bits)]
        if len(there) < least:
            continue
        best = max(there, key=lambda rival: sign(curve.measure) * float(rival.at(point.total_bits)[0]))
        below = best.beside(curve).at(point.total_bits)
        if below[0] > 0:
            above = curve.beside(best).draws[i]
            ratio = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
            found.append((point.total_bits, estimate(ratio)))
    return found
