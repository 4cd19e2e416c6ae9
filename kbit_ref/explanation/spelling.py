"""Numbers as an explanation shows them: the value, the exact value, and the bits in their own format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from kbit_ref.arithmetic import widened
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.exact import encode
from kbit_ref.exact.arithmetic import FORMATS, Number, as_number, floor_log2

__all__ = ["Figure", "exactly", "figure", "in_ulps", "of_word", "plain", "stored", "text_of"]

FIELDS = {  # bits of sign, exponent, significand
    "float16": (1, 5, 10),
    "bfloat16": (1, 8, 7),
    "float32": (1, 8, 23),
    "float64": (1, 11, 52),
    "e8m0fnu": (0, 8, 0),
    "e4m3fn": (1, 4, 3),
    "e4m4": (0, 4, 4),
    "ue4m3": (0, 4, 3),
}
LONG = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}  # stored types that are formats


@dataclass(frozen=True)
class Figure:
    """A number and its bits.

    Parameters
    ----------
    value
        The number.
    text
        The number, shorter: as few digits as its format needs.
    exact
        The number as a rational: a decimal, `n x 2^e` or `p/q`.
    format
        float16, bfloat16, float32, float64, a stored type such as e8m0fnu; or `exact` for a number that
        no rounding has touched, which has no bits.
    hex, fields
        The bits: `0x3fc00000`, and with sign, exponent and significand apart, `0|01111111|1000...`.
    """

    value: float
    text: str
    exact: str
    format: str
    hex: str = ""
    fields: str = ""

    def __str__(self) -> str:
        return f"{self.text} = {self.hex} = {self.fields}" if self.hex else self.text


def figure(x: Number, form: str) -> Figure:
    """A number of a format, with its bits.

    Examples
    --------
    >>> print(figure(Fraction(3, 2), "bfloat16"))
    1.5 = 0x3fc0 = 0|01111111|1000000
    >>> figure(Fraction(1, 3), "exact").exact
    '1/3'
    """
    if form == "exact":
        return Figure(float(x), exactly(x), exactly(x), form)
    name = "float32" if form == "bfloat16" else form
    bits = 16 if form == "float16" else 64 if form == "float64" else 32
    word = int(np.array(float(x), name).view(f"uint{bits}"))
    return of_word(word >> 16 if form == "bfloat16" else word, form)


def of_word(word: int, form: str) -> Figure:
    """The number that a word of a format is."""
    bits = sum(FIELDS[form])
    if form == "bfloat16":
        value = widened(np.array(word, np.uint16))
    else:
        value = np.array(word, f"uint{bits}").view(form)
    number = as_number(float(value))
    return Figure(float(value), str(value[()]), exactly(number), form, *_bits(word, FIELDS[form]))


def stored(x: Number, kind: str) -> Figure:
    """A number of the type that stores scales, with its bits or its code.

    Examples
    --------
    >>> print(stored(Fraction(448), "e4m3fn"), stored(Fraction(1, 4), "e8m0fnu"), sep="; ")
    448.0 = 0x7e = 0|1111|110; 0.25 = 0x7d = 01111101
    """
    name = kind.partition("+")[0]
    if name in LONG:
        return figure(x, LONG[name])
    widths = FIELDS.get(name, (0, datatype(name).bits, 0))
    return Figure(float(x), text_of(x), exactly(x), name, *_bits(int(encode(kind, x)), widths))


def _bits(word: int, widths: tuple[int, int, int]) -> tuple[str, str]:
    total = sum(widths)
    text = format(word, f"0{total}b")
    ends = widths[0], widths[0] + widths[1]
    parts = text[: ends[0]], text[ends[0] : ends[1]], text[ends[1] :]
    return f"0x{word:0{-(-total // 4)}x}", "|".join(part for part in parts if part)


def exactly(x: Number) -> str:
    """A number, exact and short: a decimal, n x 2^e, or p/q.

    Examples
    --------
    >>> exactly(Fraction(13, 8)), exactly(Fraction(2**45 + 1, 2**44)), exactly(Fraction(1, 3))
    ('1.625', '35184372088833 x 2^-44', '1/3')
    """
    if not isinstance(x, Fraction):
        return str(x)
    if x.denominator == 1 and abs(x.numerator) < 10**16:
        return str(x.numerator)
    places = (x.denominator & -x.denominator).bit_length() - 1
    if x.denominator != 1 << places:
        return f"{x.numerator}/{x.denominator}"
    if 0 < places <= 10:
        sign, digits = "-" * (x < 0), str(abs(x.numerator) * 5**places).rjust(places + 1, "0")
        return sign + f"{digits[:-places]}.{digits[-places:]}".rstrip("0")
    if places == 0:
        places = 1 - (x.numerator & -x.numerator).bit_length()
    whole = x * Fraction(2) ** places
    return f"{'-' * (whole < 0)}2^{-places}" if abs(whole) == 1 else f"{whole} x 2^{-places}"


def text_of(x: Number) -> str:
    """A number in a few digits: all of them where they are few."""
    with np.errstate(over="ignore", under="ignore"):
        short = np.float32(float(x))
    return str(short) if float(short) == float(x) else repr(float(x))


def in_ulps(distance: Fraction, x: Fraction, form: str) -> int | float:
    """A distance in units of the last place that x has in a format.

    Examples
    --------
    >>> in_ulps(Fraction(1, 2), Fraction(3), "float32"), in_ulps(Fraction(1, 2**30), Fraction(3), "float32")
    (2097152, 0.00390625)
    """
    precision, least, _ = FORMATS[form]
    e = max(floor_log2(abs(x)), least) if x else least
    return plain(distance / Fraction(2) ** (e - precision + 1))


def plain(x: Fraction) -> int | float:
    """The nearest Python number: an integer stays one, and so does what is beyond float."""
    if x.denominator == 1:
        return x.numerator
    return float(x) if abs(x) < 2**1000 else math.floor(x)
