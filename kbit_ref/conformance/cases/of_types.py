"""Numbers to encode, and codes to decode, for a data type alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.cases.registry import Given, case, spread
from kbit_ref.datatypes.datatype import DataType

F32 = np.float32
MANY = 64  # midpoints that are enough for a quick test
AT_ONCE = 1 << 12  # numbers in a test of a type with very many levels


def finite_levels(dtype: DataType) -> NDArray[np.float64]:
    """float64 [n], ascending: the finite levels that `encode` gives, each once."""
    levels = np.unique(dtype.levels[dtype.emitted])
    return np.asarray(levels[np.isfinite(levels)])


def midpoints(dtype: DataType) -> NDArray[np.float64]:
    """float64 [n - 1], ascending: exact where levels are float32 numbers of like magnitude."""
    levels = finite_levels(dtype)
    return (levels[1:] + levels[:-1]) / 2


def beside(numbers: NDArray[Any], way: float) -> NDArray[np.float32]:
    """The float32 numbers next to these, which may be no float32 numbers, on one side."""
    near = numbers.astype(F32)
    passed = near < numbers if way < 0 else near > numbers
    return np.where(passed, near, np.nextafter(near, F32(way)))


def _small(dtype: DataType) -> bool:
    return dtype.bits <= 8


@case("every-code", DataType, catches="a table with a wrong level, codes in another order, NaN codes that are missed")
def every_code(dtype: DataType) -> Iterator[Given]:
    """every code of the type, the unused ones too"""
    codes = np.arange(2**dtype.bits)
    for begin in range(0, codes.size, AT_ONCE):
        part = codes[begin : begin + AT_ONCE].astype(dtype.code_dtype)
        yield Given(f"codes {part[0]} to {part[-1]}", {"codes": part}, "quick" if _small(dtype) else "full")


@case("midpoints", DataType, catches="ties that go the wrong way", applies=_small)
def midpoint(dtype: DataType) -> Iterator[Given]:
    """halfway between two levels"""
    for points, level in _some_then_all(midpoints(dtype), MANY):
        yield Given("midpoints", {"x": _as_numbers(points)}, level)


@case(
    "beside-midpoints",
    DataType,
    catches="thresholds that are not the midpoints, a lost sign of zero",
    applies=_small,
)
def beside_midpoints(dtype: DataType) -> Iterator[Given]:
    """0, -0, the smallest float32 numbers; then those next to midpoints, below and above"""
    zeros = np.array([0, -0.0, 2.0**-149, -(2.0**-149)], F32)
    for points, level in _some_then_all(midpoints(dtype), MANY):
        numbers = [zeros, beside(points, -np.inf), beside(points, np.inf)]
        yield Given("zeros, next below midpoints, next above", {"x": np.concatenate(numbers)}, level)


@case("levels", DataType, catches="levels that do not encode to their own code", applies=_small)
def levels(dtype: DataType) -> Iterator[Given]:
    """every level"""
    yield Given("every level", {"x": _as_numbers(finite_levels(dtype))}, "full")


def _some_then_all(points: NDArray[np.float64], many: int) -> Iterator[tuple[NDArray[np.float64], str]]:
    """At most so many, spread over the range; then the others, where there are others."""
    points = spread(points)
    for part, level in ((points[:many], "quick"), (points[many:], "full")):
        if part.size:
            yield part, level


@case(
    "double-rounding",
    DataType,
    catches="x that is rounded to float32 before it is encoded",
    applies=lambda dtype: _small(dtype) and bool(midpoints(dtype).any()),
)
def double_rounding(dtype: DataType) -> Iterator[Given]:
    """float64 numbers so near to a midpoint that float32 cannot tell them from it"""
    points = midpoints(dtype)
    for some, level in _some_then_all(points[points != 0], 4):
        gap = np.abs(some) * 2.0**-40
        yield Given("2**-40 below midpoints, then above", {"x": np.concatenate([some - gap, some + gap])}, level)


@case("beyond", DataType, catches="wrapping, NaN or infinity where the type saturates, or vice versa", applies=_small)
def beyond(dtype: DataType) -> Iterator[Given]:
    """past the last level: half a step and its neighbours, a step, twice the level, the largest numbers, infinity"""
    found = finite_levels(dtype)
    step = found[-1] - found[-2] if found.size > 1 else abs(found[-1]) or 1.0
    tie = np.array([found[-1] + step / 2])
    near = np.array([beside(tie, -np.inf)[0], tie[0], beside(tie, np.inf)[0], found[-1] + step, 2 * found[-1]])
    far = np.array([np.finfo(F32).max, np.inf])
    with np.errstate(over="ignore"):
        points = np.concatenate([near.astype(F32), far.astype(F32)])
    yield Given("beyond the largest level, then beyond the smallest", {"x": np.concatenate([points, -points])})


@case("not-a-number", DataType, catches="NaN that becomes a number, or another NaN code", applies=_small)
def nan(dtype: DataType) -> Iterator[Given]:
    """NaN of both signs, with and without the quiet bit, and with only the lowest bit set"""
    level = "full" if dtype.nan_code is None else "quick"
    for what, words in {"NaN": (0x7FC00000, 0xFFC00000), "signalling NaN": (0x7F800001, 0xFFA00000)}.items():
        yield Given(f"{what}, and with a sign", {"x": np.array(words, np.uint32).view(F32)}, level)


@case("all-words", DataType, catches="anything at all in a 16-bit format", applies=_small)
def all_words(dtype: DataType) -> Iterator[Given]:
    """every float16 number"""
    words = np.arange(65536, dtype=np.uint16)
    numbers = words.view(np.float16)
    if dtype.nan_code is None:
        numbers = numbers[~np.isnan(numbers)]
    for begin in range(0, numbers.size, AT_ONCE):
        part = numbers[begin : begin + AT_ONCE]
        yield Given(f"float16, {part.size} words from {part[:1].view(np.uint16)[0]:04x}", {"x": part}, "exhaustive")


def _as_numbers(points: NDArray[np.float64]) -> NDArray[Any]:
    """float32 where that is exact, else float64."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = points.astype(F32)
    return narrow if np.array_equal(narrow, points) else points
