"""The scale rules of `exact/rules.py` on many blocks at once: each is a few NumPy operations.

x is [n, size] in the format of the arithmetic; `finite` marks the elements that count, or is None
if all do. Everything returned is [n, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic, round_to_integer
from kbit_ref.exact.rules import CLIPS, EPS, Hqq, Mlx
from kbit_ref.tensors.scheme import Scheme

__all__ = ["RULES", "AbsMax", "Affine", "Rule", "in_order", "largest"]

Array = NDArray[Any]
Finite = NDArray[np.bool_] | None


class Rule:
    """The formulas of a rule; `kbit_ref.exact.rules` holds the facts about it."""

    def empty(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        """Where there is nothing to scale."""
        return np.asarray(largest(x, finite) == 0)

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        """The scale before it is stored; 0 for a block of zeros."""
        raise NotImplementedError

    def candidates(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Iterator[Array]:
        """The scales to choose from by the least squared error, the first of equals."""
        yield self.scale(s, a, x, finite)

    def offset(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        """The offset before it is stored."""
        raise NotImplementedError

    def zero(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite, used: Array) -> Array:
        """The zero point for the scale in use."""
        raise NotImplementedError

    def factor(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array | None:
        """What x is multiplied by, in the rules that do not divide by the scale."""
        return None


RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[type[Rule]], type[Rule]]:
    """Decorate a class: the rule of that name."""

    def decorate(cls: type[Rule]) -> type[Rule]:
        RULES[name] = cls()
        return cls

    return decorate


# What rules are made of ------------------------------------------------------------------------


def largest(x: Array, finite: Finite) -> Array:
    """The largest magnitude."""
    return np.maximum(_high(x, finite), -_low(x, finite)) if x.shape[1] > 4096 else _absmax(x, finite)


def _absmax(x: Array, finite: Finite) -> Array:
    magnitudes = np.abs(x)
    if finite is not None:
        magnitudes[~finite] = 0
    starts = np.arange(0, magnitudes.size, magnitudes.shape[1])
    return np.maximum.reduceat(magnitudes.reshape(-1), starts)[:, None]


def _low(x: Array, finite: Finite) -> Array:
    return _extreme(np.minimum, x, finite)


def _high(x: Array, finite: Finite) -> Array:
    return _extreme(np.maximum, x, finite)


def _extreme(function: Any, x: Array, finite: Finite) -> Array:
    """Minimum or maximum; 0 for a block without finite elements."""
    if finite is None:
        return np.asarray(function.reduce(x, axis=1, keepdims=True))
    fill = x.dtype.type(np.inf if function is np.minimum else -np.inf)
    found = function.reduce(np.where(finite, x, fill), axis=1, keepdims=True)
    return np.asarray(np.where(np.isfinite(found), found, x.dtype.type(0)))


def _count(x: Array, finite: Finite) -> Array:
    return np.full((len(x), 1), x.shape[1]) if finite is None else finite.sum(axis=1, keepdims=True)


def _bottom(s: Scheme) -> float:
    """The smallest level."""
    levels = s.dtype.levels[s.dtype.emitted]
    return float(levels[np.isfinite(levels)].min())


def in_order(x: Array, finite: Finite) -> Array:
    """Sums along a block in order, each addition rounded to float64."""
    kept = x if finite is None else np.where(finite, x, 0)
    if kept.shape[1] > len(kept):
        with np.errstate(over="ignore"):
            return np.cumsum(kept, axis=1, dtype=np.float64)[:, -1:] + 0.0  # from +0, so never -0
    total = np.zeros(len(kept))
    for column in np.asarray(kept, np.float64).T:
        total = total + column
    return total[:, None]


def _with_eps(s: Scheme, a: Arithmetic, value: Array) -> Array:
    return value if s["eps"] == "0" else a.add(value, a.dtype(float(EPS[s["eps"]])))


# The rules -------------------------------------------------------------------------------------


@rule("absmax")
class AbsMax(Rule):
    """The largest magnitude over the largest level."""

    def reach(self, s: Scheme) -> float:
        """What the largest magnitude becomes."""
        return float(s.dtype.top)

    def magnitude(self, s: Scheme, x: Array, finite: Finite) -> Array:
        """The magnitude that becomes `reach`."""
        return largest(x, finite)

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        return self.over(s, a, x, finite, a.dtype(self.reach(s)))

    def over(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite, reach: Any) -> Array:
        """The scale for which the largest magnitude becomes `reach`."""
        m = _with_eps(s, a, self.magnitude(s, x, finite))
        if s["scaleas"] == "multiplier":
            return a.divide(m, reach)
        return np.where(m == 0, m, a.divide(reach, m))


@rule("absmaxhalf")
class AbsMaxHalf(AbsMax):
    """Over half of 2**k - 1."""

    def reach(self, s: Scheme) -> float:
        return float((2**s.dtype.bits - 1) / 2)


@rule("absmaxfull")
class AbsMaxFull(AbsMax):
    """Over 2**(k - 1)."""

    def reach(self, s: Scheme) -> float:
        return float(2 ** (s.dtype.bits - 1))


@rule("percentile")
class Percentile(AbsMax):
    """An order statistic of the magnitudes."""

    def magnitude(self, s: Scheme, x: Array, finite: Finite) -> Array:
        magnitudes = np.abs(x)
        if finite is not None:
            magnitudes[~finite] = np.inf  # they sort behind all others
        magnitudes.sort(axis=1)
        share = Fraction(s["percentile"]) / 100
        count = _count(x, finite)
        rank = -(-count * share.numerator // share.denominator)
        found = np.take_along_axis(magnitudes, np.maximum(rank - 1, 0), axis=1)
        return np.where(count == 0, x.dtype.type(0), found)


@rule("clip")
class Clip(Rule):
    """Shares of the largest magnitude."""

    def candidates(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Iterator[Array]:
        m = largest(x, finite)
        for share in CLIPS:
            yield a.divide(a.multiply(m, a.dtype(float(share))), a.dtype(s.dtype.top))


@rule("signedmax")
class SignedMax(Rule):
    """The first element of largest magnitude over the level of largest magnitude."""

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        magnitudes = np.abs(x) if finite is None else np.where(finite, np.abs(x), -1)
        at = magnitudes.argmax(axis=1, keepdims=True)
        first = np.take_along_axis(x, at, axis=1)
        if s["signedtie"] == "negative":
            tied = x == -np.abs(first)  # first is finite if any element is
            first = np.where(tied.any(axis=1, keepdims=True) & (first != 0), -np.abs(first), first)
        levels = s.dtype.levels[s.dtype.emitted]
        bottom, top = levels[np.isfinite(levels)].min(), s.dtype.top
        scale = a.divide(first, a.dtype(bottom if -bottom > top else top))
        return np.where(np.take_along_axis(magnitudes, at, axis=1) < 0, a.dtype(0), scale)  # nothing is finite


@rule("rms")
class RootMeanSquare(Rule):
    """Root mean square."""

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        with np.errstate(over="ignore", under="ignore"):
            squares = np.where(True if finite is None else finite, np.asarray(x, np.float64), 0) ** 2
            return a.round(np.sqrt(in_order(squares, None) / np.maximum(_count(x, finite), 1)))


@rule("minmax")
class MinMax(Rule):
    """The range over the steps."""

    def empty(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        return np.asarray(_high(x, finite) == _low(x, finite))

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        span = a.subtract(_high(x, finite), _low(x, finite))
        return a.divide(_with_eps(s, a, span), a.dtype(s.dtype.top))

    def offset(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        return np.asarray(_low(x, finite) + a.dtype(0))  # -0 is 0


@rule("affine")
class Affine(Rule):
    """The range with 0 over the steps."""

    def empty(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        low, high = self.ends(s, a, x, finite)
        return np.asarray(low == high)

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        low, high = self.ends(s, a, x, finite)
        return a.divide(_with_eps(s, a, a.subtract(high, low)), a.dtype(s.dtype.top - _bottom(s)))

    def ends(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> tuple[Array, Array]:
        """The range."""
        return np.minimum(_low(x, finite), 0), np.maximum(_high(x, finite), 0)

    def zero(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite, used: Array) -> Array:
        lowest = _bottom(s)
        low, _ = self.ends(s, a, x, finite)
        steps = np.where(used == 0, lowest, self.steps(s, a, low, used))
        if s["flatzero"] == "middle":
            steps = np.where(self.scale(s, a, x, finite) == 0, lowest + 2 ** (s.dtype.bits - 1), steps)
        return np.clip(steps, lowest, s.dtype.top).astype(np.uint8 if lowest == 0 else np.int8)

    def steps(self, s: Scheme, a: Arithmetic, low: Array, used: Array) -> Array:
        """The zero point before it is kept in range."""
        return round_to_integer(a.subtract(a.dtype(_bottom(s)), a.divide(low, used)), s.dtype.ties)


@rule("affineplain")
class AffinePlain(Affine):
    """The range as it is."""

    def ends(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> tuple[Array, Array]:
        low, high = _low(x, finite), _high(x, finite)
        if s["flat"] == "widen":
            flat = low == high
            return np.where(flat, a.subtract(low, a.dtype(1)), low), np.where(flat, a.add(high, a.dtype(1)), high)
        return low, high

    def steps(self, s: Scheme, a: Arithmetic, low: Array, used: Array) -> Array:
        return _bottom(s) + round_to_integer(a.divide(-low, used), s.dtype.ties)


@rule("mlx")
class MlxAffine(Rule):
    """One edge is exact, and 0 is a level."""

    def fit(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> tuple[Array, Array]:
        """Scale and offset."""
        low, high = _low(x, finite), _high(x, finite)
        least = a.dtype(float(Mlx.LEAST))
        scale = np.maximum(a.divide(a.subtract(high, low), a.dtype(s.dtype.top)), least)
        below = np.abs(low) > np.abs(high)
        edge, scale = np.where(below, low, high), np.where(below, scale, -scale)
        steps = np.rint(a.divide(edge, scale))
        at_zero = steps == 0
        fitted = a.divide(edge, np.where(at_zero, a.dtype(1), steps))
        fitted = np.where(np.isinf(steps), a.dtype(0), fitted)  # a zero without a sign
        return np.where(at_zero, scale, fitted), np.where(at_zero, a.dtype(0), edge)

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        return self.fit(s, a, x, finite)[0]

    def offset(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        return np.asarray(self.fit(s, a, x, finite)[1] + a.dtype(0))  # -0 is 0


@rule("hqq")
class HalfQuadratic(Rule):
    """The start of half-quadratic quantization: a factor and a real zero point."""

    def factor(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        span = a.subtract(_high(x, finite), _low(x, finite))
        factor = np.minimum(a.multiply(a.divide(a.dtype(1), span), a.dtype(s.dtype.top)), a.dtype(float(Hqq.MOST)))
        return np.asarray(np.where(span <= a.dtype(float(Hqq.LEAST)), a.dtype(1), factor))

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        return a.divide(a.dtype(1), self.factor(s, a, x, finite))

    def zero(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite, used: Array) -> Array:
        with np.errstate(over="ignore", under="ignore"):
            low = _low(x, finite)
            lowest = np.where(low == 0, a.dtype(-0.0), -low)
            return a.multiply(lowest, self.factor(s, a, x, finite)).astype(np.float32)


class _PowerOfTwo(Rule):
    """From the exponent bits (frexp reads them; no logarithm)."""

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        m = largest(x, finite)
        fraction, exponent = np.frexp(m.astype(np.float64))  # m = fraction * 2**exponent, 1/2 <= fraction < 1
        top_exponent = int(np.frexp(s.dtype.top)[1])
        scale = np.ldexp(1.0, exponent + self.more(s, fraction) - top_exponent)
        return np.where(m > 0, np.maximum(scale, 5e-324), 0.0)  # below float64 it is still not 0

    def more(self, s: Scheme, fraction: Array) -> Any:
        """What is added to floor(log2 m)."""
        raise NotImplementedError


@rule("pow2floor")
class PowerFloor(_PowerOfTwo):
    """The exponent as it is."""

    def more(self, s: Scheme, fraction: Array) -> Any:
        return 0


@rule("pow2ceil")
class PowerCeil(_PowerOfTwo):
    """One more above a power of two."""

    def more(self, s: Scheme, fraction: Array) -> Any:
        return fraction > 0.5


@rule("pow2even")
class PowerEven(_PowerOfTwo):
    """One more where the significand rounds up to 2."""

    def more(self, s: Scheme, fraction: Array) -> Any:
        steps = 2.0 ** (self.width(s) + 1)
        return np.asarray(np.rint(fraction * steps) == steps)

    def width(self, s: Scheme) -> int:
        """How many bits of significand are kept."""
        levels = s.dtype.levels[s.dtype.emitted]
        levels = np.unique(levels[np.isfinite(levels)])
        e = int(np.frexp(levels[-1])[1]) - 1
        binade = levels[levels >= 2.0**e]
        return e + 1 - int(np.frexp(np.diff(binade).min())[1]) if binade.size > 1 else 0


@rule("pow2even1")
class PowerEvenOne(PowerEven):
    """The same with 1 bit."""

    def width(self, s: Scheme) -> int:
        return 1


@rule("pow2rceil")
class PowerRoundedCeil(Rule):
    """The power of two at or above the float32 quotient."""

    def scale(self, s: Scheme, a: Arithmetic, x: Array, finite: Finite) -> Array:
        m = largest(x, finite)
        with np.errstate(under="ignore", over="ignore"):
            wide = _divided(m, s.dtype.top)
        wide = np.where((wide == 0) & (m > 0), 2.0**-200, wide)
        fraction, exponent = np.frexp(wide)
        scale = np.where(np.isinf(wide), np.inf, np.ldexp(1.0, exponent - (fraction == 0.5)))
        return np.where(m > 0, scale, 0.0)


def _divided(m: Array, top: float) -> Array:
    """fl32(m / top), as float64, as if each quotient were rounded once."""
    if m.dtype == np.float32:
        return (m / np.float32(top)).astype(np.float64)
    # Rounding to float64 first hides no side of a tie h between two float32: h * top has at most 25 + 24 bits, so it
    # is a float64, and the next m is so far from it that m / top is more than half a step of float64 from h.
    return (m / top).astype(np.float32).astype(np.float64)
