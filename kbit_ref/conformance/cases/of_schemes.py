"""Blocks to quantize: rows of one block each, laid out as the cut of the scheme wants them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.cases.of_types import beside, finite_levels, midpoints
from kbit_ref.conformance.cases.registry import Given, case, spread
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.scheme import Scheme

__all__ = ["arranged", "block_size", "stored_numbers"]

F32 = np.float32
LARGEST = np.finfo(F32).max
SIZE = 16  # of a block where the cut has no size of its own
Rows = NDArray[Any]


# Where numbers go --------------------------------------------------------------------------------


def block_size(s: Scheme) -> int:
    """Elements of a block."""
    return s.cut.size or SIZE


def arranged(cut: Cut, rows: Rows) -> Rows:
    """[n, length] -> an array whose rows, as the cut sees them, are these; flat cuts see them one after the other."""
    if cut.axis is None:
        return rows
    n_axes = max(2, cut.axis + 1, -cut.axis)
    across, along = rows.shape if cut.kind == "b" else rows.shape[::-1]
    others = [across, *[1] * (n_axes - 2)]
    axis = cut.axis % n_axes
    return np.ascontiguousarray(cut.join(rows, (*others[:axis], along, *others[axis:])))


def _given(s: Scheme, comment: str, rows: Any, level: str = "quick") -> Given:
    """Rows as x. Where the scheme has a global scale one more row makes it 1."""
    rows = np.asarray(rows, F32)
    if s["global"] != "none":
        last = np.zeros((1, rows.shape[1]), F32)
        last[0, -1] = s.dtype.top * datatype(s.scale_dtype).top
        rows = np.concatenate([rows, last])
    return Given(comment, {"x": arranged(s.cut, rows)}, level)


def _anchors(s: Scheme) -> tuple[NDArray[np.float64], float]:
    """The numbers that make the scale of a block 1, and how far the levels are shifted then."""
    found, rule = finite_levels(s.dtype), RULES[s.rule]
    if rule.offset_added or rule.zero_point:
        shift = float(found[0]) + 2.0 ** (s.dtype.bits - 1)
        return np.array([found[0], found[-1]]) - shift, shift
    if s.rule == "signedmax":
        return np.array([found[0] if -found[0] > found[-1] else found[-1]]), 0.0
    if s.rule == "pow2ceil":
        return np.array([2.0 ** (np.frexp(s.dtype.top)[1] - 1)]), 0.0
    reach = getattr(rule, "reach", None)
    return np.array([float(reach(s)) if reach else s.dtype.top]), 0.0


def _blocks(s: Scheme, numbers: Rows, scale: float, most: int | None = None) -> list[Rows]:
    """Rows of those numbers, for a block of scale 1, times a scale: each with the anchors, at changing places."""
    anchors, shift = _anchors(s)
    size = block_size(s)
    low, high = min(float(anchors.min()), 0.0), max(float(anchors.max()), 0.0)
    if anchors.size == 1:
        low, high = -max(high, -low), max(high, -low)
    inside = spread(numbers[(numbers - shift > low) & (numbers - shift < high)]) - shift
    room = max(1, size - anchors.size)
    rows: list[Rows] = []
    for begin in range(0, len(inside), room)[:most]:
        body = np.resize(np.concatenate([inside[begin:], inside])[: min(room, inside.size)], room)
        row = np.concatenate([anchors, body])[:size]
        rows.append(np.roll(row, 3 + 5 * len(rows)) * scale)
    return rows


def stored_numbers(s: Scheme) -> NDArray[np.float32]:
    """Scales near 1 that the stored type has, all bits of their significands in use where it has many."""
    if s.scale_dtype == "f32" or s["scaleuse"] == "unrounded":
        return (F32(1) / np.arange(3, 130, 2, dtype=F32)) * F32(8)
    found = finite_levels(datatype(s.scale_dtype)).astype(F32)
    near = found[(found >= 2.0**-4) & (found < 2.0**4)]
    return spread(near)[:64]


def _few_bits(s: Scheme) -> list[float]:
    """Scales that leave products with levels exact."""
    return [1.0, 4.0, 0.25] if RULES[s.rule].power_of_two else [1.0, 0.75, 2.5]


# The cases ---------------------------------------------------------------------------------------


@case("tie-aligned", Scheme, catches="ties that go the wrong way, a truncated quotient, thresholds of another type")
def tie_aligned(s: Scheme) -> Iterator[Given]:
    """midpoints times a scale of few bits, so that x / scale is a midpoint exactly; then their neighbours"""
    points = midpoints(s.dtype)
    if not points.size:
        return
    for number, scale in enumerate(_few_bits(s)):
        level = "quick" if number == 0 else "full"
        for row in _blocks(s, points, scale, 1 if level == "quick" else None):
            yield _given(s, f"midpoints times {scale}", [row], level)
        for way, side in ((-np.inf, "below"), (np.inf, "above")):
            for row in _blocks(s, beside(points, way).astype(np.float64), scale, 1 if level == "quick" else None):
                yield _given(s, f"next to midpoints, {side}, times {scale}", [row], level)


@case(
    "reciprocal-sensitive",
    Scheme,
    catches="x * fl(1 / scale) for x / scale, or the other way round; a quotient in another precision",
    applies=lambda s: not RULES[s.rule].power_of_two,
)
def reciprocal_sensitive(s: Scheme) -> Iterator[Given]:
    """quotients and products with fl(1 / scale) that lie on different sides of a midpoint, or one of them on it"""
    points = midpoints(s.dtype)
    found = 0
    for scale in stored_numbers(s):
        ties = points.astype(F32)
        with np.errstate(all="ignore"):
            near = (points * float(scale)).astype(F32)
            near = np.concatenate([near, np.nextafter(near, F32(-np.inf)), np.nextafter(near, F32(np.inf))])
            ties = np.tile(ties, 3)
            quotient, product = near / scale, near * (F32(1) / scale)
        telling = np.sign(quotient - ties) != np.sign(product - ties)
        _, shift = _anchors(s)
        rows = _blocks(s, near[telling].astype(np.float64) / float(scale) + (shift if shift else 0), float(scale), 1)
        if rows:
            found += 1
            yield _given(s, f"scale near {float(scale):.6g}", [rows[0]], "quick" if found <= 2 else "full")
        if found == 16:
            return


@case("every-level", Scheme, catches="a wrong table, codes in another order, bits or nibbles in another order")
def every_level(s: Scheme) -> Iterator[Given]:
    """every level times a scale"""
    for number, row in enumerate(_blocks(s, finite_levels(s.dtype), 0.75 if not RULES[s.rule].power_of_two else 0.5)):
        yield _given(s, "levels", [row], "quick" if number < 2 else "full")


@case("power-of-two", Scheme, catches="a logarithm for the exponent, floor for ceil, a rounding that carries")
def power_of_two(s: Scheme) -> Iterator[Given]:
    """the largest magnitude at a power of two and one ulp below and above it, and at the largest level"""
    top = F32(s.dtype.top)
    edges = {"a power of two": F32(8), "the largest level": top, "midway to the next power": F32(7)}
    if s["global"] == "none" and s.scale_dtype in ("f32", "bf16", "e8m0fnu"):
        edges["2**-100"] = F32(2.0**-100)
    for where, edge in edges.items():
        for way, side in ((-np.inf, "one ulp below"), (0, "at"), (np.inf, "one ulp above")):
            largest = np.nextafter(edge, F32(way)) if way else edge
            row = _ramp(block_size(s)) * largest
            row[block_size(s) // 3] = largest
            level = "quick" if RULES[s.rule].power_of_two or where == "a power of two" else "full"
            yield _given(s, f"largest magnitude {side} {where}", [row], level)


def _ramp(size: int) -> NDArray[np.float32]:
    """Numbers from -1/2 to 1/2 in an irregular order, no two alike."""
    return (spread(np.arange(size)) - F32(size // 2)).astype(F32) / F32(size + 1)


@case("one-outlier", Scheme, catches="a scale by another statistic, a lost sign of small numbers")
def one_outlier(s: Scheme) -> Iterator[Given]:
    """one element a thousand times larger than the rest: the rest becomes zero, or nearly"""
    size = block_size(s)
    for place in (size // 2, 0, size - 1):
        row = _ramp(size) * F32(2.0**-6)
        row[place] = F32(-11.3)
        yield _given(s, f"element {place} is the outlier", [row], "quick" if place else "full")


@case("signs", Scheme, catches="a signed scale by the wrong element, a tie of the largest magnitudes")
def signs(s: Scheme) -> Iterator[Given]:
    """two elements of the largest magnitude with opposite signs, the positive or the negative one first"""
    size = block_size(s)
    for first in (1, -1):
        row = _ramp(size) * F32(2)
        row[size // 4], row[size // 2] = F32(3 * first), F32(-3 * first)
        yield _given(s, f"{3 * first} before {-3 * first}", [row])


@case("ranges", Scheme, catches="a range that is not widened to hold 0, a zero point out of range, equal elements")
def ranges(s: Scheme) -> Iterator[Given]:
    """blocks on one side of 0, and blocks of one number"""
    size = block_size(s)
    unit = np.abs(_ramp(size)) + F32(1)
    level = "quick" if RULES[s.rule].offset_added or RULES[s.rule].zero_point else "full"
    yield _given(s, "all positive", [unit * F32(5)], level)
    yield _given(s, "all negative", [unit * F32(-5)], level)
    yield _given(s, "all -1.5", [np.full(size, -1.5, F32)])
    yield _given(s, "all 1.5", [np.full(size, 1.5, F32)], "full")


@case("zeros", Scheme, catches="0 / 0, a scale of NaN or 1 for a block of zeros, a lost sign of zero")
def zeros(s: Scheme) -> Iterator[Given]:
    """a block of zeros among others, -0 beside numbers of either sign that become 0"""
    size = block_size(s)
    yield _given(s, "one block of zeros, one not", [np.zeros(size), _ramp(size)])
    tiny = np.where(np.arange(size) % 2, F32(-1e-9), F32(-0.0))
    tiny[size // 2] = 1
    yield _given(s, "-0 and -1e-9 beside 1", [tiny])


@case("subnormal", Scheme, catches="subnormals flushed to zero, a reciprocal that overflows, a scale that becomes 0")
def subnormal(s: Scheme) -> Iterator[Given]:
    """largest magnitudes that make the scale subnormal, in float32 and in its stored type, or 0"""
    size = block_size(s)
    for exponent in (-126, -140, -149, -133, -24, -15, -10):
        half = s.scale_dtype not in ("f32", "bf16", "e8m0fnu")
        row = _ramp(size) * F32(2)
        row[size // 2] = 1
        level = "quick" if (exponent >= -24 if half else exponent in (-126, -140)) else "full"
        yield _given(s, f"largest magnitude top * 2**{exponent}", [_scaled(row, s, exponent)], level)


def _scaled(row: Rows, s: Scheme, exponent: int) -> Rows:
    with np.errstate(under="ignore"):
        return (row.astype(np.float64) * s.dtype.top * 2.0**exponent).astype(F32)


@case("huge", Scheme, catches="a scale that becomes infinite, a sum or span that overflows")
def huge(s: Scheme) -> Iterator[Given]:
    """the largest float32 numbers, and a scale beyond its stored type"""
    size = block_size(s)
    row = _ramp(size) * F32(2)
    row[size // 2] = 1
    yield _given(s, "the largest float32 number", [row * LARGEST])
    if s.scale_dtype not in ("f32", "bf16", "e8m0fnu") and s["global"] == "none":
        most = float(finite_levels(datatype(s.scale_dtype))[-1])
        with np.errstate(over="ignore"):
            yield _given(s, "a scale of twice the largest", [(row * (2 * most * s.dtype.top)).astype(F32)], "full")


@case("nan", Scheme, catches="NaN that is accepted, that spreads to its block, or that is lost")
def nan(s: Scheme) -> Iterator[Given]:
    """NaN at each position of a block"""
    yield from _special(s, np.nan)


@case("infinity", Scheme, catches="infinity that is accepted, that makes the scale infinite, or that is lost")
def infinity(s: Scheme) -> Iterator[Given]:
    """infinity at each position of a block, the sign in turns"""
    yield from _special(s, np.inf)


def _special(s: Scheme, value: float) -> Iterator[Given]:
    size = block_size(s)
    early = {0, size - 1} if s["nan" if value != value else "inf"] == "error" else {0, size // 2, size - 1}
    for place in range(size):
        row = _ramp(size)
        row[place] = F32(value if place % 2 == 0 else -value)
        yield _given(s, f"{row[place]} at position {place}", [row], "quick" if place in early else "full")


@case("tail", Scheme, catches="a short last block that is lost or takes another scale, bits that fill the last byte")
def tail(s: Scheme) -> Iterator[Given]:
    """a row with a short last block, an odd count, one element"""
    size = block_size(s)
    yield _given(s, f"a row of {size} + 3", [np.concatenate([_ramp(size), _ramp(3) * F32(40)])])
    yield _given(s, "one element", [[F32(-2.7)]])


@case(
    "odd-rows",
    Scheme,
    catches="rows that begin at bytes of their own, or do not",
    applies=lambda s: s.cut.axis is not None and s.layout.elements > 1,
)
def odd_rows(s: Scheme) -> Iterator[Given]:
    """three rows of 5 elements, which fill no whole number of bytes"""
    yield _given(s, "three rows of 5", np.roll(_ramp(15), 4).reshape(3, 5) * np.array([[1], [3], [9]], F32))


@case(
    "square",
    Scheme,
    catches="scales that lie along another axis of the same length",
    applies=lambda s: s.cut.kind == "channel",
)
def square(s: Scheme) -> Iterator[Given]:
    """as many channels as elements in each"""
    yield _given(s, "four channels of four", np.roll(_ramp(16), 5).reshape(4, 4) * np.array([[1], [3], [9], [27]], F32))


@case("order", Scheme, catches="scales in another order, blocks along another axis, a wrong stride")
def order(s: Scheme) -> Iterator[Given]:
    """two rows of two blocks, each a power of four larger than the one before"""
    size = block_size(s)
    blocks = [_ramp(size) * F32(4.0**i) for i in range(4)]
    blocks = [np.roll(block, i) for i, block in enumerate(blocks)]
    rows = [np.concatenate(blocks[:2]), np.concatenate(blocks[2:])]
    yield _given(s, "four blocks of different magnitudes", rows, "quick" if size <= 64 else "full")
