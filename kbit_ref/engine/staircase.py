"""A data type as a staircase over the bits of a float format.

Read the bits of a float as an unsigned integer (a *word*): among words of one sign, a larger word
is a larger magnitude. So every data type, with every choice of rounding, ties, overflow and signs
of zero, is a staircase over words: a sorted list of first words, and a code for each step.
`exact.py` shares nothing with this file but the names of the choices.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import DataType
from kbit_ref.datatypes.levels import parts, rounded

__all__ = ["INFINITY", "WORD", "Boundaries", "Codes", "Words", "boundaries", "fine_boundaries", "in_pairs", "staircase"]

Words = NDArray[Any]
Codes = NDArray[Any]

WORD: dict[str, Any] = {"float16": np.uint16, "bfloat16": np.uint16, "float32": np.uint32, "float64": np.uint64}
INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF0 << 48}


class Boundaries(NamedTuple):
    """Where a type changes its code, from -inf to inf: x goes up at `at`, itself included or not.

    A boundary that is no float is one step aside: with b next to `at` and no float in between, to
    reach b is to reach `at` if b is below it, and to be above `at` otherwise. So a boundary
    nearer to 0 than all floats is 0, one larger than all is inf, and many may be the same.
    """

    at: NDArray[Any]  # [n] float64 or longdouble
    inclusive: NDArray[np.bool_]  # [n]: does x == at go up?
    codes: NDArray[np.intp]  # [n + 1]


def boundaries(dtype: DataType, real: Any = np.float64) -> Boundaries:
    """The numbers at which the code changes, as floats of type `real`."""
    c = dtype.ascending
    v, e = dtype.parts(c)
    d = dtype.signs
    special = {"nan": d.nan, "+": d.infinity[1], "-": d.infinity[-1]}
    below, above, scale = in_pairs(v, e)
    at, inclusive = _at(*_between(dtype, below, above, c[:-1] % 2 == 0), scale, real)

    def overflow(end: int, sign: str) -> tuple[Any, bool, int] | None:
        """The boundary beyond the level at that end, as magnitudes: (at, inclusive, code), or None."""
        last, exponent, code = abs(v[end]), e[end], int(c[end])
        target = special[sign]
        if dtype.overflow == "ieee" and target is None:
            target = special["nan"]
        if dtype.overflow == "finite" or target is None:
            return None
        if dtype.overflow == "saturate":
            return np.inf, True, target
        assert dtype.beyond is not None  # Definition has checked it
        mirrored = {"toward_positive": "toward_negative", "toward_negative": "toward_positive"}
        rounding = dtype.rounding if sign == "+" else mirrored.get(dtype.rounding, dtype.rounding)
        if rounding in ("toward_zero", "toward_negative") or (rounding == "odd" and code % 2):
            return np.inf, True, target
        if rounding in ("toward_positive", "odd"):
            return *_at(last, np.False_, exponent, real), target
        up = {"even": code % 2 == 1, "zero": False, "away": True}
        goes = up.get(dtype.ties, (dtype.ties == "upper") == (sign == "+"))
        beyond, its_exponent = parts(dtype.beyond)
        inner, outer, power = in_pairs(np.array([last, beyond]), np.array([exponent, its_exponent]))
        middle, side = midpoints(inner[0], outer[0])
        return *_at(middle, (side < 0) | ((side == 0) & goes), power[0], real), target

    high = overflow(-1, "+")
    low = overflow(0, "-") if v[0] < 0 else None
    if high is not None:
        at, inclusive, c = np.append(at, high[0]), np.append(inclusive, high[1]), np.append(c, high[2])
    if low is not None:
        at, inclusive, c = np.append(-low[0], at), np.append(not low[1], inclusive), np.append(low[2], c)
    elif v[0] >= 0 and special["-"] is not None and dtype.overflow != "finite":  # -inf, and no other negative level
        at, inclusive, c = np.append(-np.inf, at), np.append(False, inclusive), np.append(special["-"], c)
    elif dtype.negative == "nan":
        edge, stays = _at(*_below_zero(dtype, v), e[min(1, len(e) - 1)], real)
        assert special["nan"] is not None  # DataType has checked it
        at, inclusive, c = np.append(edge, at), np.append(stays, inclusive), np.append(special["nan"], c)
    return Boundaries(at, inclusive.astype(bool), c.astype(np.intp))


def in_pairs(
    v: NDArray[np.float64], e: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """Every two neighbours of v * 2**e without their common power of two, and that power."""
    e = np.where(v == 0, np.iinfo(np.int16).min, e)  # zero goes with any power
    scale = np.maximum(e[:-1], e[1:])
    return np.ldexp(v[:-1], e[:-1] - scale), np.ldexp(v[1:], e[1:] - scale), scale


def _at(at: Any, inclusive: Any, scale: Any, real: Any) -> tuple[Any, Any]:
    """The boundary at * 2**scale as a float of type `real` and whether that float goes up."""
    near, side = rounded(at, scale, real)  # side: where the boundary is from there
    return near, np.where(side == 0, inclusive, side < 0)


def _between(
    dtype: DataType, below: NDArray[np.float64], above: NDArray[np.float64], below_is_even: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The boundary between neighbouring levels, and whether it belongs to the upper one."""
    no, yes = np.zeros(below.shape, bool), np.ones(below.shape, bool)
    if dtype.rounding == "nearest":
        smaller_above = np.abs(above) < np.abs(below)
        larger_above = np.abs(above) > np.abs(below)
        ties = {"even": ~below_is_even, "lower": no, "upper": yes, "zero": smaller_above, "away": larger_above}
        at, side = midpoints(below, above)
        return at, np.where(side == 0, ties[dtype.ties], side < 0)
    if dtype.rounding == "toward_positive":
        return below, no
    if dtype.rounding == "toward_negative":
        return above, yes
    if dtype.rounding == "odd":
        return np.where(below_is_even, below, above), ~below_is_even
    positive = below >= 0  # toward zero: from above on the positive side, from below on the negative one
    return np.where(positive, above, below), positive


def midpoints(below: Any, above: Any) -> tuple[Any, Any]:
    """The float64 nearest to the midpoint, and where the midpoint is from there: -1 below, 0 there, 1 above.

    Levels more than 2**29 apart have midpoints that float64 cannot hold. There no float64 is a
    tie, and the nearest one goes up if the midpoint is below it.
    """
    scale = np.where(np.maximum(np.abs(below), np.abs(above)) > 2.0**1000, 0.25, 1.0)  # clear of overflow
    a, b = below * scale, above * scale
    total = a + b
    back = total - a
    lost = (a - (total - back)) + (b - back)  # Knuth's TwoSum: a + b = total + lost, exactly
    return total / (2 * scale), np.sign(lost)


@lru_cache(maxsize=64)
def fine_boundaries(dtype: DataType) -> NDArray[np.float64]:
    """Boundaries of more than 52 bits, rounded to float64: nearly always none.

    A longdouble next to one of them needs more than a float64 table (see `engine`).
    """
    if dtype.rounding != "nearest":
        return np.empty(0)
    v, e = dtype.parts(dtype.ascending)
    if dtype.beyond is not None:
        beyond, exponent = parts(dtype.beyond)
        v, e = np.concatenate([[-beyond], v, [beyond]]), np.concatenate([[exponent], e, [exponent]])
    below, above, scale = in_pairs(v, e)
    at, side = midpoints(below, above)
    return np.asarray(np.ldexp(at, scale)[(side != 0) | (at.view(np.uint64) % 2 == 1)])


def _below_zero(dtype: DataType, v: NDArray[np.float64]) -> tuple[float, bool]:
    """Where x < 0 becomes NaN in a type without negative levels: (at, does `at` stay a number?).

    In the units of v[1], its own power of two left out.
    """
    if v[0] > 0 or dtype.rounding in ("toward_negative", "odd"):
        return 0.0, True
    if dtype.rounding in ("toward_zero", "toward_positive"):
        return -np.inf, False
    return -float(v[1]) / 2, dtype.ties in ("even", "upper", "zero")


def _first_word(at: NDArray[np.float64], inclusive: NDArray[np.bool_], kind: str) -> Words:
    """The smallest word whose magnitude is >= at (inclusive) or > at; past infinity where there is none."""
    if kind == "bfloat16":
        return np.right_shift(_first_word(at, inclusive, "float32") + np.uint64(0xFFFF), np.uint64(16))
    with np.errstate(over="ignore", under="ignore"):
        near = at.astype(kind)
    short = (near.astype(np.float64) < at) | (~inclusive & (near.astype(np.float64) == at))
    words: Words = near.view(WORD[kind]).astype(np.uint64) + short.astype(np.uint64)
    return words


def staircase(dtype: DataType, kind: str) -> tuple[Words, Codes]:
    """The type as steps over the words of a float format.

    Parameters
    ----------
    dtype
        Any type whose rounding is not stochastic.
    kind
        `float16`, `bfloat16`, `float32` or `float64`.

    Returns
    -------
    first, codes
        Words [n], ascending from 0, in which a new step begins, and the code of every step.
        Negative numbers follow positive ones, as their words do. NaN words are not described.
    """
    b = boundaries(dtype)
    word = WORD[kind]
    sign = np.uint64(1) << np.uint64(word(0).nbytes * 8 - 1)
    zero = np.uint64(0)

    right = (b.at > 0) | ((b.at == 0) & ~b.inclusive)
    up = _first_word(np.abs(b.at[right]), b.inclusive[right], kind)
    up_codes = b.codes[np.append(False, right)]
    start = b.codes[np.count_nonzero(~right)]  # the code of +0

    left = (b.at < 0) | ((b.at == 0) & b.inclusive)
    down = _first_word(np.abs(b.at[left][::-1]), ~b.inclusive[left][::-1], kind)
    down_codes = b.codes[np.append(left, False)][::-1]
    start_down = b.codes[np.count_nonzero(left)]  # the code of -0, if it has none of its own

    first = np.concatenate([[zero], up, [sign], sign + down]).astype(np.uint64)
    codes = np.concatenate([[start], up_codes, [start_down], down_codes])
    first, codes = _with_minus_zero(dtype, first, codes, sign)

    last = np.append(first[1:] != first[:-1], True)  # of several steps at one word, the last one holds
    infinity = np.uint64(INFINITY[kind])
    exists = last & ((first & ~sign) <= infinity)
    first, codes = first[exists], codes[exists]
    changes = np.append(True, codes[1:] != codes[:-1])
    return first[changes].astype(word), codes[changes].astype(dtype.code_dtype)


def _with_minus_zero(
    dtype: DataType, first: Words, codes: NDArray[np.intp], sign: np.uint64
) -> tuple[Words, NDArray[np.intp]]:
    """Give the negative side the code of -0 where it underflows, if the type emits one."""
    zeros = dtype.emitted[dtype.significands[dtype.emitted] == 0]
    minus = zeros[np.signbit(dtype.significands[zeros])]
    if not minus.size or dtype.zero_sign == "positive":
        return first, codes
    plus = zeros[~np.signbit(dtype.significands[zeros])]
    becomes = (first >= sign) & np.isin(codes, plus)
    at = int(np.flatnonzero(first == sign)[0])
    if dtype.zero_sign == "negative" and becomes[at]:
        first, codes = np.insert(first, at + 1, sign + np.uint64(1)), np.insert(codes, at + 1, minus[0])
        becomes = np.insert(becomes, at + 1, False)
        becomes[at] = False
    return first, np.where(becomes, minus[0], codes)
