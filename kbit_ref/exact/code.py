"""The definition: what a k-bit data type means, in rational arithmetic.

A data type is a list of 2**bits levels, indexed by code. To encode a number is to write down
the code of the level next to it. This file says exactly which one, with `fractions.Fraction`
and nothing else: it imports no NumPy and no other room, takes plain numbers and sequences,
and is slow. Everything fast in this project is compared with it.

Read it top to bottom: `Definition` (what a type is), `encode` (value to code), `decode`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import index
from typing import Any

from kbit_ref.errors import BadInput, BadType, UnknownName, message

__all__ = ["CHOICES", "Definition", "Level", "decode", "definition", "encode", "is_special", "names"]

Level = Fraction | float  # a rational, or one of the floats inf, -inf, nan, -0.0

CHOICES = {  # each choice and its names; `Definition` says what they mean
    "rounding": (
        *("nearest", "toward_zero", "toward_positive", "toward_negative", "odd"),
        *("stochastic_a", "stochastic_b", "stochastic_c"),
    ),
    "ties": ("even", "lower", "upper", "zero", "away"),
    "overflow": ("saturate", "finite", "infinity", "ieee"),
    "zero_sign": ("keep", "positive", "negative"),
    "negative": ("saturate", "nan"),
}


def is_special(level: Level) -> bool:
    """Is it no rational number: inf, -inf, nan, or -0.0?"""
    return isinstance(level, float) and (not math.isfinite(level) or (level == 0 and math.copysign(1, level) < 0))


@dataclass(frozen=True)
class Definition:
    """A data type as plain numbers, with every free choice named.

    Parameters
    ----------
    levels
        The number of each code: rationals (or floats that are finite); and the floats `inf`,
        `-inf`, `nan` and `-0.0` where the type has them.
    unused
        Codes that `decode` understands and `encode` never gives. Of several NaN codes, all but
        one are here: the one left is the canonical NaN.
    rounding
        `nearest`, or a directed rounding: `toward_zero`, `toward_positive`, `toward_negative`,
        `odd` (a number that is no level goes to its neighbour with an odd code); or the three
        stochastic ones of IEEE P3109, which take N random bits with every number (see `encode`).
    ties
        Halfway between two levels, nearest takes: `even` the even code, `lower` or `upper` the
        smaller or larger value, `zero` or `away` the smaller or larger magnitude.
    overflow
        Beyond the last level: `saturate` gives the last level, and infinity for infinity where
        the type has it; `finite` gives the last level for infinity too. The other two round as if
        the levels went on (the next one being `beyond`), then give infinity; or, in a type
        without infinity, `infinity` gives the last level and `ieee` NaN.
    zero_sign
        In a type with a code for -0: `keep` gives it for every x whose sign bit is set and that
        becomes zero, `negative` only for x < 0, `positive` never.
    negative
        In a type without negative levels, x < 0: `saturate` gives the smallest level; `nan` rounds
        as if there were negative levels, then gives NaN for a negative one.
    beyond
        The level that would follow the largest if the type did not end there.
    """

    levels: Sequence[Level]
    unused: Iterable[int] = ()
    rounding: str = "nearest"
    ties: str = "even"
    overflow: str = "saturate"
    zero_sign: str = "keep"
    negative: str = "saturate"
    beyond: Level | None = None

    def __post_init__(self) -> None:
        """Every choice must be one of its names."""
        for choice, names in CHOICES.items():
            if getattr(self, choice) not in names:
                raise UnknownName.among("Definition", choice, getattr(self, choice), names, f"use {', '.join(names)}")
        if self.overflow in ("infinity", "ieee") and self.beyond is None:
            rule = "the level after the last one is not known (beyond is None)"
            raise BadInput(message("Definition", f"overflow = {self.overflow!r}", rule, "use saturate or finite"))
        emitted = [self.levels[code] for code in self.emitted]
        if self.minus_zero is not None and not any(level == 0 and not is_special(level) for level in emitted):
            raise BadInput(message("Definition", "levels", "-0 is among them and 0 is not", "add a code for 0"))
        if all(map(is_special, emitted)):
            raise BadInput(message("Definition", "levels", "no finite level is left to emit", "give at least one"))
        if self.negative == "nan" and self.values == [0]:
            rule = "0 is the only level, so no x < 0 is nearer to another"
            raise BadInput(message("Definition", "negative = 'nan'", rule, "use saturate"))

    @cached_property
    def emitted(self) -> list[int]:
        """The codes that `encode` can give."""
        unused = set(self.unused)
        return [code for code in range(len(self.levels)) if code not in unused]

    @cached_property
    def ladder(self) -> list[tuple[Fraction, int]]:
        """The finite levels as (value, code), ascending; of equal values the first code. -0 is apart."""
        codes: dict[Fraction, int] = {}
        for code in self.emitted:
            level = self.levels[code]
            if not is_special(level):
                codes.setdefault(Fraction(level), code)
        return sorted(codes.items())

    @cached_property
    def values(self) -> list[Fraction]:
        """The values of the ladder, ascending."""
        return [value for value, _ in self.ladder]

    @cached_property
    def minus_zero(self) -> int | None:
        """The code of -0, if `encode` can give it."""
        return self._first(lambda level: level == 0 and is_special(level))

    @cached_property
    def nan(self) -> int | None:
        """The code of the canonical NaN, if there is one."""
        return self._first(lambda level: level != level)

    @cached_property
    def infinity(self) -> dict[int, int | None]:
        """The codes of +infinity (key 1) and -infinity (key -1)."""
        return {
            1: self._first(lambda level: level == math.inf),
            -1: self._first(lambda level: level == -math.inf),
        }

    def _first(self, wanted: Callable[[Level], bool]) -> int | None:
        return next((code for code in self.emitted if wanted(self.levels[code])), None)


names: list[Callable[[str], Any]] = []  # look-ups from name to type, in turn; the registry adds its own


def definition(dtype: Any) -> Definition:
    """The `Definition` behind a name, a data type object, or a `Definition` itself."""
    for look_up in names:
        if isinstance(dtype, str):
            dtype = look_up(dtype)
    found = getattr(dtype, "definition", dtype)
    if isinstance(found, Definition):
        return found
    raise BadType(
        message("exact", f"dtype = {dtype!r}", "it is no data type", "give a name, a DataType or an exact.Definition")
    )


def encode(dtype: Any, x: Any, random: int | None = None, random_bits: int = 0) -> Any:
    """The code of the level that stands for x: the meaning of every other encoder here.

    Parameters
    ----------
    dtype
        A `Definition`, a data type object, or its name.
    x
        A number (int, float, Fraction, NumPy scalar of any width), or a sequence of them, nested
        as you like.
    random, random_bits
        For stochastic rounding: an integer R of N bits, 0 <= R < 2**N, the same for every x. With
        v the distance from the neighbour nearer to zero, in units of the gap, x goes away from
        zero if: `stochastic_a` floor(v * 2**N) + R >= 2**N; `stochastic_b` floor(v * 2**(N+1)) +
        2 R + 1 >= 2**(N+1); `stochastic_c` v * 2**N rounded half to even, plus R, >= 2**N.

    Returns
    -------
    int, or a list in the shape of x.

    Raises
    ------
    BadInput
        `exact.encode: x = nan, the type has no NaN level; ...`

    Source
    ------
    Rounding and saturation: IEEE P3109 interim report 4.0, section 4.7.

    Examples
    --------
    >>> thirds = Definition([Fraction(-1, 3), Fraction(0), Fraction(1, 3), Fraction(1)], ties="lower")
    >>> encode(thirds, Fraction(2, 3)), encode(thirds, 0.7), encode(thirds, [[-5, 0.1]])
    (2, 3, [[0, 1]])
    """
    d = definition(dtype)
    if isinstance(x, Iterable) and not isinstance(x, str) and getattr(x, "ndim", True):
        return [encode(d, element, random, random_bits) for element in x]
    if getattr(x, "shape", None) == ():
        x = x[()]  # a NumPy array of no dimension becomes its number
    if d.rounding.startswith("stochastic") and (random is None or not 0 <= random < 2**random_bits):
        rule = f"{d.rounding} takes an integer of random_bits = {random_bits} bits with every number"
        raise BadInput(message("exact.encode", f"random = {random}", rule, "give random and random_bits"))
    rounding = _Rounding(d, random or 0, random_bits)

    if x != x:
        return _nan(d, "x = nan", "the type has no NaN level")
    if x in (math.inf, -math.inf):
        code = _infinite(d, 1 if x > 0 else -1)
    else:
        value = _rational(x)
        if value < 0 and d.negative == "nan" and rounding.is_negative(value):
            return _nan(d, f"x = {x}", "the type has no negative levels")
        code = _finite(d, value, rounding)

    if d.minus_zero is not None and d.levels[code] == 0:
        negative = bool(x < 0)
        keeps = {"keep": negative or (x == 0 and math.copysign(1, x) < 0), "negative": negative, "positive": False}
        return d.minus_zero if keeps[d.zero_sign] else code
    return code


def decode(dtype: Any, code: Any) -> Any:
    """The number that a code stands for: a Fraction, or the float inf, -inf, nan or -0.0.

    Examples
    --------
    >>> decode(Definition([0.0, 0.5, math.inf, -0.0]), [1, 2, 3])
    [Fraction(1, 2), inf, -0.0]
    """
    d = definition(dtype)
    if isinstance(code, Iterable):
        return [decode(d, element) for element in code]
    if not 0 <= code < len(d.levels):
        raise BadInput(
            message("exact.decode", f"code = {code}", f"codes are 0 to {len(d.levels) - 1}", "mask or check them first")
        )
    level = d.levels[code]
    return level if is_special(level) else Fraction(level)


def _rational(x: Any) -> Fraction:
    """The exact value of any finite number: Python's, NumPy's, a Fraction."""
    try:
        if hasattr(x, "as_integer_ratio"):
            return Fraction(*x.as_integer_ratio())
        if isinstance(x, str):
            raise TypeError
        return Fraction(index(x)) if hasattr(x, "__index__") else Fraction(float(x))
    except (TypeError, ValueError):
        raise BadType(message("exact.encode", f"x = {x!r}", "it is not a number", "give real numbers")) from None


def _finite(d: Definition, x: Fraction, rounding: _Rounding) -> int:
    """The code for a finite x, the sign of zero left aside."""
    top = len(d.ladder) - 1
    i = bisect_right(d.values, x) - 1  # the last level that is not above x; -1 if all are

    if i >= 0 and d.values[i] == x:
        return d.ladder[i][1]
    if i == top:
        return _past_the_end(d, x, +1, rounding)
    if i < 0:
        return _past_the_end(d, x, -1, rounding)
    (below, low), (above, high) = d.ladder[i], d.ladder[i + 1]
    return high if rounding.goes_up(x, below, above, low % 2 == 0) else low


def _past_the_end(d: Definition, x: Fraction, sign: int, rounding: _Rounding) -> int:
    """The code for a finite x beyond the last level on the side of `sign`."""
    last, code = d.ladder[-1] if sign > 0 else d.ladder[0]
    if d.overflow in ("saturate", "finite") or (sign < 0 and last >= 0):
        return code

    assert d.beyond is not None  # Definition has checked it
    beyond = sign * Fraction(d.beyond)
    even = code % 2 == 0
    if abs(x) >= abs(beyond) and d.rounding not in ("toward_zero", "toward_positive", "toward_negative", "odd"):
        overflows = True
    elif sign > 0:
        overflows = rounding.goes_up(x, last, beyond, even)
    else:
        overflows = not rounding.goes_up(x, beyond, last, not even)
    return _infinite(d, sign) if overflows else code


def _infinite(d: Definition, sign: int) -> int:
    """The code for an infinity, or for a number that overflowed to one."""
    code = d.infinity[sign]
    if d.overflow != "finite" and code is not None:
        return code
    if sign < 0 and d.values[0] >= 0:  # there is nothing below the smallest level
        if d.negative == "nan":
            return _nan(d, "x = -inf", "the type has no negative levels")
        return d.ladder[0][1]
    if d.overflow == "ieee":
        return _nan(d, "x overflows", "the type has neither infinity nor NaN")
    return d.ladder[-1 if sign > 0 else 0][1]


def _nan(d: Definition, got: str, rule: str) -> int:
    if d.nan is None:
        raise BadInput(message("exact.encode", got, rule, "clean the input or use a type with NaN"))
    return d.nan


@dataclass(frozen=True)
class _Rounding:
    """Which of its two neighbours a number goes to."""

    d: Definition
    random: int
    random_bits: int

    def goes_up(self, x: Fraction, below: Fraction, above: Fraction, below_is_even: bool) -> bool:
        """Does x, strictly between two levels, go to the one above?"""
        rounding = self.d.rounding
        if rounding == "toward_positive":
            return True
        if rounding == "toward_negative":
            return False
        if rounding == "toward_zero":
            return x < 0
        if rounding == "odd":
            return below_is_even
        if rounding.startswith("stochastic"):
            return self._goes_away(x, below, above) == (x > 0)

        to_below, to_above = x - below, above - x
        if to_below != to_above:
            return to_above < to_below
        tie_goes_up = {
            "even": not below_is_even,
            "lower": False,
            "upper": True,
            "zero": abs(above) < abs(below),
            "away": abs(above) > abs(below),
        }
        return tie_goes_up[self.d.ties]

    def _goes_away(self, x: Fraction, below: Fraction, above: Fraction) -> bool:
        """Does x go to its neighbour of larger magnitude, given the random bits?"""
        near, far = sorted((abs(below), abs(above)))
        v = (abs(x) - near) / (far - near)
        one, r = 1 << self.random_bits, self.random
        if self.d.rounding == "stochastic_a":
            return math.floor(v * one) + r >= one
        if self.d.rounding == "stochastic_b":
            return math.floor(v * 2 * one) + 2 * r + 1 >= 2 * one
        return round(v * one) + r >= one

    def is_negative(self, x: Fraction) -> bool:
        """Would x < 0 stay negative if a type without negative levels had the mirror image of its own?"""
        smallest, *others = self.d.values
        if smallest > 0:
            return True
        if self.d.rounding in ("toward_zero", "toward_positive"):
            return False
        return x <= -others[0] or not self.goes_up(x, -others[0], smallest, False)
