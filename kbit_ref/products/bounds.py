"""`dot_bound`: judge a matrix product by a derived interval, or by equality in a named order of additions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_reals
from kbit_ref.products.accumulate import Accumulator
from kbit_ref.products.accumulate import accumulator as accumulator_named
from kbit_ref.products.interval import interval
from kbit_ref.products.operands import Operands, operands
from kbit_ref.products.variants import ProductDiagnosis, explain_product

__all__ = ["DotBound", "Judgement", "dot_bound"]

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judgement:
    """The elements of an answer that cannot be right; true if there are none.

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
    find
        What searches for an explanation, if elements are outside or more are improbable than chance gives.
    """

    what: str
    outside: NDArray[np.bool_]
    unbounded: int
    improbable: int
    error: F64
    nearest: tuple[float, float]
    text: str
    find: Callable[[], ProductDiagnosis] | None = None

    @cached_property
    def diagnosis(self) -> ProductDiagnosis | None:
        """Return what explains the elements that are outside or improbable; None if there are none."""
        return None if self.find is None else self.find()

    def __bool__(self) -> bool:
        return not self.outside.any()

    @property
    def doubtful(self) -> float:
        """Return the share of elements outside or improbable."""
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
        diagnosis = "" if self.diagnosis is None else self.diagnosis.sentence
        return "; ".join(text for text in (", ".join(parts), diagnosis, self.text) if text)


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
    given
        The operands.
    """

    accumulator: Accumulator
    delta: float
    centre: F64
    lower: F64
    upper: F64
    magnitude: F64
    probable: F64
    replayed: NDArray[Any] | None
    given: Operands = field(repr=False)

    @property
    def width(self) -> F64:
        """Return upper - lower."""
        return self.upper - self.lower

    @property
    def bounded(self) -> NDArray[np.bool_]:
        """Return where overflow cannot be."""
        return ~(np.isneginf(self.lower) & np.isposinf(self.upper))

    def holds(self, c: Any) -> Judgement:
        """Judge whether a product lies in the interval, whatever its order of additions."""
        theirs = self._answer(c)
        outside = self.bounded & ~((theirs >= self.lower) & (theirs <= self.upper))  # NaN is outside
        return self._judged(theirs, outside, "inside")

    def equal(self, c: Any) -> Judgement:
        """Judge whether a product is that in the named order, bit for bit; zeros of both signs are equal, and NaNs."""
        if self.replayed is None:
            rule = "any order has no one answer"
            raise BadInput(message("equal", f"accumulator = {self.accumulator}", rule, "name one: +order=sequential"))
        theirs = self._answer(c)
        return self._judged(theirs, ~same(theirs, self.replayed, zeros=False), "equal")

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
        chance = max(2.0, 10 * self.delta * outside.size)
        found = None
        if outside.any() or (what == "inside" and improbable.sum() > chance):
            found = partial(self._diagnosis, theirs, outside | improbable)
        return Judgement(what, outside, unbounded, int(improbable.sum()), error, nearest, text, found)

    def _diagnosis(self, theirs: F64, doubtful: NDArray[np.bool_]) -> ProductDiagnosis:
        """Name what explains the elements that are outside or improbable."""
        flat = (len(self.given.a), self.given.b.shape[1])
        centre, answers, where = self.centre.reshape(flat), theirs.reshape(flat), doubtful.reshape(flat)
        return explain_product(self.given, self.accumulator, centre, answers, where, self.delta)


def dot_bound(
    a: Any,
    b: Any,
    accumulator: Accumulator | str = "float32",
    *,
    scales: Any = None,
    delta: float = 0.001,
) -> DotBound:
    """Bound each element of a @ b, for any order of additions.

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
    Rounding is to nearest even, subnormals are not flushed (a mode that flushes them to zero is another
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
    found = interval(model, given, delta)
    shape = (*given.shape, given.b.shape[1])
    centre, lower, upper, magnitude, probable = (array.reshape(shape) for array in found[:5])
    replayed = None if found.replayed is None else found.replayed.reshape(shape)
    return DotBound(model, delta, centre, lower, upper, magnitude, probable, replayed, given)
