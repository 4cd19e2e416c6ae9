"""Scale rules: what a block of numbers stores besides its codes.

`exact_quantize.py` says what each rule means; here it is one NumPy operation on many blocks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.datatype import datatype
from kbit_ref.engine import CHUNK, decode, encode
from kbit_ref.errors import BadInput, message
from kbit_ref.scheme import Scheme

__all__ = ["Scaled", "Whole", "effective", "scale_of", "significand_bits", "whole_of"]

Array = NDArray[Any]


class Whole(NamedTuple):
    """What belongs to the whole tensor."""

    global_scale: Any
    mean: Any


class Scaled(NamedTuple):
    """What a piece of blocks stores, [n, 1] each, and the scale in use."""

    stored: Array
    used: Array
    offset: Array | None
    zero_point: Array | None


def whole_of(s: Scheme, a: Arithmetic, rows: Array) -> Whole:
    """The mean and the global scale, where the scheme has them."""
    mean = global_scale = None
    if s["center"] == "tensor" or s["global"] != "none":
        numbers = a.round(rows)
        if s["nan"] == "zero":
            numbers = np.where(np.isnan(numbers), a.dtype(0), numbers)
        finite = numbers[np.isfinite(numbers)]
        if s["center"] == "tensor" and finite.size:
            mean = _float32(a.round(np.float64(sequential_sum(finite.astype(np.float64)) / finite.size)))
            finite = a.subtract(finite, mean)
        if s["global"] != "none":
            largest = np.abs(finite).max(initial=0)
            reach = a.multiply(s.dtype.top, datatype(s.scale_dtype).top)
            global_scale = a.dtype(1)
            if largest:
                ratio = (largest, reach) if s["global"] == "multiplier" else (reach, largest)
                global_scale = a.divide(*ratio)
            global_scale = _float32(global_scale)
    return Whole(global_scale, mean)


def _float32(value: Any) -> np.float32:
    """The number as it is stored."""
    with np.errstate(over="ignore", under="ignore"):
        return np.float32(value)


def sequential_sum(values: NDArray[np.float64]) -> np.float64:
    """The sum in order, each addition rounded."""
    total = np.float64(0)
    for begin in range(0, values.size, CHUNK):
        total = np.cumsum(np.concatenate([[total], values[begin : begin + CHUNK]]))[-1]
    return total


def scale_of(s: Scheme, a: Arithmetic, whole: Whole, numbers: Array, finite: Array | None, width: int) -> Scaled:
    """[n, size] -> [n, 1]: what each block stores."""
    size = numbers.shape[1]
    padding = width - size if s["tail"] == "pad" else 0
    if padding:  # the rule sees zeros; the codes are still those of the block
        pad = np.zeros((len(numbers), padding), numbers.dtype)
        seen = np.concatenate([numbers, pad], axis=1)
        seen_finite = None if finite is None else np.concatenate([finite, np.ones(pad.shape, bool)], axis=1)
    else:
        seen, seen_finite = numbers, finite

    offset = None
    if s["center"] == "block":
        kept = seen if seen_finite is None else np.where(seen_finite, seen, 0)
        count = np.full((len(seen), 1), seen.shape[1]) if seen_finite is None else seen_finite.sum(1, keepdims=True)
        offset = _stored_as(s, a.round(_in_order(kept) / np.maximum(count, 1)))
        numbers[...] = np.where(np.isfinite(numbers), a.subtract(numbers, offset), numbers)
        seen = numbers if not padding else np.concatenate([numbers, a.subtract(pad, offset)], axis=1)
    if s.rule == "minmax":
        offset = _stored_as(s, _extreme(np.minimum, seen, seen_finite, 0))

    raw = _raw_scale(s, a, seen, seen_finite)
    if whole.global_scale is not None:
        combine = a.multiply if s["global"] == "divisor" else a.divide
        raw = combine(raw, whole.global_scale)
    stored = _stored_scale(s, raw)
    used = raw if s["scaleuse"] == "unrounded" else stored
    used = np.asarray(effective(s, a, whole.global_scale, used), a.dtype)

    zero_point = None
    if s.rule == "affine":
        low = np.minimum(_extreme(np.minimum, seen, seen_finite, 0), 0)
        with np.errstate(invalid="ignore"):
            steps = np.rint(a.divide(-low, used))
        steps = np.where(used == 0, 0, steps)
        zero_point = np.clip(steps, 0, s.dtype.top).astype(np.uint8)
    return Scaled(stored, used, offset, zero_point)


def effective(s: Scheme, a: Arithmetic, global_scale: Any, stored: Array) -> Array:
    """The scale that decode multiplies by: the stored one, times or over the global one if there is one."""
    if global_scale is None:
        return stored
    return a.multiply(stored, global_scale) if s["global"] == "multiplier" else a.divide(stored, global_scale)


def _raw_scale(s: Scheme, a: Arithmetic, numbers: Array, finite: Array | None) -> Array:
    """[n, size] -> [n, 1]: the scale before it is stored; 0 for a block of zeros."""
    top = a.dtype(s.dtype.top)
    if s.rule in ("minmax", "affine"):
        low, high = _extreme(np.minimum, numbers, finite, 0), _extreme(np.maximum, numbers, finite, 0)
        if s.rule == "affine":
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        return a.divide(a.subtract(high, low), top)
    largest = _absmax(numbers, finite)
    if s.rule == "absmax":
        return a.divide(largest, top)
    if s.rule == "signedmax":
        magnitudes = np.abs(numbers) if finite is None else np.where(finite, np.abs(numbers), -1)
        first = np.take_along_axis(numbers, magnitudes.argmax(axis=1, keepdims=True), axis=1)
        levels = s.dtype.levels[s.dtype.emitted]
        bottom = levels[np.isfinite(levels)].min()
        scale = a.divide(first, a.dtype(bottom) if -bottom > top else top)
        return np.where(largest == 0, a.dtype(0), scale)
    if s.rule == "rms":
        squares = np.asarray(numbers, np.float64) ** 2
        if finite is not None:
            squares[~finite] = 0
        count = numbers.shape[1] if finite is None else np.maximum(finite.sum(1, keepdims=True), 1)
        return a.round(np.sqrt(_in_order(squares) / count))
    return _power_of_two(s, largest)


def _power_of_two(s: Scheme, largest: Array) -> Array:
    """[n, 1]: the power of two of the rule, from the exponent bits (frexp reads them; no logarithm)."""
    top = s.dtype.top
    top_exponent = int(np.frexp(top)[1]) - 1
    wide = largest.astype(np.float64)
    if s.rule == "pow2rceil":
        with np.errstate(under="ignore", over="ignore"):
            wide = (
                (wide / top).astype(np.float32).astype(np.float64)
                if largest.dtype != np.float32
                else (largest / np.float32(top)).astype(np.float64)
            )
        wide, top_exponent = np.where((wide == 0) & (largest > 0), 2.0**-200, wide), 0
    fraction, exponent = np.frexp(wide)  # wide = fraction * 2**exponent, 1/2 <= fraction < 1
    exponent = exponent - 1
    if s.rule in ("pow2ceil", "pow2rceil"):
        exponent = exponent + (fraction > 0.5)
    if s.rule == "pow2even":
        steps = 2.0 ** (significand_bits(s) + 1)
        exponent = exponent + (np.rint(fraction * steps) == steps)
    return np.where(largest > 0, np.ldexp(1.0, exponent - top_exponent), 0.0)


def significand_bits(s: Scheme) -> int:
    """How many bits of significand the levels resolve in the binade of the largest one."""
    levels = s.dtype.levels[s.dtype.emitted]
    levels = np.unique(levels[np.isfinite(levels)])
    e = int(np.frexp(levels[-1])[1]) - 1
    binade = levels[levels >= 2.0**e]
    return e + 1 - int(np.frexp(np.diff(binade).min())[1]) if binade.size > 1 else 0


def _in_order(values: Array) -> Array:
    """[n, size] -> [n, 1]: sums along a block in order, each addition rounded to float64."""
    total = np.zeros(len(values))
    for column in np.asarray(values, np.float64).T:
        total = total + column
    return total[:, None]


def _extreme(function: Any, numbers: Array, finite: Array | None, empty: float) -> Array:
    """[n, size] -> [n, 1]: minimum or maximum of the finite elements; `empty` for a block that has none."""
    if finite is None:
        return np.asarray(function.reduce(numbers, axis=1, keepdims=True))
    fill = np.inf if function is np.minimum else -np.inf
    found = function.reduce(np.where(finite, numbers, numbers.dtype.type(fill)), axis=1, keepdims=True)
    return np.asarray(np.where(np.isfinite(found), found, numbers.dtype.type(empty)))


def _absmax(numbers: Array, finite: Array | None) -> Array:
    """[n, size] -> [n, 1]: the largest magnitude."""
    magnitudes = np.abs(numbers)
    if finite is not None:
        magnitudes[~finite] = 0
    starts = np.arange(0, magnitudes.size, magnitudes.shape[1])
    return np.maximum.reduceat(magnitudes.reshape(-1), starts)[:, None]


def _stored_as(s: Scheme, values: Array) -> Array:
    """Rounded to the stored scale's type."""
    with np.errstate(over="ignore", under="ignore"):
        if s.scale_dtype == "f32":
            return values.astype(np.float32)
    kind = datatype(s.scale_type)
    return decode(kind, encode(kind, values, threads=1), threads=1)


def _stored_scale(s: Scheme, raw: Array) -> Array:
    """[n, 1]: the scales as they are stored."""
    stored = _stored_as(s, raw)
    wrong = ((stored == 0) | ~np.isfinite(stored)) & (raw != 0)
    if wrong.any():
        if s["scalerange"] == "error":
            at = int(np.flatnonzero(wrong)[0])
            got = f"a block scale of {float(raw.ravel()[at])}"
            rule = f"it becomes {float(stored.ravel()[at])} in {s.scale_dtype}"
            raise BadInput(message("quantize", got, rule, "use a wider scale, or +scalerange=clamp"))
        if s.scale_dtype == "f32":
            smallest, largest = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)
        else:
            kind = datatype(s.scale_dtype)
            positive = kind.levels[kind.emitted]
            positive = positive[np.isfinite(positive) & (positive > 0)]
            smallest, largest = float(positive.min()), float(positive.max())
        limit = np.copysign(np.where(stored == 0, smallest, largest), raw).astype(np.float32)
        stored = np.where(wrong, limit, stored)
    if s["zeroblock"] == "one":
        stored = np.where(raw == 0, np.float32(1), stored)
    return stored
