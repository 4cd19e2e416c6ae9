"""The definition, second part: what a scheme means, in rational arithmetic.

`exact.py` says which code a number gets. This file says which number is given to it: how a block
finds its scale, and what is divided by what, with every rounding on the way written down. Like
`exact.py` it imports no NumPy, and takes plain sequences; a scheme is any object with `dtype`,
`rule`, `scale_dtype` and the choices as items (`kbit_ref.scheme.Scheme` is one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

from kbit_ref import exact
from kbit_ref.errors import BadInput, message

__all__ = ["Block", "Quantized", "dequantize", "floor_log2", "quantize", "round_to"]

Number = Fraction | float  # a Fraction, or the floats inf, -inf, nan, -0.0

FORMATS = {
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


def is_finite(x: Number) -> bool:
    """Neither NaN nor infinity."""
    return isinstance(x, Fraction) or math.isfinite(x)


def signed_zero(negative: bool) -> Number:
    """A zero of that sign."""
    return -0.0 if negative else Fraction(0)


def is_negative(x: Number) -> bool:
    """The sign bit."""
    return math.copysign(1, x) < 0


@dataclass
class Block:
    """One block: its codes, and what decode needs."""

    codes: list[int]
    scale: Number
    offset: Number | None = None
    zero_point: int | None = None


@dataclass
class Quantized:
    """All blocks of all rows, and what belongs to the whole tensor."""

    rows: list[list[Block]] = field(default_factory=list)
    global_scale: Number | None = None
    mean: Number | None = None


class _Arithmetic:
    """Operations rounded once to the format of a scheme; zeros keep the sign that IEEE gives them."""

    def __init__(self, form: str):
        self.form = form

    def fl(self, x: Number) -> Number:
        return round_to(x, self.form)

    def subtract(self, a: Number, b: Number) -> Number:
        if a == b:
            return signed_zero(a == 0 and is_negative(a) and not is_negative(b))
        return self.fl(_fraction(a) - _fraction(b))

    def add(self, a: Number, b: Number) -> Number:
        if a == 0 and b == 0:
            return signed_zero(is_negative(a) and is_negative(b))
        total = _fraction(a) + _fraction(b)
        return self.fl(total) if total else Fraction(0)

    def divide(self, a: Number, b: Number) -> Number:
        negative = is_negative(a) != is_negative(b)
        if a != a or b != b or (a == 0 and b == 0) or not (is_finite(a) or is_finite(b)):
            return math.nan
        if a == 0 or not is_finite(b):
            return signed_zero(negative)
        if b == 0 or not is_finite(a):
            return _with_sign(math.inf, negative)
        return self.fl(_fraction(a) / _fraction(b))

    def multiply(self, a: Number, b: Number) -> Number:
        negative = is_negative(a) != is_negative(b)
        bounded = is_finite(a) and is_finite(b)
        if a != a or b != b:
            return math.nan
        if a == 0 or b == 0:
            return signed_zero(negative) if bounded else math.nan
        if not bounded:
            return _with_sign(math.inf, negative)
        return self.fl(_fraction(a) * _fraction(b))


def _fraction(x: Number) -> Fraction:
    return x if isinstance(x, Fraction) else Fraction(x)


def _largest(values: Sequence[Number]) -> Fraction:
    """The largest magnitude; 0 of nothing."""
    return max((abs(_fraction(x)) for x in values), default=Fraction(0))


def _with_sign(x: Number, negative: bool) -> Number:
    if x == 0:
        return signed_zero(negative)
    return -math.inf if negative else math.inf


def _as_number(x: Any) -> Number:
    """A Python or NumPy number as a Fraction, specials and -0 as floats."""
    if isinstance(x, Fraction):
        return x
    value = float(x)
    return value if exact.is_special(value) else Fraction(value)


def quantize(rows: Sequence[Sequence[Any]], scheme: Any, size: int | None = None, form: str = "float32") -> Quantized:
    """Rows of numbers to blocks of codes.

    Parameters
    ----------
    rows
        The array after its cut: [n_rows][length] numbers.
    scheme
        What the words of its spelling mean is this file.
    size
        Elements of a block; None for the whole row. A short last block is a block of its own.
    form
        The format of the numbers; arithmetic is in the wider of it and float32.

    Returns
    -------
    Quantized

    Raises
    ------
    BadInput
        as `kbit_ref.quantize`, without the position.
    """
    compute = scheme["compute"]
    if compute == "wider":
        compute = "float64" if form == "float64" else "float32"
    arithmetic = _Arithmetic(compute)
    numbers = [[_special(scheme, arithmetic.fl(_as_number(x))) for x in row] for row in rows]

    result = Quantized()
    finite = [x for row in numbers for x in row if is_finite(x)]
    if scheme["center"] == "tensor" and finite:
        result.mean = round_to(round_to(_mean(finite), compute), "float32")  # as it is stored
        numbers = [[_centred(arithmetic, x, result.mean) for x in row] for row in numbers]
        finite = [_centred(arithmetic, x, result.mean) for x in finite]
    if scheme["global"] != "none":
        result.global_scale = round_to(_global_scale(scheme, arithmetic, finite), "float32")  # as it is stored

    for row in numbers:
        width = size or max(len(row), 1)
        cut = [row[i : i + width] for i in range(0, len(row), width)]
        result.rows.append([_block(scheme, arithmetic, result, block, width) for block in cut])
    return result


def dequantize(scheme: Any, quantized: Quantized) -> list[list[Number]]:
    """The numbers that the codes stand for, float32: one product, one addition, each rounded."""
    f32 = _Arithmetic("float32")
    rows = []
    for row in quantized.rows:
        values: list[Number] = []
        for block in row:
            scale = _effective(scheme, f32, quantized.global_scale, block.scale)
            for code in block.codes:
                level: Number = exact.decode(scheme.dtype, code)
                if block.zero_point is not None:
                    level = Fraction(code - block.zero_point)
                value = level if level != level else f32.multiply(level, scale)
                for offset in (block.offset, quantized.mean):
                    if offset is not None and value == value and is_finite(value):
                        value = f32.add(value, offset)
                values.append(value)
        rows.append(values)
    return rows


def _special(scheme: Any, x: Number) -> Number:
    """NaN and infinity, as the scheme wants them."""
    if x != x:
        if scheme["nan"] == "error":
            raise BadInput(
                message("exact.quantize", "x = nan", "a block with NaN has no scale", "use +nan=code or zero")
            )
        return x if scheme["nan"] == "code" else Fraction(0)
    if not is_finite(x) and scheme["inf"] == "error":
        rule = "a block with infinity has no scale"
        raise BadInput(message("exact.quantize", f"x = {x}", rule, "use +inf=saturate"))
    return x


def _centred(arithmetic: _Arithmetic, x: Number, mean: Number) -> Number:
    return arithmetic.subtract(x, mean) if is_finite(x) else x


def _sum(values: Sequence[Number]) -> Number:
    """In order, each addition rounded to float64."""
    f64 = _Arithmetic("float64")
    total: Number = Fraction(0)
    for value in values:
        total = f64.add(total, value)
    return total


def _mean(values: Sequence[Number]) -> Number:
    return _Arithmetic("float64").divide(_sum(values), Fraction(len(values)))


def _top(dtype: Any) -> Fraction:
    return exact.definition(dtype).values[-1]


def _global_scale(scheme: Any, arithmetic: _Arithmetic, finite: Sequence[Number]) -> Number:
    """The scale of the scales: a multiplier, or its reciprocal, from the largest magnitude of all."""
    largest = _largest(finite)
    if largest == 0:
        return Fraction(1)
    reach = arithmetic.multiply(_top(scheme.dtype), _top(scheme.scale_dtype))
    if scheme["global"] == "multiplier":
        return arithmetic.divide(largest, reach)
    return arithmetic.divide(reach, largest)


def _effective(scheme: Any, arithmetic: _Arithmetic, global_scale: Number | None, stored: Number) -> Number:
    """The scale that elements are divided and multiplied by."""
    if global_scale is None:
        return stored
    if scheme["global"] == "multiplier":
        return arithmetic.multiply(stored, global_scale)
    return arithmetic.divide(stored, global_scale)


def _block(scheme: Any, a: _Arithmetic, whole: Quantized, block: Sequence[Number], width: int) -> Block:
    """One block of at most `width` numbers."""
    short = len(block) < width
    if short and scheme["tail"] == "error":
        rule = f"blocks are of {width}"
        raise BadInput(message("exact.quantize", f"a tail of {len(block)}", rule, "pad x, or use +tail=own"))
    padded = [*block, *[Fraction(0)] * (width - len(block))] if short and scheme["tail"] == "pad" else list(block)
    finite = [x for x in padded if is_finite(x)]

    offset: Number | None = None
    if scheme["center"] == "block":
        offset = round_to(_mean(finite), a.form) if finite else Fraction(0)
        offset = stored_as(scheme, offset) if offset else Fraction(0)
        block = [_centred(a, x, offset) for x in block]
        finite = [_centred(a, x, offset) for x in finite]
    if scheme.rule == "minmax":
        offset = stored_as(scheme, min(finite, default=Fraction(0)))

    raw = _raw_scale(scheme, a, finite)
    if scheme["global"] != "none":
        assert whole.global_scale is not None
        multiply = scheme["global"] == "divisor"
        raw = a.multiply(raw, whole.global_scale) if multiply else a.divide(raw, whole.global_scale)
    stored = _stored_scale(scheme, raw)
    used = a.fl(raw) if scheme["scaleuse"] == "unrounded" else stored
    used = _effective(scheme, a, whole.global_scale, used)

    zero_point = None
    if scheme.rule == "affine":
        low = min(min(finite, default=Fraction(0)), Fraction(0))
        steps = _round_half_even(a.divide(_fraction(-low), used)) if used else 0
        zero_point = max(0, min(int(_top(scheme.dtype)), steps))

    codes = [_code(scheme, a, x, used, offset if scheme.rule == "minmax" else None, zero_point) for x in block]
    return Block(codes, stored, offset, zero_point)


def _raw_scale(scheme: Any, a: _Arithmetic, finite: Sequence[Number]) -> Number:
    """The scale before it is stored; 0 for a block of zeros."""
    top = _top(scheme.dtype)
    largest = _largest(finite)
    rule = scheme.rule
    if rule == "minmax":
        return a.divide(a.subtract(max(finite, default=Fraction(0)), min(finite, default=Fraction(0))), top)
    if rule == "affine":
        low = min(min(finite, default=Fraction(0)), Fraction(0))
        high = max(max(finite, default=Fraction(0)), Fraction(0))
        return a.divide(a.subtract(high, low), top)
    if largest == 0:
        return Fraction(0)
    if rule == "absmax":
        return a.divide(largest, top)
    if rule == "signedmax":
        first = next(x for x in finite if abs(x) == largest)
        bottom = exact.definition(scheme.dtype).values[0]
        return a.divide(first, top if top >= abs(bottom) else bottom)
    if rule == "rms":
        f64 = _Arithmetic("float64")
        mean = _fraction(f64.divide(_sum([f64.multiply(x, x) for x in finite]), Fraction(len(finite))))
        return round_to(_sqrt(mean), a.form)
    return Fraction(2) ** _power(scheme, largest, top)


def _sqrt(x: Fraction) -> Number:
    """The square root rounded once to float64."""
    shift = 2 * max(0, 120 - floor_log2(x) // 2)
    scaled = math.floor(x * Fraction(2) ** shift)
    root = math.isqrt(scaled)
    sticky = Fraction(1, 4) if root * root != x * Fraction(2) ** shift else Fraction(0)
    return round_to((root + sticky) / Fraction(2) ** (shift // 2), "float64")


def _power(scheme: Any, largest: Fraction, top: Fraction) -> int:
    """The exponent of a power-of-two scale."""
    if scheme.rule == "pow2rceil":
        quotient = _fraction(round_to(largest / top, "float32"))
        if quotient == 0:
            return -200  # below every scale there is: it is stored as the smallest one
        e = floor_log2(quotient)
        return e if Fraction(2) ** e == quotient else e + 1
    e = floor_log2(largest)
    if scheme.rule == "pow2ceil" and Fraction(2) ** e != largest:
        e += 1
    if scheme.rule == "pow2even":
        unit = Fraction(2) ** (e - significand_bits(scheme.dtype))
        e = floor_log2(round(largest / unit) * unit)
    return e - floor_log2(top)


def significand_bits(dtype: Any) -> int:
    """Stored significand bits: how finely the levels resolve the binade of the largest one."""
    values = exact.definition(dtype).values
    e = floor_log2(values[-1])
    binade = [value for value in values if value >= Fraction(2) ** e]
    gaps = [b - a for a, b in pairwise(binade)]
    return e - floor_log2(min(gaps)) if gaps else 0


def _round_half_even(x: Number) -> int:
    return round(x) if is_finite(x) else int(math.copysign(2**62, x))


def stored_as(scheme: Any, x: Number) -> Number:
    """x as its nearest neighbour in the stored scale's type."""
    if scheme.scale_dtype == "f32":
        return round_to(x, "float32")
    value: Number = exact.decode(scheme.scale_type, exact.encode(scheme.scale_type, x))
    return value


def _stored_scale(scheme: Any, raw: Number) -> Number:
    """The scale rounded to its stored type."""
    if raw == 0:
        if scheme["zeroblock"] == "one":
            return Fraction(1)
        return stored_as(scheme, Fraction(0))
    stored = stored_as(scheme, raw)
    if stored == 0 or not is_finite(stored):
        if scheme["scalerange"] == "clamp":
            smallest, largest = _scale_range(scheme)
            limit = smallest if stored == 0 else largest
            return -limit if is_negative(raw) else limit
        got = f"a block scale of {float(raw)}"
        rule = f"it becomes {float(stored)} in {scheme.scale_dtype}"
        raise BadInput(message("exact.quantize", got, rule, "use a wider scale, or +scalerange=clamp"))
    return stored


def _scale_range(scheme: Any) -> tuple[Fraction, Fraction]:
    """The smallest and the largest positive stored scale."""
    if scheme.scale_dtype == "f32":
        return Fraction(1, 2**149), (2 - Fraction(1, 2**23)) * 2**127
    values = [value for value in exact.definition(scheme.scale_dtype).values if value > 0]
    return values[0], values[-1]


def _code(scheme: Any, a: _Arithmetic, x: Number, scale: Number, offset: Number | None, zero_point: int | None) -> int:
    """The code of one number of a block."""
    if x != x:
        return int(exact.encode(scheme.dtype, x))
    if scale == 0:
        return int(exact.encode(scheme.dtype, Fraction(0))) if zero_point is None else zero_point
    if offset is not None and is_finite(x):
        x = a.subtract(x, offset)
    if scheme["arith"] == "exact" and is_finite(x):
        ratio = _fraction(x) / _fraction(scale)
        y: Number = ratio if ratio else signed_zero(is_negative(x) != is_negative(scale))
    elif scheme["arith"] == "reciprocal":
        y = a.multiply(x, a.divide(Fraction(1), scale))
    else:
        y = a.divide(x, scale)
    if zero_point is None:
        return int(exact.encode(scheme.dtype, y))
    if y != y:
        raise BadInput(message("exact.quantize", "x / scale = nan", "the type has no NaN level", "use +nan=zero"))
    return max(0, min(int(_top(scheme.dtype)), _round_half_even(y) + zero_point))
