"""Which named causes explain the values that differ.

A cause is accepted if it gives their code for more of the values that differ than it would change
among the values that agree: one flipped code at a tie is not `ties=away`. What is left is tried
with two causes at once, and then called unexplained.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.variants.of_types import Cause, NanCodes, causes
from kbit_ref.datatypes.datatype import DataType

__all__ = ["Kind", "kinds_of_difference"]


class Kind(NamedTuple):
    """A cause, and the values that differ because of it."""

    name: str
    why: str
    where: NDArray[np.bool_]  # [n]
    cause: Cause | None = None


def kinds_of_difference(
    dtype: DataType,
    kind: str,
    x: NDArray[np.float64],
    ours: NDArray[Any],
    theirs: NDArray[Any],
    nan: NanCodes | None,
    explained: NDArray[np.bool_] | None = None,
) -> list[Kind]:
    """The differing values, cut into kinds, the largest kind of a named cause first.

    Parameters
    ----------
    dtype, kind
        The type, and the source format of x.
    x, ours, theirs : [n]
        Numbers and codes; -1 for an answer that is no level of the type.
    nan
        The codes that the NaNs of both signs must have; None if any will do.
    explained : [n]
        Differences that have a reason already; they speak neither for nor against a cause.
    """
    found: list[Kind] = []
    left = ours != theirs
    agreed = ~left
    if explained is not None:
        left, agreed = left & ~explained, agreed & ~explained

    is_nan = np.zeros(2**dtype.bits + 1, bool)
    is_nan[:-1] = np.isnan(dtype.levels)
    other_nan = left & is_nan[ours] & is_nan[theirs]
    if other_nan.any():
        found.append(Kind("another NaN", "both are NaN, by codes that differ in sign or payload", other_nan))
        left = left & ~other_nan

    single = list(causes(dtype, kind))
    for candidates in (single, _pairs(single)):
        seen = _sample(left, agreed)  # enough to choose among the causes
        trials: list[tuple[Cause, NDArray[Any]]] = []
        if left.any():
            for cause in candidates:
                codes = cause.codes(dtype, x[seen], nan)
                if codes is not None and (left[seen] & (codes == theirs[seen])).any():
                    trials.append((cause, codes))
        while trials and left[seen].any():
            scores = [
                int((left[seen] & (c == theirs[seen])).sum()) - int((agreed[seen] & (c != ours[seen])).sum())
                for _, c in trials
            ]
            best = int(np.argmax(scores))
            if scores[best] <= 0:
                break
            cause, _ = trials.pop(best)
            where = left & (cause.codes(dtype, x, nan) == theirs)
            found.append(Kind(cause.name, cause.why, where, cause))
            left = left & ~where

    none = left & (theirs < 0)
    if none.any():
        found.append(Kind("no level", "their answer is no level of the type", none))
    if (left & ~none).any():
        found.append(Kind("unexplained", "no named choice gives these answers", left & ~none))
    return found


def _sample(left: NDArray[np.bool_], agreed: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices of at most 4,096 numbers that differ, and as many times 8 that agree, evenly spread."""
    differ, agree = np.flatnonzero(left), np.flatnonzero(agreed)
    return np.concatenate([differ[:: -(-differ.size // 4096) or 1], agree[:: -(-agree.size // 32768) or 1]])


def _pairs(single: list[Cause]) -> Iterable[Cause]:
    """Every change of x with every other cause after it."""
    for first in single:
        for second in single:
            if first.before and second is not first and (both := first.then(second)):
                yield both
