"""Scales as they are stored, and as they are used: rounded to their type, and what happens at its ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from kbit_ref.errors import BadInput, message
from kbit_ref.exact.arithmetic import Arithmetic, Number, as_fraction, is_finite, is_negative, largest, round_to
from kbit_ref.exact.code import decode, definition, encode
from kbit_ref.exact.rules import top

__all__ = ["effective", "global_scale", "stored_as", "stored_scale"]

WIDE = ("f32", "f16", "bf16")  # stored scales that have an infinity
ZERO_BLOCK = {"zero": Fraction(0), "one": Fraction(1)}  # other names are numbers


def global_scale(s: Any, a: Arithmetic, finite: Sequence[Number]) -> Number:
    """The scale of the scales: a multiplier, or its reciprocal, from the largest magnitude of all."""
    most = largest(finite)
    if most == 0:
        return Fraction(1)
    reach = a.multiply(top(s.dtype), top(s.scale_dtype))
    above, below = (most, reach) if s["global"] == "multiplier" else (reach, most)
    if s["globalby"] == "reciprocal":
        return a.multiply(a.divide(Fraction(1), below), above)
    return a.divide(above, below)


def effective(s: Any, a: Arithmetic, global_scale: Number | None, stored: Number) -> Number:
    """The scale that elements are divided and multiplied by."""
    if global_scale is None:
        return stored
    return a.multiply(stored, global_scale) if s["global"] == "multiplier" else a.divide(stored, global_scale)


def stored_as(s: Any, x: Number) -> Number:
    """x as its nearest neighbour in the stored scale's type."""
    if s.scale_dtype == "f32":
        return round_to(x, "float32")
    value: Number = decode(s.scale_type, encode(s.scale_type, x))
    return value


def stored_scale(s: Any, raw: Number, empty: bool) -> Number:
    """The scale rounded to its stored type; `empty` says that there is nothing to scale in the block."""
    stored = stored_as(s, raw)
    if s.scale_dtype not in WIDE and (not is_finite(raw) or abs(as_fraction(raw)) > _beyond(s)):
        stored = -math.inf if is_negative(raw) else math.inf
    none = raw == 0 or stored == 0
    if not none and is_finite(stored):
        return stored
    wish = "zeroblock" if raw == 0 and empty else s["scalerange"]
    if wish == "keep" or (wish == "zeroblock" and none and s["zeroblock"] == "quotient"):
        return stored_as(s, raw)
    if wish == "zeroblock" and none:
        name = s["zeroblock"]
        return stored_as(s, ZERO_BLOCK[name] if name in ZERO_BLOCK else round_to(Fraction(name), "float32"))
    if wish in ("clamp", "zeroblock"):
        smallest, most = _scale_range(s)
        limit = smallest if none else most
        return -limit if is_negative(raw) else limit
    got = f"a block scale of {float(raw)}"
    rule = f"it becomes {float(stored)} in {s.scale_dtype}" if raw else "only a block of zeros has that"
    raise BadInput(message("exact.quantize", got, rule, "use a wider scale, or +scalerange=clamp"))


def _beyond(s: Any) -> Fraction:
    """Half a step above the largest stored scale: what lies beyond overflows."""
    *_, below, most = definition(s.scale_dtype).values
    return most + (most - below) / 2


def _scale_range(s: Any) -> tuple[Fraction, Fraction]:
    """The smallest and the largest positive stored scale."""
    if s.scale_dtype == "f32":
        return Fraction(1, 2**149), (2 - Fraction(1, 2**23)) * 2**127
    values = [value for value in definition(s.scale_dtype).values if value > 0]
    return values[0], values[-1]
