"""The formats of IEEE P3109, by their name grammar: Binary{K}p{P}{s|u}{e|f}.

K bits, P bits of precision (one of them implied), signed or unsigned, extended (with infinities)
or finite. The report's modes are choices of ours:

    NearestTiesToEven   the default            SatPropagate   the default
    NearestTiesToAway   +ties=away             SatFinite      +overflow=finite
    TowardZero          +rounding=toward_zero  SatNone        +overflow=infinity, and for an
    TowardPositive      ...                                   unsigned format +negative=nan
    ToOdd               +rounding=odd
    StochasticA, B, C   +rounding=stochastic_a ...

(SatNone was OvfInf in earlier reports.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from kbit_ref import exact
from kbit_ref.datatype import DataType, register
from kbit_ref.datatypes.floating import magnitudes
from kbit_ref.errors import BadInput, message


def arrange(positive: Sequence[Any], signed: bool, extended: bool) -> tuple[list[Any], Any]:
    """The levels by code, and the one beyond the last, from the values of sign-free codes (one too many)."""
    *numbers, after = positive
    last = len(numbers) - 1 - extended - (not signed)
    if extended:
        after, numbers[last + 1] = numbers[last + 1], math.inf
    if signed:
        return [*numbers, math.nan, *(-number for number in numbers[1:])], after
    return [*numbers[:-1], math.nan], after if extended else numbers[-1]


def definition(K: int, P: int, sign: str, domain: str) -> exact.Definition:
    """The format in rationals; exponents of the widest ones are outside float64, never outside this.

    Examples
    --------
    >>> definition(12, 1, "u", "f").levels[1] == Fraction(1, 2**2047)
    True
    """
    signed = sign == "s"
    bias = 2 ** (K - P - 1) if signed else 2 ** (K - P)

    def value(code: int) -> Fraction:
        exponent, trailing = divmod(code, 2 ** (P - 1))
        significand = trailing if exponent == 0 else trailing + 2 ** (P - 1)
        power = max(exponent, 1) - bias - (P - 1)
        return Fraction(significand << power) if power >= 0 else Fraction(significand, 1 << -power)

    levels, beyond = arrange([value(code) for code in range(2 ** (K - signed) + 1)], signed, domain == "e")
    return exact.Definition(levels, beyond=beyond)


def fits_float64(K: int, P: int, sign: str, domain: str) -> bool:
    """Are all levels, the midpoints, and the level beyond the last float64 numbers?"""
    exponent_bits = K - P + (sign == "u")
    return exponent_bits <= 10 or (exponent_bits == 11 and P > 1 and (sign, domain) != ("s", "f"))


@register(
    "Binary{K}p{P}{sign}{domain}",
    family="p3109",
    source="IEEE P3109 interim report 4.0 (June 2026), section 3",
    grammar=True,
    where=lambda K, P, sign, domain: P < K or (P == K and sign == "u"),
    K=range(3, 17),
    P=range(1, 17),
    sign="su",
    domain="ef",
)
def binary(K: int, P: int, sign: str, domain: str) -> DataType:
    """IEEE P3109: one zero, one NaN, gradual subnormals; bias 2**(K-P-1), unsigned 2**(K-P).

    Raises
    ------
    BadInput
        `datatype: name = 'Binary16p1se', its levels are outside float64; use kb.exact`
    """
    if not fits_float64(K, P, sign, domain):
        name = f"Binary{K}p{P}{sign}{domain}"
        remedy = "kb.exact.encode takes it, the engine does not"
        raise BadInput(message("datatype", f"name = {name!r}", "its levels are outside float64", remedy))
    signed = sign == "s"
    exponent_bits = K - P + (not signed)
    codes = magnitudes(exponent_bits, P - 1, 2 ** (exponent_bits - 1), codes=2 ** (K - signed) + 1)
    levels, beyond = arrange(codes.tolist(), signed, domain == "e")
    return DataType("", K, np.array(levels), ties="even", family="p3109", beyond=beyond)


@lru_cache(maxsize=2)
def look_up_wide(name: str) -> exact.Definition | str:
    """The definition of a format that the engine cannot hold; any other name comes back as it is."""
    match = re.fullmatch(r"Binary(\d+)p(\d+)([su])([ef])", name)
    if match is None:
        return name
    K, P, sign, domain = int(match[1]), int(match[2]), match[3], match[4]
    known = 3 <= K <= 16 and 1 <= P <= K - (sign == "s")
    return definition(K, P, sign, domain) if known and not fits_float64(K, P, sign, domain) else name


exact.names.insert(0, look_up_wide)
