"""Where a dot product may lie, derived from formats and data instead of chosen as an `atol`.

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
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.arithmetic import FORMATS
from kbit_ref.inputs import as_reals
from kbit_ref.products.accumulate import Accumulator, within
from kbit_ref.products.accumulate import accumulator as accumulator_named
from kbit_ref.products.exact_product import exact_product, tiles
from kbit_ref.products.operands import Operands, operands
from kbit_ref.products.replay import replay

__all__ = ["DotBound", "Judgement", "dot_bound"]

Array = NDArray[Any]
F64 = NDArray[np.float64]
UPWARD = 1 + 2.0**-40  # more than the roundings of the few operations below, all on numbers >= 0


@dataclass(frozen=True, eq=False)
class Judgement:
    """Where an answer is not what it can be; true if that is nowhere.

    Parameters
    ----------
    what
        `inside` the interval, or `equal` to the product in the named order.
    outside : bool [..., N]
        The elements that are not.
    unbounded
        For how many nothing is claimed, because they may overflow.
    improbable
        How many are inside, but further from the exact product than the probable width.
    error : [..., N]
        |c - exact|.
    nearest
        The error, and how far from the exact product the interval reaches, of the element where their ratio
        is largest; zeros if there is no error.
    text
        The first element outside, in one line, if there is one.
    """

    what: str
    outside: NDArray[np.bool_]
    unbounded: int
    improbable: int
    error: F64
    nearest: tuple[float, float]
    text: str

    def __bool__(self) -> bool:
        return not self.outside.any()

    @property
    def doubtful(self) -> float:
        """The share of elements outside or improbable."""
        return (int(self.outside.sum()) + self.improbable) / max(self.outside.size, 1)

    def __repr__(self) -> str:
        return f"Judgement: {self}"

    def __str__(self) -> str:
        n = self.outside.size
        inside = n - int(self.outside.sum()) - self.unbounded
        parts = [f"{inside} of {n} {self.what}"]
        if self.unbounded:
            parts.append(f"{self.unbounded} without a bound: may overflow")
        if self.improbable:
            parts.append(f"{self.improbable} improbable")
        error, possible = self.nearest
        parts.append(f"error {error:.2g} where {possible:.2g} is possible" if error else "no error")
        return ", ".join(parts) + (f"; {self.text}" if self.text else "")


@dataclass(frozen=True, eq=False)
class DotBound:
    """For each element of a @ b what it is, and where a computed one may lie.

    Parameters
    ----------
    accumulator, delta
        The model, and the probability that `probable` is exceeded.
    centre : float64 [..., N]
        The exact product, correctly rounded.
    lower, upper : float64 [..., N]
        No answer in any order of additions is outside; infinite both where it may overflow.
    magnitude : float64 [..., N]
        sum|a * b|, rounded up.
    probable : float64 [..., N]
        |computed - exact| is at most this with probability 1 - delta, for each element.
    replayed
        The product in the named order, bit for bit; None if the order is any.
    """

    accumulator: Accumulator
    delta: float
    centre: F64
    lower: F64
    upper: F64
    magnitude: F64
    probable: F64
    replayed: NDArray[Any] | None

    @property
    def width(self) -> F64:
        """upper - lower."""
        return self.upper - self.lower

    @property
    def bounded(self) -> NDArray[np.bool_]:
        """Where overflow cannot be."""
        return ~(np.isneginf(self.lower) & np.isposinf(self.upper))

    def holds(self, c: Any) -> Judgement:
        """Does an implementation's product lie in the interval, whatever its order of additions?"""
        theirs = self._answer(c)
        outside = self.bounded & ~((theirs >= self.lower) & (theirs <= self.upper))  # NaN is outside
        return self._judged(theirs, outside, "inside")

    def equal(self, c: Any) -> Judgement:
        """Is it the product in the named order, bit for bit? Zeros of both signs are equal, and NaNs."""
        if self.replayed is None:
            rule = "any order has no one answer"
            raise BadInput(message("equal", f"accumulator = {self.accumulator}", rule, "name one: +order=sequential"))
        theirs = self._answer(c)
        same = (theirs == self.replayed) | (np.isnan(theirs) & np.isnan(self.replayed))
        return self._judged(theirs, ~same, "equal")

    def _answer(self, c: Any) -> F64:
        array = np.asarray(c) if self.accumulator.out == "int32" else as_reals("dot_bound", c)
        if array.shape != self.centre.shape:
            rule = f"the product has shape {self.centre.shape}"
            raise BadInput(message("dot_bound", f"c of shape {array.shape}", rule, "pass the whole product"))
        return array.astype(np.float64)

    def _judged(self, theirs: F64, outside: NDArray[np.bool_], what: str) -> Judgement:
        with np.errstate(all="ignore"):
            error = np.abs(theirs - self.centre)
            half = np.maximum(self.upper - self.centre, self.centre - self.lower)
            ratio = np.where(error == 0, 0, np.nan_to_num(error / half, nan=np.inf))  # NaN is infinitely wrong
            ratio[~self.bounded] = 0
            improbable = self.bounded & ~outside & (error > self.probable + np.spacing(np.abs(self.centre)))
        text = ""
        if outside.any():
            first = tuple(np.argwhere(outside)[0].tolist())
            wanted = f"outside [{self.lower[first]:.9g}, {self.upper[first]:.9g}]"
            if what == "equal" and self.replayed is not None:
                wanted = f"{self.accumulator.order} gives {self.replayed[first]:.9g}"
            facts = f"exact {self.centre[first]:.9g}, sum|a*b| {self.magnitude[first]:.4g}"
            text = f"c{list(first)} = {theirs[first]:.9g}, {wanted}: {facts}"
        unbounded = int((~self.bounded & ~outside).sum()) if what == "inside" else 0
        at = int(ratio.argmax()) if ratio.size else 0
        nearest = (float(error.flat[at]), float(half.flat[at])) if ratio.any() else (0.0, 0.0)
        return Judgement(what, outside, unbounded, int(improbable.sum()), error, nearest, text)


def dot_bound(
    a: Any,
    b: Any,
    accumulator: Accumulator | str = "float32",
    *,
    scales: Any = None,
    delta: float = 0.001,
) -> DotBound:
    """Where each element of a @ b lies, whoever computed it.

    Parameters
    ----------
    a : [..., K]
        Activations: an array, or a QTensor, which is dequantized.
    b : [K, N]
        Weights: an array, or a QTensor. If the accumulator has groups, a QTensor gives levels (less zero
        points) and scales; otherwise it is dequantized.
    accumulator
        A record or its spelling (`accumulate.py`): `float32`, `bfloat16_via_float32`, `int32_b32`,
        `float32+order=pairwise`, ... The interval is for any order, with products rounded as it says.
    scales : [groups, N]
        With an array b and an accumulator that has groups: what the sums of groups are multiplied by.
    delta
        The probability that the probable width is exceeded, for each element.

    Returns
    -------
    DotBound

    Raises
    ------
    BadInput
        `dot_bound: b of shape (3, 2), a has 4 columns; ...`

    Choices
    -------
    Rounding is to nearest even, subnormals are kept (a mode that flushes them to zero is another
    arithmetic, and so are tensor cores that cut off bits instead of rounding). An implementation that adds
    in a wider format, and rounds once, lies inside as well. `probable` for any order is wide: for an
    implementation whose order is not known name `sequential`, whose partial sums are larger than those of
    the orders in use, and read `holds(c).improbable`.

    Examples
    --------
    >>> bound = dot_bound([[1.0, 2.0, 3.0]], [[0.1], [0.2], [0.3]])
    >>> bound.holds(np.float32([[1.4]]))
    Judgement: 1 of 1 inside, error 2.4e-08 where 2.5e-07 is possible
    >>> bound.holds(np.float32([[1.4001]])).outside
    array([[ True]])
    """
    model = accumulator_named(accumulator)
    if not 0 < delta < 1:
        raise BadInput(message("dot_bound", f"delta = {delta}", "it is a probability", "use 0.001, say"))
    given = operands(a, b, model, scales)
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
    shape = (*given.shape, given.b.shape[1])
    centre, lower, upper, magnitude, probable = (array.reshape(shape) for array in found)
    answer = None if replayed is None else replayed.reshape(shape)
    return DotBound(model, delta, centre, lower, upper, magnitude, probable, answer)


def _tile(model: Accumulator, given: Operands, factor: float) -> list[F64]:
    """Centre, lower, upper, sum|a b| and probable width of a part of the result."""
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
    """Upper bounds of sum|scale * a * b|, sum|scale| and the largest sum|a * b| of a group."""
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
    """The theorem of the top, for the sums of groups and then for their sum; without underflow `scales` is idle.

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
    """Where nothing can overflow."""
    forms = [model.sums] + ([] if model.products == "exact" else [model.products])
    forms += [model.outer] if model.group else []  # a sum is rounded to it before its scale
    inside = _width(model, n, top, 1.0).sums * UPWARD <= min(map(_largest, forms))
    return np.asarray(inside & (width.outer * UPWARD <= _largest(model.last)))


def _unit(form: str) -> float:
    """The unit roundoff; sums of whole numbers have none."""
    return 0.0 if form == "int32" else 2.0 ** -FORMATS[form][0]


def _half_least(form: str) -> float:
    """Half the least subnormal; of float64 the whole, for there is no half."""
    if form == "int32":
        return 0.0
    precision, least, _ = FORMATS[form]
    return max(math.ldexp(1, least - precision), math.ldexp(1, -1074))


def _largest(form: str) -> float:
    if form == "int32":
        return 2.0**31 - 1
    precision, _, most = FORMATS[form]
    return math.ldexp(2 - 2.0 ** (1 - precision), most)
