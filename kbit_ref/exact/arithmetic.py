"""Arithmetic rounded once, in rationals: float16, bfloat16, float32, float64, with IEEE's zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from kbit_ref.exact.code import is_special

__all__ = ["FORMATS", "Arithmetic", "Number", "floor_log2", "is_finite", "is_negative", "round_to", "round_to_integer"]

Number = Fraction | float  # a Fraction, or the floats inf, -inf, nan, -0.0

FORMATS = {  # precision in bits, least and most exponent
    "float16": (11, -14, 15),
    "bfloat16": (8, -126, 127),
    "float32": (24, -126, 127),
    "float64": (53, -1022, 1023),
}


def floor_log2(x: Fraction) -> int:
    """The integer e with 2**e <= x < 2**(e + 1), for x > 0."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def round_to(x: Number, form: str) -> Number:
    """x rounded to a binary format, to nearest and ties to even, subnormals kept; infinity beyond.

    Examples
    --------
    >>> round_to(Fraction(1, 3), "bfloat16"), round_to(Fraction(65520), "float16")
    (Fraction(171, 512), inf)
    """
    if not isinstance(x, Fraction) or x == 0:
        return x
    precision, least, most = FORMATS[form]
    e = max(floor_log2(abs(x)), least)
    unit = Fraction(2) ** (e - precision + 1)
    rounded = round(x / unit) * unit  # round() ties to even
    if abs(rounded) >= Fraction(2) ** (most + 1):
        return math.inf if x > 0 else -math.inf
    return rounded if rounded else signed_zero(x < 0)


def round_to_integer(x: Number, ties: str) -> int:
    """The nearest integer, a tie as the name says (`exact.CHOICES`); a very large one for infinity.

    Examples
    --------
    >>> [round_to_integer(Fraction(-5, 2), ties) for ties in ("even", "away", "zero", "upper", "lower")]
    [-2, -3, -2, -2, -3]
    """
    if not is_finite(x):
        return int(math.copysign(2**62, x))
    whole = math.floor(x)
    rest = as_fraction(x) - whole
    if rest != Fraction(1, 2):
        return whole + (rest > Fraction(1, 2))
    up = {"even": whole % 2 == 1, "away": whole >= 0, "zero": whole < 0, "upper": True, "lower": False}
    return whole + up[ties]


def is_finite(x: Number) -> bool:
    """Neither NaN nor infinity."""
    return isinstance(x, Fraction) or math.isfinite(x)


def is_negative(x: Number) -> bool:
    """The sign bit."""
    return math.copysign(1, x) < 0


def signed_zero(negative: bool) -> Number:
    """A zero of that sign."""
    return -0.0 if negative else Fraction(0)


def as_number(x: Any) -> Number:
    """A Python or NumPy number as a Fraction; specials and -0 as floats."""
    if isinstance(x, Fraction):
        return x
    value = float(x)
    return value if is_special(value) else Fraction(value)


def as_fraction(x: Number) -> Fraction:
    """A finite number as a Fraction, which has one zero."""
    return x if isinstance(x, Fraction) else Fraction(x)


def largest(values: Sequence[Number]) -> Fraction:
    """The largest magnitude; 0 of nothing."""
    return max((abs(as_fraction(x)) for x in values), default=Fraction(0))


class Arithmetic:
    """Operations rounded once to a format."""

    def __init__(self, form: str):
        self.form = form

    def fl(self, x: Number) -> Number:
        """x in the format."""
        return round_to(x, self.form)

    def add(self, a: Number, b: Number) -> Number:
        """fl(a + b)."""
        if a == 0 and b == 0:
            return signed_zero(is_negative(a) and is_negative(b))
        if not (is_finite(a) and is_finite(b)):
            return float(a) + float(b)
        total = as_fraction(a) + as_fraction(b)
        return self.fl(total) if total else Fraction(0)

    def subtract(self, a: Number, b: Number) -> Number:
        """fl(a - b)."""
        return self.add(a, -b if b else signed_zero(not is_negative(b)))

    def multiply(self, a: Number, b: Number) -> Number:
        """fl(a * b)."""
        negative = is_negative(a) != is_negative(b)
        bounded = is_finite(a) and is_finite(b)
        if a != a or b != b:
            return math.nan
        if a == 0 or b == 0:
            return signed_zero(negative) if bounded else math.nan
        if not bounded:
            return _infinity(negative)
        return self.fl(as_fraction(a) * as_fraction(b))

    def divide(self, a: Number, b: Number) -> Number:
        """fl(a / b)."""
        negative = is_negative(a) != is_negative(b)
        if a != a or b != b or (a == 0 and b == 0) or not (is_finite(a) or is_finite(b)):
            return math.nan
        if a == 0 or not is_finite(b):
            return signed_zero(negative)
        if b == 0 or not is_finite(a):
            return _infinity(negative)
        return self.fl(as_fraction(a) / as_fraction(b))

    def sum(self, values: Sequence[Number]) -> Number:
        """In order, each addition rounded."""
        total: Number = Fraction(0)
        for value in values:
            total = self.add(total, value)
        return total

    def square_root(self, x: Fraction) -> Number:
        """fl of the square root of x > 0."""
        shift = 2 * max(0, 120 - floor_log2(x) // 2)
        scaled = x * Fraction(2) ** shift
        root = math.isqrt(math.floor(scaled))
        sticky = Fraction(1, 4) if root * root != scaled else Fraction(0)
        return self.fl((root + sticky) / Fraction(2) ** (shift // 2))


def _infinity(negative: bool) -> Number:
    return -math.inf if negative else math.inf
