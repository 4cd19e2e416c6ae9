"""What `dot_bound` finds, and what it says of an implementation's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_reals
from kbit_ref.products.accumulate import Accumulator

__all__ = ["DotBound", "Judgement"]

F64 = NDArray[np.float64]


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
