"""Lists of levels: each level is significand * 2**exponent, and nearly always the exponent is 0.

P3109's widest formats have levels from 2**-32767 to 2**32766, which float64 does not hold. What
is asked of a list: its order, the nearest float of each level, its exact value, its text; and the
rules that every list keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kbit_ref import exact
from kbit_ref.errors import BadInput, message

__all__ = ["all_float32", "check", "kept", "order", "parts", "rational", "rounded", "spelled", "superfluous"]

Significands = NDArray[np.float64]
Exponents = NDArray[np.int32]


def kept(significands: ArrayLike, exponents: Exponents | None) -> tuple[Significands, Exponents | None]:
    """What a type keeps, frozen: the levels alone if float64 holds them, else normalised pairs."""
    s = np.array(significands, np.float64)
    e: Exponents | None = None
    if exponents is not None:
        s, e = _normalised(s, exponents)
        levels, side = rounded(s, e)
        e.flags.writeable = False
        if not side.any():
            s, e = levels, None
    s.flags.writeable = False
    return s, e


def _normalised(significands: Significands, exponents: Exponents) -> tuple[Significands, Exponents]:
    """The same numbers with significands 1/2 <= |s| < 1; 0, inf and nan have the exponent 0."""
    fraction, shift = np.frexp(significands)
    powers = np.where(np.isfinite(fraction) & (fraction != 0), exponents + shift, 0)
    return fraction, powers.astype(np.int32)


def rounded(significands: ArrayLike, exponents: Any, real: Any = np.float64) -> tuple[NDArray[Any], NDArray[Any]]:
    """A float of type `real` next to each number, and the sign of number - float: -1, 0 (equal) or 1.

    A number outside the range of the type has 0 or inf there, and a sign that says so.
    """
    s, e = np.asarray(significands, real), np.asarray(exponents)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = np.ldexp(s, e)
        side = np.sign(s - np.ldexp(near, -e))
    return near, np.where(np.isfinite(s), side, 0)


def order(significands: Significands, exponents: Exponents) -> NDArray[np.intp]:
    """The indices that sort finite numbers in ascending order."""
    fraction, power = _normalised(significands, exponents)
    sign = np.sign(fraction)
    indices: NDArray[np.intp] = np.lexsort((fraction, sign * power, sign))  # the last key counts most
    return indices


def rational(significand: float, exponent: int) -> exact.Level:
    """The number itself: a Fraction, or the float inf, -inf, nan, -0.0."""
    if exact.is_special(significand):
        return significand
    n, d = significand.as_integer_ratio()
    return Fraction(n << exponent, d) if exponent >= 0 else Fraction(n, d << -exponent)


def parts(number: exact.Level) -> tuple[float, int]:
    """(significand, exponent) of a number whose significand float64 holds."""
    if isinstance(number, float):
        return number, 0
    exponent = number.numerator.bit_length() - number.denominator.bit_length()
    return float(number / Fraction(2) ** exponent), exponent


def spelled(significands: ArrayLike, exponents: ArrayLike, short: str = "r") -> list[str]:
    """Each number as float64 writes it (or in the format `short`), or else as an integer and a power of two.

    Examples
    --------
    >>> spelled([0.75, 0.75, -0.5], [2, 2000, -2000])
    ['3.0', '3 * 2**1998', '-2**-2001']
    """
    near, side = rounded(significands, exponents)

    def text(number: float, outside: float, significand: float, exponent: int) -> str:
        if not outside:
            return repr(number) if short == "r" else format(number, short)
        odd, power_of_two = significand.as_integer_ratio()
        power = exponent - (power_of_two.bit_length() - 1)
        return f"{odd} * 2**{power}" if abs(odd) != 1 else f"{'-' if odd < 0 else ''}2**{power}"

    lists = (np.asarray(array).tolist() for array in (near, side, np.asarray(significands, np.float64), exponents))
    return [text(*facts) for facts in zip(*lists, strict=True)]


def all_float32(levels: Significands) -> bool:
    """Is each a float32 number (or inf, nan, -0.0)?"""
    with np.errstate(over="ignore", under="ignore"):
        return bool(np.array_equal(levels.astype(np.float32).astype(np.float64), levels, equal_nan=True))


def check(name: str, bits: int, levels: Significands, unused: Sequence[int], *, any_width: bool) -> None:
    """The rules every list of levels keeps; `any_width`: those of P3109 need not be float32 numbers."""
    if not 1 <= bits <= 16 or levels.shape != (2**bits,):
        got = f"{name}: {levels.size} levels for bits = {bits}"
        raise BadInput(message("DataType", got, "a type has 2**bits levels and 1 to 16 bits", "fill the unused codes"))
    if not any_width and not all_float32(levels):
        with np.errstate(over="ignore", under="ignore"):
            bad = int(np.flatnonzero(~((levels.astype(np.float32) == levels) | np.isnan(levels)))[0])
        got = f"{name}: levels[{bad}] = {levels[bad]}"
        raise BadInput(message("DataType", got, "it is not a float32 number", "round it with np.float32 first"))
    if not all(0 <= code < 2**bits for code in unused):
        got = f"unused = {tuple(unused)}"
        raise BadInput(message("DataType", got, f"codes are 0 to {2**bits - 1}", "list codes of the type"))
    if not np.isfinite(np.delete(levels, list(unused))).any():
        raise BadInput(message("DataType", name, "no finite level is left to emit", "give at least one"))


def superfluous(
    significands: Significands, exponents: Exponents, unused: Sequence[int], zero_sign: str
) -> tuple[int, ...]:
    """The unused codes: those declared, repeated levels, all NaNs but one, and -0 if no x becomes it."""
    declared = np.array(sorted(unused), np.intp)
    codes = np.setdiff1d(np.arange(significands.size), declared)
    s, e = significands[codes], exponents[codes]
    words = np.where(np.isnan(s), np.nan, s).view(np.int64)  # one NaN, two zeros
    by = np.lexsort((e, words))  # stable: of equal levels the lowest code comes first
    again = by[1:][(words[by][1:] == words[by][:-1]) & (e[by][1:] == e[by][:-1])]
    minus_zero = np.flatnonzero((s == 0) & np.signbit(s)) if zero_sign == "positive" else again[:0]
    return tuple(np.unique(np.concatenate([declared, codes[again], codes[minus_zero]])).tolist())
