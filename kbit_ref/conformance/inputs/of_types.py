"""Generate the inputs of an oracle: those at which implementations differ, never random ones alone.

Inputs are *words*: the bits of the numbers in a float format. Every class below has caught a bug:

    each level and midpoint, and their neighbours in the source format, of both signs
    what comes beyond the last level: the overflow band, twice the last level, the largest number
    0, -0, infinities, NaNs of both signs, negative underflow, subnormals of the source
    every power of two and its neighbours
    numbers close beside a midpoint by 2**-10 ... 2**-40 of it: what a first rounding loses
    for float16 and bfloat16, and integers of 8 and 16 bits: all words
    wider integers: those next to each level and midpoint, to powers of two and to the ends of their range
    longdouble: also numbers next to levels and midpoints that float64 does not hold
    a random tail with a fixed seed
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import widened
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import to_odd_float64

__all__ = ["MORE_SOURCES", "SOURCES", "Inputs", "arrangements", "bits_and_number", "encode_inputs", "nan_words"]
__all__ += ["to_float64"]

Words = NDArray[Any]
WORD: dict[str, Any] = {"float16": np.uint16, "bfloat16": np.uint16, "float32": np.uint32, "float64": np.uint64}
SOURCES = tuple(WORD)
INTEGERS = (*(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "bool")
MORE_SOURCES = ("longdouble", *INTEGERS)  # used where they are named; of longdouble the words are the numbers
EXPONENTS = {"float32": (-149, 127), "float64": (-1074, 1023)}
RANDOM = 4096  # numbers of each kind in the random tail
FEW = 15  # levels and midpoints of types of more than 8 bits: one in so many, the two in turns


@dataclass(frozen=True)
class Inputs:
    """Words to try, and how many were left out because the type cannot take them."""

    kind: str  # the source format, or `codes`
    words: Words  # [n]
    nan_left_out: int = 0


def to_float64(words: Words, kind: str) -> NDArray[np.float64]:
    """Return the numbers of the words, exact, float64 [n]; NaN has its sign.

    What float64 does not hold is rounded to odd: it lies on the same side of every level and midpoint, and becomes the
    same float32.

    Examples
    --------
    >>> to_float64(np.array([2**53 + 1, 2**60 + 1], np.int64).view(np.uint64), "int64") == [2.0**53, 2.0**60]
    array([False, False])
    """
    numbers = widened(words) if kind == "bfloat16" else words.view(kind)
    if kind == "longdouble":
        return to_odd_float64(numbers)
    if kind in ("int64", "uint64"):
        return _integers_to_odd(numbers)
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        return numbers.astype(np.float64)


def bits_and_number(word: Any, kind: str) -> tuple[str, float | Fraction]:
    """Return a word in hexadecimal digits, and its number: as a fraction where float64 does not hold it.

    Examples
    --------
    >>> bits_and_number(0x3F80, "bfloat16"), bits_and_number(2**64 - 1, "int64")
    (('0x3f80', 1.0), ('0xffffffffffffffff', -1.0))
    """
    size = np.dtype("uint16" if kind == "bfloat16" else kind).itemsize
    words = np.array([word], "longdouble" if kind == "longdouble" else f"uint{8 * size}")
    number: float | Fraction = float(to_float64(words, kind)[0])
    if kind == "longdouble" and np.isfinite(word) and word:
        number = Fraction(*words[0].as_integer_ratio())
    elif kind in ("int64", "uint64"):
        number = Fraction(int(words.view(kind)[0]))
    if kind == "longdouble" and np.finfo(kind).nmant == 63:  # of x87: 10 bytes, and some that fill them up
        size = 10
    digits = words.tobytes()[:size]
    bits = f"0x{(digits[::-1] if sys.byteorder == 'little' else digits).hex()}"
    return bits, float(number) if number == float(number) or number != number else number


def encode_inputs(dtype: DataType, kind: str, seed: int = 0) -> Inputs:
    """Return the words of format `kind` on which an encoder of this type is tried.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> encode_inputs(kb.datatype("e4m3fn"), "bfloat16").words.size
    65536
    >>> encode_inputs(kb.datatype("e2m1fn"), "float16").nan_left_out  # it has no code for NaN
    2046
    """
    if kind in INTEGERS:
        return Inputs(kind, np.random.default_rng(seed).permutation(_integers(dtype, kind, seed)))
    if kind == "longdouble":
        return _longdoubles(dtype, seed)
    if kind in ("float16", "bfloat16"):
        words = np.arange(65536, dtype=np.uint16)
    else:
        words = _chosen(dtype, kind)
        tail = np.setdiff1d(_random(dtype, kind, seed), words)
        words = np.concatenate([words, tail])
    rng = np.random.default_rng(seed)
    beside = _beside(dtype, kind)
    others = words[~np.isin(words, beside)]
    words = np.concatenate([beside, rng.permutation(others)])  # no lane sees only easy numbers
    nan = np.isnan(to_float64(words, kind))
    if dtype.definition.nan is None:
        return Inputs(kind, words[~nan], int(nan.sum()))
    return Inputs(kind, words)


def nan_words(kind: str) -> Words:
    """Return NaN of both signs, [n]: of 16 bits all of them, else the quiet one, a signalling one, and all bits set.

    Examples
    --------
    >>> nan_words("float16").size, nan_words("float32").size
    (2046, 6)
    """
    if kind in MORE_SOURCES:
        return np.array([np.nan, -np.nan] if kind == "longdouble" else [], np.dtype(kind))
    word = WORD[kind]
    if kind in ("float16", "bfloat16"):
        words = np.arange(65536, dtype=np.uint16)
        return words[np.isnan(to_float64(words, kind))]
    infinity, quiet = np.array([np.inf, np.nan], kind).view(word)
    most = word(2 ** (word(0).nbytes * 8 - 1) - 1)
    magnitudes = np.array([infinity + word(1), quiet & most, most], word)
    return np.concatenate([magnitudes, magnitudes | ~most])


def _beside(dtype: DataType, kind: str) -> Words:
    """Return a few zeros and tiny numbers beside large ones, in this order, [n]."""
    if kind in ("float16", "bfloat16"):
        return np.empty(0, np.uint16)  # all words are there
    tiny = float(np.finfo(kind).smallest_subnormal)
    with np.errstate(over="ignore"):  # the largest levels of wide types are infinite in it
        numbers = np.array([0.0, dtype.top, -0.0, 1e-6, 1.0, 1e-6 * dtype.top, tiny, dtype.top / 2], kind)
    return np.array(list(dict.fromkeys(numbers.view(WORD[kind]).tolist())), WORD[kind])  # none twice


def _chosen(dtype: DataType, kind: str) -> Words:
    """Return everything but the random tail, [n] ascending words."""
    word = WORD[kind]
    levels = np.unique(np.abs(dtype.levels[np.isfinite(dtype.levels)]))
    all_levels = np.unique(dtype.levels[np.isfinite(dtype.levels)])
    midpoints = np.unique(np.abs((all_levels[1:] + all_levels[:-1]) / 2))
    top = float(levels[-1])
    step = top - float(levels[-2]) if levels.size > 1 else top
    beyond = top + step * np.arange(1, 65) / 32  # the overflow band: two steps past the end
    far = top * np.array([1.5, 1.75, 2, 3, 4, 1e3])
    points = np.concatenate([levels, midpoints, beyond, far, levels[:1] / 4, levels[levels > 0][:1] / 4])

    least, most = EXPONENTS[kind]
    powers = np.ldexp(1.0, np.arange(least, most + 1))
    near = np.concatenate([_neighbours(points, kind), _neighbours(powers, kind)])
    if levels.size <= 4096:  # what rounding first to a narrower format loses
        shifts = np.ldexp(1.0, -np.array([10, 13, 20, 26, 30, 40]))
        beside = np.concatenate([np.outer(midpoints, 1 + shifts).ravel(), np.outer(midpoints, 1 - shifts).ravel()])
        quarters = np.concatenate([(levels[1:] * 3 + levels[:-1]) / 4, (levels[1:] + levels[:-1] * 3) / 4])
        near = np.concatenate([near, _neighbours(np.concatenate([beside, quarters]), kind)])

    size = word(0).nbytes * 8
    infinity = np.array([np.inf], kind).view(word)[0]
    quiet = np.array([np.nan], kind).view(word)[0] & word(2 ** (size - 1) - 1)
    signalling, all_ones = infinity + word(1), word(2 ** (size - 1) - 1)
    specials = np.array([0, 1, 2, 3, infinity - word(1), infinity, quiet, signalling, all_ones], word)
    magnitudes = np.concatenate([near[near < infinity], specials])
    return np.unique(np.concatenate([magnitudes, magnitudes | word(1 << (size - 1))]))


def _points(dtype: DataType) -> NDArray[np.float64]:
    """Return the finite levels, midpoints (of wide types a few), and what lies beyond the last ones of both signs."""
    levels = np.unique(dtype.levels[np.isfinite(dtype.levels)])
    ends = np.concatenate([levels[-1] * np.array([1.0625, 1.5, 2]), levels[0] * np.array([1.0625, 1.5, 2])])
    points = np.sort(np.concatenate([levels, (levels[1:] + levels[:-1]) / 2]))
    return np.concatenate([points[:: 1 if dtype.bits <= 8 else FEW], ends])


def _integers(dtype: DataType, kind: str, seed: int) -> Words:
    """Return integers as unsigned words of their width, [n]: all of 8 and 16 bits, of wider ones those that tell."""
    if kind == "bool":
        return np.array([0, 1], np.uint8)
    info = np.iinfo(kind)
    word = np.dtype(f"uint{info.bits}")
    if info.bits <= 16:
        return np.arange(2**info.bits, dtype=word)
    whole = np.unique(np.floor(_points(dtype)))
    inside = whole[(whole >= float(info.min)) & (whole < float(info.max))].astype(kind).view(word)
    powers = word.type(1) << np.arange(info.bits, dtype=word)
    rng = np.random.default_rng(seed)
    anything = rng.integers(0, np.iinfo(word).max, RANDOM, dtype=word, endpoint=True)
    small = anything >> rng.integers(0, info.bits, RANDOM).astype(word)
    near = np.concatenate([inside, powers, ~powers, np.arange(1024, dtype=word), ~np.arange(1024, dtype=word)])
    beside = [near + word.type(i) for i in range(4)] + [near - word.type(i) for i in (1, 2)]  # they may wrap around
    return np.unique(np.concatenate([*beside, anything, small, ~small]))


def _longdoubles(dtype: DataType, seed: int) -> Inputs:
    """Return those of float64, and the longdoubles next to each level and midpoint."""
    wide = encode_inputs(dtype, "float64", seed)
    some, points = wide.words[:: 1 if dtype.bits <= 8 else FEW], _points(dtype).astype(np.longdouble)
    beside = [points, *(np.nextafter(points, np.longdouble(way)) for way in (-np.inf, np.inf))]
    most = np.finfo(np.longdouble)
    ends = np.array([most.max, -most.max, most.smallest_subnormal, -most.smallest_subnormal, 0.0, -0.0], np.longdouble)
    ends = np.append(ends, [np.inf, -np.inf, *([] if dtype.definition.nan is None else [np.nan, -np.nan])])
    tail = np.random.default_rng(seed).permutation(np.concatenate([*beside, ends]))
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        numbers = np.concatenate([some.view(np.float64).astype(np.longdouble), tail])
    return Inputs("longdouble", numbers, wide.nan_left_out)


def _integers_to_odd(numbers: NDArray[Any]) -> NDArray[np.float64]:
    """Return integers of 64 bits as float64 [n]; if that does not hold one, its lowest 11 bits become one bit, set."""
    negative = numbers < 0
    words = numbers.view(np.uint64)
    magnitudes = np.where(negative, ~words + np.uint64(1), words)
    lowest = np.maximum(magnitudes & (~magnitudes + np.uint64(1)), np.uint64(1))
    held = magnitudes // lowest < 2**53
    values = np.where(held, magnitudes, magnitudes & ~np.uint64(2047) | np.uint64(2048)).astype(np.float64)
    return np.where(negative, -values, values)


def _neighbours(numbers: NDArray[np.float64], kind: str) -> Words:
    """Return the words of non-negative numbers, and the two before and after each."""
    with np.errstate(over="ignore", under="ignore"):
        words = np.minimum(numbers, float(np.finfo(kind).max)).astype(kind).view(WORD[kind])
    words = words.astype(np.uint64)
    near = [words + np.uint64(i) for i in range(3)] + [words - np.minimum(words, np.uint64(i)) for i in (1, 2)]
    return np.unique(np.concatenate(near)).astype(WORD[kind])


def _random(dtype: DataType, kind: str, seed: int) -> Words:
    """Return random unique words, [n]: any bits at all, and numbers where the levels are."""
    rng = np.random.default_rng(seed)
    word = WORD[kind]
    anything = rng.integers(0, np.iinfo(word).max, RANDOM, dtype=word, endpoint=True)
    levels = np.abs(dtype.levels[np.isfinite(dtype.levels) & (dtype.levels != 0)])
    low, high = np.log2(float(levels.min())) - 2, np.log2(float(levels.max())) + 1
    with np.errstate(over="ignore", under="ignore"):
        sizes = np.exp2(rng.uniform(low, high, RANDOM)).astype(kind)
    numbers = np.where(rng.random(RANDOM) < 0.5, sizes, -sizes).astype(kind)
    return np.unique(np.concatenate([anything, numbers.view(word)]))


def arrangements(flat: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the shapes and strides in which the first inputs are tried again.

    Applied to the expected answers it gives what to expect, since encode and decode act on
    elements.

    Examples
    --------
    >>> [(name, view.shape) for name, view in arrangements(np.arange(1000))][:4]
    [('no dimension', ()), ('empty', (0,)), ('one element', (1,)), ('odd count', (61,))]
    """
    flat = np.resize(flat, 400) if flat.size < 400 else flat
    yield "no dimension", flat[1:2].reshape(())
    yield "empty", flat[:0]
    yield "one element", flat[1:2]
    yield "odd count", flat[1:62]
    yield "three dimensions", flat[:105].reshape(3, 5, 7)
    yield "transposed", flat[:130].reshape(10, 13).T
    yield "every third", flat[:333:3]
