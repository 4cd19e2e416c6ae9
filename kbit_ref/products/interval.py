"""Bound a dot product, by formats and data instead of a chosen `atol`.

**Any order.** Let n products be added as a binary tree of n - 1 additions, each rounded to nearest in
a format of unit roundoff u, whose leaves are numbers of the format, or products that go fused into an
addition to such a number. Without underflow and overflow the roundings together are at most

    (n - 1) * u * sum|leaves|

with no term of higher order and no condition on n or u. (For recursive summation S. M. Rump, Error
estimation of floating-point summation and dot product, BIT 52, 2012; for any tree C.-P. Jeannerod and
S. M. Rump, Improved error bounds for inner products in floating-point arithmetic, SIAM J. Matrix Anal.
Appl. 34, 2013.) The proof carries over to fused leaves: of two sums x and y with a larger and a
smaller sum of magnitudes, if the smaller is at most u times the larger and x is a number of the
format, then rounding x + y loses at most |y|, for x itself is that near; if not, u * |x + y| will do,
and what earlier errors add is at most u times the other side's magnitudes.

A product that is rounded loses at most u' * |a b|, or half the least subnormal h' where it underflows;
a fused leaf that begins a sum is rounded as well, and loses u * |leaf| or h. A sum of numbers of the
format never underflows inexactly; a fused one may, by h, which is a change of its leaf. So with

    d = sum of what leaves lose or are changed by:  |computed - exact| <= d + (n - 1) * u * (sum|a b| + d)

Overflow: no number met is larger than (sum|a b| + d) * (1 + (n - 1) u). Where that is beyond the
largest number there is no bound, and none is given.

**Probable.** The error is a sum of roundings e_i, |e_i| <= h_i. If each has mean zero given those
before it (a model: roundings are no random numbers; see N. J. Higham and T. Mary, A new approach to
probabilistic rounding error analysis, SIAM J. Sci. Comput. 41, 2019; M. P. Connolly, N. J. Higham, T.
Mary, Stochastic rounding and its probabilistic backward error analysis, 2021), Azuma and Hoeffding give

    |computed - exact| <= sqrt(2 * log(2 / delta) * sum h_i**2)  with probability 1 - delta, each element

For a named order h_i is half an ulp of the partial sum itself, read from the replay (E. Hallman and I.
C. F. Ipsen, Precision-aware deterministic and probabilistic error bounds for floating point
summation, 2022); for any order it can only be u * (sum|a b| + d) * (1 + (n - 1) u), which is far wider.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.exact.arithmetic import FORMATS
from kbit_ref.products.accumulate import Accumulator, within
from kbit_ref.products.exact_product import exact_product, tiles
from kbit_ref.products.operands import Operands
from kbit_ref.products.replay import replay

__all__ = ["Interval", "interval"]

F64 = NDArray[np.float64]
UPWARD = 1 + 2.0**-40  # more than the roundings of the few operations below, all on numbers >= 0


class Interval(NamedTuple):
    """Of each element of a product [M, N] what `DotBound` says."""

    centre: F64
    lower: F64
    upper: F64
    magnitude: F64
    probable: F64
    replayed: NDArray[Any] | None


def interval(model: Accumulator, given: Operands, delta: float) -> Interval:
    """Compute the intervals of a product in tiles, and the product itself if the order of additions is named.

    Parameters
    ----------
    model, given
        The accumulator, and a [M, K], b [K, N].
    delta
        The probability that the probable width is exceeded, for each element.
    """
    found = [np.empty((len(given.a), given.b.shape[1])) for _ in range(5)]
    replayed = None
    if model.order != "any":
        replayed = np.empty(found[0].shape, np.float64 if model.out in ("float64", "int32") else np.float32)
    factor = math.sqrt(2 * math.log(2 / delta))
    for at in tiles(*found[0].shape):
        part = given.part(*at)
        pieces = _tile(model, part, factor)
        if replayed is not None:
            replayed[at], noise = replay(model, part.a, part.b, part.scales)
            width = np.minimum(pieces[4], factor * np.sqrt(noise) * UPWARD)
            pieces[4] = np.where(np.isfinite(pieces[4]), width, pieces[4])
        for whole, piece in zip(found, pieces, strict=True):
            whole[at] = piece
    centre, lower, upper, magnitude, probable = found
    return Interval(centre, lower, upper, magnitude, probable, replayed)


def _tile(model: Accumulator, given: Operands, factor: float) -> list[F64]:
    """Return centre, lower, upper, sum|a b| and probable width of a part of the result."""
    centre, rest, doubt = exact_product(*given.scaled())
    size, scales, top = _sizes(model, given)
    n = given.a.shape[1]
    with np.errstate(all="ignore"):
        width = _width(model, n, size, scales)
        error, spread = (np.where(size > 0, part, 0) for part in width[:2])
        fits = _fits(model, n, size, top, width)
        radius = (error * UPWARD + np.abs(rest) + doubt) * UPWARD
        lower = np.where(radius > 0, np.nextafter(centre - radius, -np.inf), centre)
        upper = np.where(radius > 0, np.nextafter(centre + radius, np.inf), centre)
        probable = factor * spread
        if model.out != model.last:  # rounding to nearest keeps the order of numbers
            lower, upper = (Arithmetic(model.out).round(edge).astype(np.float64) for edge in (lower, upper))
            last = _unit(model.out) * (np.abs(centre) + error) + _half_least(model.out)
            error, probable = error + last, factor * np.hypot(spread, last)
    probable = np.minimum(error, probable) * UPWARD
    return [
        centre,
        np.where(fits, lower, -np.inf),
        np.where(fits, upper, np.inf),
        size,
        np.where(fits, probable, np.inf),
    ]


def _sizes(model: Accumulator, given: Operands) -> tuple[F64, Any, F64]:
    """Return upper bounds of sum|scale * a * b|, sum|scale| and the largest sum|a * b| of a group."""
    a, b = np.abs(given.a), np.abs(given.b)
    n = a.shape[1]
    grown = 1 + (n + 4) * 2.0**-52  # of sums in float64, in the order of BLAS
    if given.scales is None or model.group is None:
        size = (a @ b) * grown
        return size, 1.0, size
    size, top = np.zeros((len(a), b.shape[1])), np.zeros((len(a), b.shape[1]))
    for g, first in enumerate(range(0, n, model.group)):
        part = a[:, first : first + model.group] @ b[first : first + model.group]
        top = np.maximum(top, part)
        size += part * np.abs(given.scales[g])
    return size * grown, np.abs(given.scales).sum(axis=0) * grown, top * grown


class _Width(NamedTuple):
    error: F64  # |computed - exact| is at most this
    spread: F64  # the root of sum h_i**2
    sums: F64  # no magnitude within a group, times its scale, is above this
    outer: F64  # nor any above this outside


def _width(model: Accumulator, n_all: int, size: F64, scales: Any) -> _Width:
    """Return the width by the theorem above, for the sums of groups, then for their sum; `scales` matter for underflow.

    All terms are of the form (number) * size + (number) * scales, so those of all groups add up to the same
    with the sizes and scales of all.
    """
    n = min(n_all, model.group or n_all)
    u, h = _unit(model.sums), _half_least(model.sums)
    leaf = 0 * size
    if model.products != "exact":
        leaf = _unit(model.products) * size + n * _half_least(model.products) * scales
    if model.products == "exact" or not within(model.products, model.sums):
        leaf = leaf + u * (size + leaf) + (2 * n - 1) * h * scales
    all_leaves = size + leaf
    largest = all_leaves * (1 + (n - 1) * u)
    error = leaf + (n - 1) * u * all_leaves
    spread = np.hypot(leaf, math.sqrt(n - 1) * u * largest)
    if model.group is None:
        return _Width(error, spread, largest, largest)
    groups = -(-n_all // n)
    v, least = _unit(model.outer), _half_least(model.outer)
    if not within(model.sums, model.outer):
        rounding = v * (size + error) + least * scales
        error, spread = error + rounding, np.hypot(spread, rounding)
    rounding = v * (size + error) + groups * least
    error, spread = error + rounding, np.hypot(spread, rounding)
    outer = (size + error) * (1 + (groups - 1) * v)
    error = error + (groups - 1) * v * (size + error)
    return _Width(error, np.hypot(spread, math.sqrt(groups - 1) * v * outer), largest, outer)


def _fits(model: Accumulator, n: int, size: F64, top: F64, width: _Width) -> NDArray[np.bool_]:
    """Return where nothing can overflow."""
    forms = [model.sums] + ([] if model.products == "exact" else [model.products])
    forms += [model.outer] if model.group else []  # a sum is rounded to it before its scale
    inside = _width(model, n, top, 1.0).sums * UPWARD <= min(map(_largest, forms))
    return np.asarray(inside & (width.outer * UPWARD <= _largest(model.last)))


def _unit(form: str) -> float:
    """Return the unit roundoff; sums of whole numbers have none."""
    return 0.0 if form == "int32" else 2.0 ** -FORMATS[form][0]


def _half_least(form: str) -> float:
    """Return half the least subnormal; the whole of it for float64, which has no half."""
    if form == "int32":
        return 0.0
    precision, least, _ = FORMATS[form]
    return max(math.ldexp(1, least - precision), math.ldexp(1, -1074))


def _largest(form: str) -> float:
    if form == "int32":
        return 2.0**31 - 1
    precision, _, most = FORMATS[form]
    return math.ldexp(2 - 2.0 ** (1 - precision), most)
