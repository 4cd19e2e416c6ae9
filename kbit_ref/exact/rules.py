"""Scale rules: what a block stores besides its codes. One class a rule; its first line says the formula.

`s` is the scheme, `a` the arithmetic (every operation rounded once), `x` the finite numbers of the
block. `top` is the largest level; 2**k is the number of codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar

from kbit_ref.exact.arithmetic import (
    Arithmetic,
    Number,
    as_fraction,
    floor_log2,
    is_finite,
    largest,
    round_to,
    round_to_integer,
    signed_zero,
)
from kbit_ref.exact.code import definition

__all__ = ["CLIPS", "RULES", "AbsMax", "Rule", "power", "rule", "significand_bits", "top"]

CLIPS = tuple(Fraction(i, 32) for i in range(32, 7, -1))  # the shares of max|x| that `clip` tries, in turn

EPS = {name: round_to(Fraction(name), "float32") for name in ("0", "1e-7", "1e-5")}  # added to max|x| or max - min


class Rule:
    """How the scale of a block is found, and the offset or zero point that some rules add."""

    unsigned: ClassVar[bool] = False  # the codes count from 0: for uint types
    integers: ClassVar[bool] = False  # for uint, int and oint types
    negative: ClassVar[bool] = False  # the scale may be negative
    power_of_two: ClassVar[bool] = False
    offset_added: ClassVar[bool] = False  # x = level * scale + offset
    zero_point: ClassVar[str] = ""  # x = (code - zero point) * scale: `integer` or `real`
    zeros: ClassVar[bool] = True  # a block of zeros has the scale 0
    uses: ClassVar[tuple[str, ...]] = ()  # the choices that this rule heeds, of those that not every rule does

    def empty(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> bool:
        """Is there nothing to scale? Only such a block may have the scale 0."""
        return not largest(x)

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        """The scale before it is stored; 0 for a block of zeros."""
        raise NotImplementedError

    def candidates(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> list[Number]:
        """The scales to choose from by the least squared error, the first of equals; most rules have one."""
        return [self.scale(s, a, x)]

    def magnitude(self, s: Any, x: Sequence[Number]) -> Fraction:
        """The magnitude that the scale follows from, in the rules that have one."""
        return largest(x)

    def offset(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        """The offset before it is stored."""
        raise NotImplementedError

    def zero(self, s: Any, a: Arithmetic, x: Sequence[Number], used: Number) -> Number:
        """The zero point for the scale in use."""
        raise NotImplementedError

    def factor(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number | None:
        """What x is multiplied by, in the rules that do not divide by the scale."""
        return None


RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[type[Rule]], type[Rule]]:
    """Decorate a class: the rule of that name."""

    def decorate(cls: type[Rule]) -> type[Rule]:
        RULES[name] = cls()
        return cls

    return decorate


def top(dtype: Any) -> Fraction:
    """The largest level of a type, a name or an object."""
    return definition(dtype).values[-1]


def bottom(dtype: Any) -> Fraction:
    """The smallest level."""
    return definition(dtype).values[0]


def _low(x: Sequence[Number]) -> Fraction:
    return as_fraction(min(x, default=Fraction(0)))


def _high(x: Sequence[Number]) -> Fraction:
    return as_fraction(max(x, default=Fraction(0)))


class _Symmetric(Rule):
    """The largest magnitude over a number of the type."""

    uses: ClassVar[tuple[str, ...]] = ("eps", "scaleas")

    def reach(self, s: Any) -> Fraction:
        """What the largest magnitude becomes."""
        return top(s.dtype)

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        return self.over(s, a, x, self.reach(s))

    def over(self, s: Any, a: Arithmetic, x: Sequence[Number], reach: Number) -> Number:
        """The scale for which the largest magnitude becomes `reach`."""
        m = a.add(self.magnitude(s, x), EPS[s["eps"]])
        if not m:
            return Fraction(0)
        return a.divide(m, reach) if s["scaleas"] == "multiplier" else a.divide(reach, m)


@rule("absmax")
class AbsMax(_Symmetric):
    """fl(max|x| / top)"""

    uses = (*_Symmetric.uses, "global")


@rule("absmaxhalf")
class AbsMaxHalf(_Symmetric):
    """fl(max|x| / ((2**k - 1) / 2)): 7.5 for 4 bits, 127.5 for 8"""

    def reach(self, s: Any) -> Fraction:
        return Fraction(2**s.dtype.bits - 1, 2)


@rule("absmaxfull")
class AbsMaxFull(_Symmetric):
    """fl(max|x| / 2**(k - 1)): 8 for 4 bits, 128 for 8"""

    def reach(self, s: Any) -> Fraction:
        return Fraction(2 ** (s.dtype.bits - 1))


@rule("percentile")
class Percentile(_Symmetric):
    """fl(p / top), p the ceil(n * percentile / 100)-th smallest of the n magnitudes"""

    uses = (*_Symmetric.uses, "percentile")

    def magnitude(self, s: Any, x: Sequence[Number]) -> Fraction:
        rank = math.ceil(len(x) * Fraction(s["percentile"]) / 100)
        return sorted(abs(as_fraction(value)) for value in x)[rank - 1] if x else Fraction(0)


@rule("clip")
class Clip(Rule):
    """of fl(max|x| * i/32 / top), i = 32 ... 8, the first with the least sum of squared errors"""

    def candidates(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> list[Number]:
        m = largest(x)
        return [a.divide(a.multiply(m, share), top(s.dtype)) for share in CLIPS] if m else [Fraction(0)]


@rule("signedmax")
class SignedMax(Rule):
    """fl(m / L): m the first element of largest magnitude, L the level of largest magnitude"""

    negative = True
    uses = ("signedtie",)

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        if not x:
            return Fraction(0)
        m = largest(x)
        first = next(value for value in x if abs(value) == m)
        if s["signedtie"] == "negative" and m and -m in x:
            first = -m
        bottom = definition(s.dtype).values[0]
        return a.divide(first, top(s.dtype) if top(s.dtype) >= abs(bottom) else bottom)


@rule("rms")
class RootMeanSquare(Rule):
    """root mean square, summed in order in float64"""

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        if not largest(x):
            return Fraction(0)
        f64 = Arithmetic("float64")
        mean = f64.divide(f64.sum([f64.multiply(value, value) for value in x]), Fraction(len(x)))
        return a.fl(f64.square_root(as_fraction(mean)))


@rule("minmax")
class MinMax(Rule):
    """fl((max - min) / (2**k - 1)), offset = min; unsigned integers"""

    unsigned = offset_added = True
    uses = ("eps",)

    def empty(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> bool:
        return _high(x) == _low(x)  # one number, which the offset is

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        return a.divide(a.add(a.subtract(_high(x), _low(x)), EPS[s["eps"]]), top(s.dtype))

    def offset(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        return _low(x)  # -0 is 0


@rule("affine")
class Affine(Rule):
    """range widened to hold 0, fl((max - min) / (2**k - 1)); zero point: fl(lowest - fl(min / scale)), rounded"""

    integers, zero_point = True, "integer"
    uses: ClassVar[tuple[str, ...]] = ("eps", "flatzero", "zeroadd")

    def empty(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> bool:
        low, high = self.ends(s, a, x)
        return low == high

    def ends(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> tuple[Fraction, Fraction]:
        """The range."""
        return min(_low(x), Fraction(0)), max(_high(x), Fraction(0))

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        low, high = self.ends(s, a, x)
        return a.divide(a.add(a.subtract(high, low), EPS[s["eps"]]), top(s.dtype) - bottom(s.dtype))

    def zero(self, s: Any, a: Arithmetic, x: Sequence[Number], used: Number) -> Number:
        lowest, highest = int(bottom(s.dtype)), int(top(s.dtype))
        low, _ = self.ends(s, a, x)
        if s["flatzero"] == "middle" and not self.scale(s, a, x):
            return Fraction(lowest + 2 ** (s.dtype.bits - 1))
        steps = self.steps(s, a, low, used) if used else lowest
        return Fraction(max(lowest, min(highest, steps)))

    def steps(self, s: Any, a: Arithmetic, low: Fraction, used: Number) -> int:
        """The zero point before it is kept in range."""
        return round_to_integer(a.subtract(bottom(s.dtype), a.divide(low, used)), s.dtype.ties)


@rule("affineplain")
class AffinePlain(Affine):
    """as affine, but the range is not widened (0 may be lost); zero point lowest + round(fl(-min / scale))"""

    uses = (*Affine.uses, "flat")

    def ends(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> tuple[Fraction, Fraction]:
        low, high = _low(x), _high(x)
        if low == high and s["flat"] == "widen":
            return as_fraction(a.subtract(low, Fraction(1))), as_fraction(a.add(high, Fraction(1)))
        return low, high

    def steps(self, s: Any, a: Arithmetic, low: Fraction, used: Number) -> int:
        return int(bottom(s.dtype)) + round_to_integer(a.divide(-low, used), s.dtype.ties)


@rule("mlx")
class Mlx(Rule):
    """minmax with the edge of larger magnitude as offset, refitted so that 0 is a level; signed scale"""

    unsigned = offset_added = negative = True
    zeros = False
    LEAST = round_to(Fraction(1, 10**7), "float32")

    def fit(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> tuple[Number, Number]:
        """Scale and offset."""
        low, high = _low(x), _high(x)
        scale = max(a.divide(a.subtract(high, low), top(s.dtype)), self.LEAST)
        edge = low if abs(low) > abs(high) else high
        if edge is high:
            scale = -scale
        if not is_finite(quotient := a.divide(edge, scale)):
            return Fraction(0), edge
        steps = round_to_integer(quotient, "even")
        return (a.divide(edge, Fraction(steps)), edge) if steps else (scale, Fraction(0))

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        return self.fit(s, a, x)[0]

    def offset(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        return self.fit(s, a, x)[1]


@rule("hqq")
class Hqq(Rule):
    """fl(1 / f), f = fl((2**k - 1) * fl(1 / (max - min))) up to 2e4; real zero point fl(-min * f); unsigned integers"""

    unsigned, zero_point = True, "real"
    zeros = False
    MOST = Fraction(20000)
    LEAST = round_to(Fraction(1, 10**4), "float32")

    def factor(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        span = as_fraction(a.subtract(_high(x), _low(x)))
        if span <= as_fraction(self.LEAST):
            return Fraction(1)
        return min(a.multiply(a.divide(Fraction(1), span), top(s.dtype)), self.MOST)

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        return a.divide(Fraction(1), self.factor(s, a, x))

    def zero(self, s: Any, a: Arithmetic, x: Sequence[Number], used: Number) -> Number:
        return a.multiply(-_low(x) or signed_zero(True), self.factor(s, a, x))


class _PowerOfTwo(Rule):
    """2**e of the largest magnitude, never through a logarithm."""

    power_of_two = True

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        m = largest(x)
        return Fraction(2) ** self.exponent(s, m) if m else Fraction(0)

    def exponent(self, s: Any, m: Fraction) -> int:
        """The exponent for the largest magnitude m > 0."""
        raise NotImplementedError


@rule("pow2floor")
class PowerFloor(_PowerOfTwo):
    """2**(floor(log2 max|x|) - floor(log2 top))"""

    def exponent(self, s: Any, m: Fraction) -> int:
        return floor_log2(m) - floor_log2(top(s.dtype))


@rule("pow2ceil")
class PowerCeil(_PowerOfTwo):
    """2**(ceil(log2 max|x|) - floor(log2 top))"""

    def exponent(self, s: Any, m: Fraction) -> int:
        return power(m) - floor_log2(top(s.dtype))


@rule("pow2even")
class PowerEven(_PowerOfTwo):
    """max|x| rounded to the significand of the type, then as pow2floor"""

    def exponent(self, s: Any, m: Fraction) -> int:
        unit = Fraction(2) ** (floor_log2(m) - self.width(s))
        return floor_log2(round(m / unit) * unit) - floor_log2(top(s.dtype))

    def width(self, s: Any) -> int:
        """How many bits of significand are kept."""
        return significand_bits(s.dtype)


@rule("pow2even1")
class PowerEvenOne(PowerEven):
    """as pow2even with 1 bit of significand, whatever the type"""

    def width(self, s: Any) -> int:
        return 1


@rule("pow2rceil")
class PowerRoundedCeil(_PowerOfTwo):
    """2**ceil(log2 fl32(max|x| / top))"""

    def scale(self, s: Any, a: Arithmetic, x: Sequence[Number]) -> Number:
        m = largest(x)
        if m and not is_finite(round_to(m / top(s.dtype), "float32")):
            return math.inf
        return super().scale(s, a, x)

    def exponent(self, s: Any, m: Fraction) -> int:
        quotient = as_fraction(round_to(m / top(s.dtype), "float32"))
        return power(quotient) if quotient else -200  # below every scale there is: stored as the smallest


def power(x: Fraction) -> int:
    """ceil(log2 x), for x > 0."""
    e = floor_log2(x)
    return e if Fraction(2) ** e == x else e + 1


def significand_bits(dtype: Any) -> int:
    """Stored significand bits: how finely the levels resolve the binade of the largest one."""
    values = definition(dtype).values
    e = floor_log2(values[-1])
    binade = [value for value in values if value >= Fraction(2) ** e]
    gaps = [b - a for a, b in pairwise(binade)]
    return e - floor_log2(min(gaps)) if gaps else 0
