"""What `exact.encode` says of many inputs, at a price that tests can pay.

Kinds of input are float formats; their bits are *words*: unsigned integers in which, for one sign,
a larger word is a larger magnitude. For 16-bit formats all 65,536 words are affordable, because
the definition is asked only where the code changes:

    The definition is monotone in x on each side of zero: a larger magnitude never gets a code
    nearer to zero (infinity, and NaN by overflow, being the last). So all words between two words
    with the same code have that code too, and halving the intervals whose ends differ finds every
    change. `test_engine.py` checks the argument itself: for some types all words are asked.
"""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from kbit_ref import DataType, exact
from kbit_ref.errors import BadInput

WORD: dict[str, Any] = {"float16": np.uint16, "bfloat16": np.uint16, "float32": np.uint32, "float64": np.uint64}
KINDS = (*WORD, "longdouble")
INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF0000000000000}
SIGN = {"float16": 0x8000, "bfloat16": 0x8000, "float32": 0x80000000, "float64": 0x8000000000000000}


def number(word: int, kind: str) -> float:
    """The number with these bits, as a Python float (which holds it exactly)."""
    if kind == "bfloat16":
        word, kind = word << 16, "float32"
    return float(np.array(word, WORD[kind]).view(kind))


def monotone(code: Callable[[int], int], first: int, last: int) -> list[tuple[int, int]]:
    """The runs (first word, code) of a monotone function on first ... last, by halving."""
    ends = {first: code(first), last: code(last)}
    runs = [(first, ends[first])]
    stack = [(first, last)]
    while stack:
        low, high = stack.pop()
        if ends[low] == ends[high]:
            continue
        if high == low + 1:
            runs.append((high, ends[high]))
            continue
        middle = (low + high) // 2
        ends[middle] = code(middle)
        stack += [(middle, high), (low, middle)]
    return runs


def all_words(dtype: DataType, kind: str) -> np.ndarray[Any, Any]:
    """[65536]: the code of every word of a 16-bit format; -1 where the definition refuses."""
    d = dtype.definition

    def code(word: int) -> int:
        try:
            return int(exact.encode(d, number(word, kind)))
        except BadInput:
            return -1

    codes = np.full(65536, code(INFINITY[kind] + 1), np.int64)  # NaN, of either sign
    for sign in (0, SIGN[kind]):
        first, last = sign, sign + INFINITY[kind]
        runs = [(first, code(first)), *monotone(code, first + 1, last - 1), (last, code(last))]
        for (begin, value), (end, _) in zip(runs, [*runs[1:], (last + 1, 0)], strict=True):
            codes[begin:end] = value
    return codes


def neighbours(numbers: Iterable[float | Fraction], kind: str, ulps: int) -> np.ndarray[Any, Any]:
    """The numbers nearest to these in a format, and `ulps` more on either side; each with both signs.

    bfloat16 comes as uint16.
    """
    wanted = sorted({abs(Fraction(x)) for x in numbers})
    if kind == "longdouble":
        at = np.array([_longdouble(x) for x in wanted])
        both = {0: at}
        with np.errstate(under="ignore", over="ignore"):
            for n in range(ulps):
                both[n + 1] = np.nextafter(both[n], np.longdouble(math.inf))
                both[-n - 1] = np.nextafter(both[-n], np.longdouble(-math.inf))
        magnitudes = np.unique(np.concatenate(list(both.values())))
        return np.concatenate([magnitudes, -magnitudes])
    near = np.array([_float64(x) for x in wanted])
    with np.errstate(over="ignore", under="ignore"):
        if kind == "bfloat16":
            words = (near.astype(np.float32).view(np.uint32) >> 16).astype(np.int64)
        else:
            words = near.astype(kind).view(WORD[kind]).astype(object if kind == "float64" else np.int64)
    spread = np.arange(-ulps, ulps + 1)
    around = np.unique(np.add.outer(words, spread).ravel())
    magnitudes = around[(around >= 0) & (around <= INFINITY[kind])].astype(WORD[kind])
    both_signs = np.concatenate([magnitudes, magnitudes | WORD[kind](SIGN[kind])])
    return both_signs if kind == "bfloat16" else both_signs.view(kind)


def _float64(x: Fraction) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.inf


def _longdouble(x: Fraction) -> Any:
    high = _float64(x)
    if math.isinf(high):
        return np.longdouble(high)
    rest = x - Fraction(high)
    return np.longdouble(high) + np.longdouble(float(rest))


def landmarks(dtype: DataType, most: int) -> list[Fraction]:
    """Where a code may change under any choice: levels, midpoints, and what lies beyond the last.

    Of more than `most` levels an even selection, each with the next level and their midpoint.
    """
    emitted = dtype.levels[dtype.emitted]
    ladder = [Fraction(v) for v in np.unique(emitted[np.isfinite(emitted)]).tolist()]
    every = -(-len(ladder) // most)
    points = ladder[::every]
    for below, above in list(pairwise(ladder))[::every]:
        points += [above, (below + above) / 2]
    if every == 1:  # what decode understands and encode never gives
        points += [Fraction(v) for v in dtype.levels.tolist() if math.isfinite(v)]
    if ladder[0] >= 0 and len(ladder) > 1:
        points += [ladder[1] / 2]  # a type without negative levels may look at its mirror image
    last = max(abs(ladder[0]), abs(ladder[-1]))
    points += [last]
    if dtype.beyond is not None:
        points += [Fraction(dtype.beyond), (last + Fraction(dtype.beyond)) / 2]
    return points


EDGES = {  # the smallest and largest of each format, and what NumPy may lose on the way
    "float16": [2.0**-24, 2.0**-14, 65504.0],
    "bfloat16": [2.0**-133, 2.0**-126, 3.3895313892515355e38],
    "float32": [2.0**-149, 2.0**-126, 3.4028234663852886e38],
    "float64": [5e-324, 2.0**-1022, 2.0**-149, 3.4028234663852886e38, 3.4028235677973366e38, 1.7976931348623157e308],
    "longdouble": [5e-324, 2.0**-1022, 2.0**-149, 3.4028234663852886e38, 1.7976931348623157e308],
}


def probes(dtype: DataType, kind: str, ulps: int = 2, most: int = 256) -> np.ndarray[Any, Any]:
    """The landmarks of a type in a format, with neighbours, edges, infinities, and NaNs if it has one."""
    x = neighbours([*landmarks(dtype, most), 0, *EDGES[kind]], kind, ulps)
    if kind == "longdouble":
        specials = np.array([math.inf, -math.inf, math.nan, -math.nan], kind)
    else:  # infinities; NaNs: the default one, one of all ones, one that signals
        first, sign = INFINITY[kind], SIGN[kind]
        words = [
            first,
            first | sign,
            first + (first & -first) // 2,
            sign - 1,
            2 * sign - 1,
            first + 1,
            first + 1 | sign,
        ]
        specials = np.array(words, WORD[kind])
        specials = specials if kind == "bfloat16" else specials.view(kind)
    return np.concatenate([x, specials if dtype.definition.nan is not None else specials[:2]])


def expected(dtype: DataType, x: np.ndarray[Any, Any], *, bfloat16: bool = False) -> np.ndarray[Any, Any]:
    """The definition's code of each number."""
    if bfloat16:
        x = (x.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # a NaN that signals
        numbers = list(x) if x.dtype == np.longdouble else x.tolist()
    return np.array(exact.encode(dtype.definition, numbers), np.int64)
