"""Encoders: the code of a scaled number. `nearest` is `exact.encode`; the others are what libraries do instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

from kbit_ref.exact.arithmetic import Arithmetic, Number, as_fraction, is_finite, round_to
from kbit_ref.exact.code import definition, encode

__all__ = ["BINS", "ENCODERS", "FP4_TREE", "NF4_TREE", "constant", "encoder"]

Encoder = Callable[[Any, Arithmetic, Number], int]

ENCODERS: dict[str, Encoder] = {}

# bitsandbytes csrc/kernels.cu, dQuantizeFP4: a magnitude above the threshold gets the code, the highest first.
# The thresholds are float32 constants as they are printed there; five of them are no midpoints.
FP4_TREE = (
    *(("0.8333333", 3), ("0.583333", 2), ("0.4166667", 5), ("0.29166667", 4)),
    *(("0.20833333", 7), ("0.0859375", 6), ("0.00260417", 1)),
)
# dQuantizeNF4 there: as many steps up as thresholds lie below. The constants are printed midpoints of float64; as
# float32 literals, rounded once from the decimal, four of them are one float32 beside the midpoint.
NF4_TREE = (
    *("-0.8480964004993439", "-0.6106329262256622", "-0.4599952697753906", "-0.33967943489551544"),
    *("-0.23460740596055984", "-0.13791173323988914", "-0.045525018125772476", "0.03979014977812767"),
    *("0.1202552504837513", "0.2035212516784668", "0.2920137718319893", "0.3893125355243683"),
    *("0.5016634166240692", "0.6427869200706482", "0.8614784181118011"),
)
BINS = 65536


def constant(text: str) -> Number:
    """A float32 literal, rounded once; through float64, as by np.float32(text), some go the other way."""
    return round_to(Fraction(text), "float32")


def encoder(name: str) -> Callable[[Encoder], Encoder]:
    """Decorate the encoder of that name."""

    def decorate(function: Encoder) -> Encoder:
        ENCODERS[name] = function
        return function

    return decorate


@encoder("nearest")
def nearest(s: Any, a: Arithmetic, y: Number) -> int:
    """the code of the nearest level"""
    return int(encode(s.dtype, y))


@encoder("argmin")
def argmin(s: Any, a: Arithmetic, y: Number) -> int:
    """the first code with the least |fl(y - level)|: the difference is rounded before it is compared"""
    if not is_finite(y):
        return nearest(s, a, y)
    d = definition(s.dtype)
    distances = [(abs(float(a.subtract(y, value))), code) for value, code in d.ladder]  # may be infinite
    return min(distances)[1]


@encoder("midpoints32")
def midpoints32(s: Any, a: Arithmetic, y: Number) -> int:
    """all codes in the order of their levels, equal ones by code: as many steps up as float32 midpoints lie below y"""
    if y != y:
        return nearest(s, a, y)
    f32 = Arithmetic("float32")
    levels = definition(s.dtype).levels
    order = sorted((as_fraction(level), code) for code, level in enumerate(levels) if is_finite(level))
    sums = (f32.add(below, above) for (below, _), (above, _) in pairwise(order))
    return order[sum(f32.multiply(total, Fraction(1, 2)) < y for total in sums)][1]


@encoder("bnb_nf4")
def bnb_nf4(s: Any, a: Arithmetic, y: Number) -> int:
    """bitsandbytes' CUDA tree for nf4: printed constants, of which 4 of 15 are not the float32 midpoints"""
    return sum(constant(text) < y for text in NF4_TREE)  # none is below NaN


@encoder("bnb_fp4")
def bnb_fp4(s: Any, a: Arithmetic, y: Number) -> int:
    """bitsandbytes' CUDA tree for fp4_bnb: constants that are not all midpoints, sign bit where y < 0"""
    if y != y:
        return 0  # every comparison fails
    sign = 8 if y < 0 else 0
    y = y if is_finite(y) else Fraction(1)
    passed = (code for text, code in FP4_TREE if abs(as_fraction(y)) > as_fraction(constant(text)))
    return sign + next(passed, 0)


@encoder("bnb_bins")
def bnb_bins(s: Any, a: Arithmetic, y: Number) -> int:
    """bitsandbytes' CPU table: y goes to one of 65,536 even bins of [-1, 1], a bin to the level next to its centre"""
    if y != y:
        return nearest(s, a, y)
    f32 = Arithmetic("float32")
    inside = max(Fraction(-1), min(Fraction(1), as_fraction(f32.fl(y)) if is_finite(y) else y))
    half = f32.multiply(f32.add(inside, Fraction(1)), Fraction(1, 2))
    # compiled code fuses this product and sum
    bin_ = math.floor(f32.fl(as_fraction(half) * (BINS - 1) + Fraction(1, 2)))
    width = f32.divide(Fraction(2 * bin_), Fraction(BINS - 1))
    centre = f32.add(Fraction(-1), width)
    values = definition(s.dtype).ladder
    for (below, code), (above, _) in pairwise(values):
        if as_fraction(f32.multiply(f32.add(below, above), Fraction(1, 2))) >= as_fraction(centre):
            return code
    return values[-1][1]


@encoder("addhalf")
def addhalf(s: Any, a: Arithmetic, y: Number) -> int:
    """integers: 1/2 and the lowest level's magnitude are added in the arithmetic, the sum is cut to its whole part"""
    return _counted(s, a, y, Fraction(1, 2), Fraction(0))


@encoder("addround")
def addround(s: Any, a: Arithmetic, y: Number) -> int:
    """integers: the lowest level's magnitude is added in the arithmetic, the sum is rounded, half away from zero"""
    return _counted(s, a, y, Fraction(0), Fraction(1, 2))


def _counted(s: Any, a: Arithmetic, y: Number, rounded: Fraction, exactly: Fraction) -> int:
    """The whole part of fl(y - lowest + rounded) + exactly, counted from the lowest level."""
    if y != y:
        return nearest(s, a, y)
    levels = definition(s.dtype).values
    lowest, highest = int(levels[0]), int(levels[-1])
    shifted = max(Fraction(0), min(Fraction(highest - lowest), a.add(y, rounded - lowest)))
    return int(encode(s.dtype, Fraction(math.floor(as_fraction(shifted) + exactly) + lowest)))
