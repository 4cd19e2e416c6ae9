"""Numbers that lie on the edges of an encoder once they are scaled, and what a block holds to get a given scale.

Implementations that differ in one operation agree on nearly all numbers. They part where a quotient lies on an edge,
the place at which the code changes, and where the scale itself is rounded: so that is where `kb.probe` and the judge
of block formats look.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.engine.codec import encode
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.tensors.encoders import ENCODERS
from kbit_ref.tensors.rules import RULES
from kbit_ref.tensors.scheme import WIDE, Scheme

__all__ = [
    *("anchors", "by_telling", "by_word", "changes", "edges", "in_order", "parted", "shifts", "stored_scales"),
    *("telling_scales", "wide_scales"),
]

F32 = np.float32
Reals = NDArray[np.float64]
Scales = NDArray[np.float32]
LARGEST = 0x7F7FFFFF  # the word of the largest float32


def in_order(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """The place of each float32 among all: -0 is -1, +0 is 0, the smallest subnormal is 1.

    Examples
    --------
    >>> in_order(np.array([-0.0, 0.0, 1.0, np.inf], np.float32))
    array([        -1,          0, 1065353216, 2139095040])
    """
    words = x.view(np.int32).astype(np.int64)
    return np.where(words < 0, -(words & 0x7FFFFFFF) - 1, words)


def by_word(places: NDArray[np.int64]) -> NDArray[np.float32]:
    """The float32 in each place of that order."""
    words = np.where(places < 0, (-places - 1) | 0x80000000, places)
    return words.astype(np.uint32).view(np.float32)


def changes(
    function: Callable[[NDArray[np.float32]], NDArray[Any]], low: int = -LARGEST - 1, high: int = LARGEST
) -> NDArray[np.float32]:
    """Where a function of float32 that is monotone in them takes a new value: the first number of each, ascending.

    Intervals whose ends differ are halved until nothing lies between.

    Examples
    --------
    >>> changes(np.rint, 0, int(in_order(np.float32([2.0]))[0]))
    array([0.50000006, 1.5       ], dtype=float32)
    """
    begin, end = np.array([low]), np.array([high])
    found = []
    while begin.size:
        differ = function(by_word(begin)) != function(by_word(end))
        begin, end = begin[differ], end[differ]
        next_to = end - begin == 1
        found.append(end[next_to])
        begin, end = begin[~next_to], end[~next_to]
        middle = (begin + end) >> 1
        begin, end = np.concatenate([begin, middle]), np.concatenate([middle, end])
    return by_word(np.sort(np.concatenate(found)))


@lru_cache(maxsize=256)
def edges(s: Scheme) -> Reals:
    """Ascending: midpoints of levels, and where else the encoder changes its code, in units of the scale.

    Examples
    --------
    >>> from kbit_ref.tensors.scheme import scheme
    >>> edges(scheme("int2-b4-absmax-f32"))
    array([-1.5, -0.5,  0.5])
    """
    levels = _levels(s)
    found = (levels[1:] + levels[:-1]) / 2
    if s["encoder"] != "nearest":
        found = np.concatenate([found, changes(lambda y: _codes(s, y)).astype(np.float64)])
    return np.unique(found)


def _levels(s: Scheme) -> Reals:
    """The finite levels that are emitted, ascending."""
    levels = np.unique(s.dtype.levels[s.dtype.emitted])
    return np.asarray(levels[np.isfinite(levels)])


def shifts(s: Scheme) -> tuple[float, ...]:
    """What edges and levels are moved by: where the zero of a block may lie among its levels.

    For a rule with an offset or a zero point at the lower end, in the middle (by a power of two, so that scaling it
    is exact), and at the upper end; for all others 0.
    """
    facts, levels = FACTS[s.rule], _levels(s)
    if not (facts.offset_added or facts.zero_point):
        return (0.0,)
    return float(levels[0]), float(levels[0]) + 2.0 ** (s.dtype.bits - 1), float(levels[-1])


def anchors(s: Scheme, shift: float = 0.0) -> Reals:
    """The elements that give their block the scale 1, no other element being larger."""
    facts, levels = FACTS[s.rule], _levels(s)
    if facts.offset_added or facts.zero_point:
        return np.array([levels[0], levels[-1]]) - shift
    if s.rule == "signedmax" and -levels[0] > levels[-1]:
        return levels[:1]
    if facts.power_of_two:
        top = np.array([[s.dtype.top]], F32)
        alone = RULES[s.rule].scale(s, Arithmetic("float32"), top, None)[0, 0]
        return np.array([s.dtype.top if alone == 1 else 2.0 ** (np.frexp(s.dtype.top)[1] - 1)])
    reach: float = getattr(RULES[s.rule], "reach", lambda _: s.dtype.top)(s)
    return np.array([reach])


def stored_scales(s: Scheme) -> Scales:
    """Positive scales that can be stored, ascending; of the wide types those that stand for all others.

    Of 8-bit types all of them. Of float16 and bfloat16 every significand in [1, 2), since a power of two changes
    no significand, and every power of two from the smallest subnormal on. Of float32 none: all are as good.
    """
    if s.scale_dtype == "f32":
        return np.empty(0, F32)
    if s.scale_dtype not in WIDE:
        kind = datatype(s.scale_dtype)
        levels = np.unique(kind.levels[kind.emitted])
        return levels[np.isfinite(levels) & (levels > 0)].astype(F32)
    bits, low, high = {"f16": (10, -24, 15), "bf16": (7, -133, 127)}[s.scale_dtype]
    significands = 1 + np.arange(2**bits) / 2**bits
    return np.unique(np.concatenate([significands, np.exp2(np.arange(low, high + 1.0))])).astype(F32)


def parted(s: Scheme, scales: Scales) -> NDArray[np.bool_]:
    """[n_scales, n_edges]: where a quotient gets another code than the product with the reciprocal.

    Examples
    --------
    >>> from kbit_ref.tensors.scheme import scheme
    >>> nvfp4 = scheme("e2m1fn-b16-absmax-e4m3fn")
    >>> scales = stored_scales(nvfp4)
    >>> scales[parted(nvfp4, scales).any(axis=1)][-4:]  # of 8 significands only one parts them
    array([ 30.,  60., 120., 240.], dtype=float32)
    """
    with np.errstate(all="ignore"):
        x = (edges(s)[None, :] * scales[:, None].astype(np.float64)).astype(F32)
        both = x / scales[:, None], x * (F32(1) / scales)[:, None]
    finite = np.isfinite(both[0]) & np.isfinite(both[1])
    codes = [_codes(s, np.where(finite, y, F32(0))) for y in both]
    return np.asarray(codes[0] != codes[1])


def wide_scales(s: Scheme, rng: np.random.Generator) -> Scales:
    """Some hundreds of 24 bits in [0.5, 1), each the quotient of its largest element and the largest level."""
    scales = rng.uniform(0.5, 1, max(64, min(512, 2**15 // max(1, edges(s).size)))).astype(F32)
    reach = F32(np.ptp([0, *anchors(s, shifts(s)[0])]))
    return np.asarray(scales[scales * reach / reach == scales])


def by_telling(s: Scheme, scales: Scales) -> Scales:
    """Scales, those first that part the most edges."""
    return np.asarray(scales[np.argsort(-parted(s, scales).sum(axis=1), kind="stable")])


def telling_scales(s: Scheme, rng: np.random.Generator, n: int) -> Scales:
    """The n scales that part the most edges, of those that elements can be divided by."""
    narrow = stored_scales(s)
    return by_telling(s, narrow if narrow.size and s["scaleuse"] == "rounded" else wide_scales(s, rng))[:n]


def _codes(s: Scheme, y: NDArray[np.float32]) -> NDArray[Any]:
    """The codes of scaled numbers; of a stochastic type to nearest."""
    if s.dtype.rounding.startswith("stochastic"):
        return encode(s.dtype.with_choices(rounding="nearest"), y, threads=1)
    return ENCODERS[s["encoder"]](s, Arithmetic("float32"), y)
