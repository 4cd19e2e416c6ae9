"""Blocks in which mistakes show: one kind a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.cases.of_schemes import arranged, block_size
from kbit_ref.conformance.cases.of_types import finite_levels
from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.exact.rules import RULES
from kbit_ref.strategies.numbers import beside, format_of, points_of
from kbit_ref.strategies.search import Draw, st
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.scheme import scheme as scheme_of

__all__ = ["KINDS", "PART", "answered", "block_of", "blocks", "chosen_kinds", "fixed"]

Array = NDArray[Any]

EXPONENTS = sorted({0, *range(-148, 128, 3), -149, -127, -126, -24, -14, 15, 125, 126, 127}, key=lambda e: (abs(e), e))
PART = 24  # at most so many numbers of a block are drawn; the others are 0


@lru_cache(maxsize=256)
def _alone(s: Scheme) -> Scheme:
    """Return the scheme that cuts an array into such blocks, whatever its shape."""
    return scheme_of(str(s).replace(f"-{s.cut}-", f"-b{block_size(s)}-", 1)) if s.cut.size is None else s


def answered(x: Array, s: Scheme) -> bool:
    """Return whether the scheme has an answer to it."""
    try:
        quantize(x, s, threads=1)
    except BadInput:
        return False
    return True


@lru_cache(maxsize=256)
def _reach(s: Scheme, kind: Any) -> tuple[int, ...]:
    """Return the exponents e for which the scheme accepts a block whose largest magnitude is about top * 2**e."""
    found = []
    for e in EXPONENTS:
        with np.errstate(over="ignore", under="ignore"):
            x = np.ldexp(np.array([s.dtype.top, -s.dtype.top / 2]), e).astype(kind)
        if x[0] and np.isfinite(x).all() and answered(_laid(s, x), s):
            found.append(e)
    return tuple(found) or (0,)


def _laid(s: Scheme, block: Array) -> Array:
    """Return a block as an array of which the scheme makes one block."""
    return arranged(s.cut, block.reshape(1, -1))


@st.composite
def _levels(draw: Draw, s: Scheme, kind: Any, room: int) -> Array:
    """levels times a scale"""
    return _scaled(draw, s, kind, room, [(x, 0) for x in sorted(finite_levels(s.dtype).tolist(), key=abs)])


@st.composite
def _ties(draw: Draw, s: Scheme, kind: Any, room: int) -> Array:
    """midpoints times a scale, and their neighbours"""
    return _scaled(draw, s, kind, room, points_of(s.dtype) or [(0.0, 0)])


_SHARES = st.one_of(  # of a power of two: scales of few bits, and of many
    st.just(1.0), st.sampled_from([0.75, 1.25, 0.625, 1 / 3, 0.1, 1 + 2.0**-23])
)


def _power(s: Scheme, kind: Any) -> st.SearchStrategy[float]:
    """Draw a power of two that the scheme can take times its largest level; often 1."""
    return st.one_of(st.just(1.0), st.sampled_from(_reach(s, kind)).map(lambda e: 2.0**e))


def _scaled(draw: Draw, s: Scheme, kind: Any, room: int, points: list[tuple[float, int]]) -> Array:
    """Draw points times a scale, behind what makes that scale: the largest level, of either sign, or both ends."""
    levels, rule = finite_levels(s.dtype), RULES[s.rule]
    ends = [[levels[-1]], [-levels[-1]], [levels[0]]]
    shift = 0.0
    if rule.offset_added or rule.zero_point:  # ranges that hold 0, and begin with a whole number of steps
        shift = float(levels[0]) + 2.0 ** (s.dtype.bits - 1)
        ends = [[levels[-1] - shift, levels[0] - shift]]
    with np.errstate(over="ignore", under="ignore"):
        scale = float(kind(draw(_SHARES) * draw(_power(s, kind))))
        first = [(float(x), 0) for x in draw(st.sampled_from(ends))]
        more = draw(st.lists(st.sampled_from(points), max_size=max(0, room - len(first))))
        numbers = [*first, *((x - shift, ulps) for x, ulps in more)]
        return np.array([beside(kind, x * scale, ulps) for x, ulps in numbers])


@st.composite
def _maximum(draw: Draw, s: Scheme, kind: Any, room: int) -> Array:
    """the largest magnitude at, below and above a power of two, or that times the largest level; the largest float"""
    power = draw(_power(s, kind))
    edge = draw(st.sampled_from([power, power * s.dtype.top, float(np.finfo(kind).max)]))
    largest = beside(kind, edge, draw(st.sampled_from((0, -1, 1))))
    shares = draw(st.lists(st.floats(-1, 1, width=16), max_size=room - 1))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.array([draw(st.sampled_from([1, -1])) * largest, *(kind(share) * largest for share in shares)])


@st.composite
def _subnormals(draw: Draw, s: Scheme, kind: Any, room: int) -> Array:
    """subnormal numbers of the format, alone or beside 1"""
    info = np.finfo(kind)
    steps = draw(st.lists(st.integers(-(2**info.nmant), 2**info.nmant), min_size=1, max_size=room))
    with np.errstate(under="ignore"):
        tiny = np.array(steps, kind) * info.smallest_subnormal
    return np.concatenate([[kind(1)], tiny[: room - 1]]) if draw(st.booleans()) and room > 1 else tiny


@st.composite
def _outlier(draw: Draw, s: Scheme, kind: Any, room: int) -> Array:
    """one number at least a thousand times as large as the others"""
    largest = s.dtype.top * draw(_power(s, kind)) * draw(st.sampled_from([1, -1]))
    shares = draw(st.lists(st.floats(-(2.0**-10), 2.0**-10, width=16), max_size=room - 1))
    with np.errstate(over="ignore", under="ignore"):
        one = kind(largest)
        return np.array([one, *(kind(share) * one for share in shares)])


_WIDTHS: dict[Any, Literal[16, 32, 64]] = {np.float16: 16, np.float32: 32, np.float64: 64}


@st.composite
def _numbers(draw: Draw, s: Scheme, kind: Any, room: int) -> Array:
    """any finite numbers"""
    any_number = st.floats(width=_WIDTHS[kind], allow_nan=False, allow_infinity=False)
    near = st.floats(-16, 16, width=16)
    return np.array(draw(st.lists(st.one_of(near, any_number), min_size=1, max_size=room)), kind)


@st.composite
def _special(draw: Draw, s: Scheme, kind: Any, room: int, values: tuple[float, ...]) -> Array:
    """a NaN, or an infinity, at a position of a block of levels"""
    numbers = draw(_levels(s, kind, room))
    numbers[draw(st.integers(0, len(numbers) - 1))] = draw(st.sampled_from(values))
    return np.asarray(numbers, kind)


@st.composite
def _zeros(draw: Draw, s: Scheme, kind: Any, room: int) -> Array:
    """zeros, some of them -0"""
    return np.array(draw(st.lists(st.sampled_from([0.0, -0.0]), max_size=room)), kind)


KINDS: dict[str, Callable[..., Any]] = {  # what `blocks` mixes, the simplest first
    "zeros": _zeros,
    "levels": _levels,
    "ties": _ties,
    "maximum": _maximum,
    "outlier": _outlier,
    "subnormals": _subnormals,
    "numbers": _numbers,
    "nan": lambda s, kind, room: _special(s, kind, room, (np.nan, -np.nan)),
    "infinity": lambda s, kind, room: _special(s, kind, room, (np.inf, -np.inf)),
}


def _kinds_of(s: Scheme) -> list[str]:
    """Return those that the scheme has an answer to; midpoints need two levels."""
    without = {"nan"} if s["nan"] == "error" or (s["nan"] == "code" and not s.nan_has_a_code) else set()
    without |= {"infinity"} if s["inf"] == "error" else set()
    return [kind for kind in KINDS if kind not in without]


def chosen_kinds(function: str, s: Scheme, kinds: Sequence[str] | None) -> list[str]:
    """Return the requested kinds, the simplest first."""
    answered = _kinds_of(s)
    for kind in kinds or ():
        if kind not in KINDS:
            raise UnknownName.among(function, "kind", kind, KINDS, f"kinds are {', '.join(KINDS)}")
        if kind not in answered:
            word = "nan=zero" if kind == "nan" else "inf=saturate"
            rule = f"{s} has no answer to it"
            raise BadInput(message(function, f"kind = {kind}", rule, f"leave it out, or use +{word}"))
    if kinds is not None and not kinds:
        raise BadInput(message(function, "kinds = []", "a block is of some kind", f"use {', '.join(answered)}"))
    return [kind for kind in KINDS if kind in (answered if kinds is None else kinds)]


@st.composite
def block_of(draw: Draw, s: Scheme, kind: Any, kinds: list[str], size: int, ragged: bool) -> Array:
    """A block of one of the kinds, of numbers of that format; the scheme need not have an answer to it."""
    short = size > 1 and ragged and draw(st.booleans())
    length = size - draw(st.integers(1, size - 1)) if short else size
    numbers = draw(KINDS[draw(st.sampled_from(kinds))](s, kind, min(length, PART)))[:length]
    block = np.zeros(length, kind)
    block[: len(numbers)] = numbers
    return np.roll(block, draw(st.integers(0, length - 1)))


def blocks(
    scheme: Scheme | str,
    *,
    kinds: Sequence[str] | None = None,
    size: int | None = None,
    ragged: bool = True,
    source: str = "float32",
) -> st.SearchStrategy[Array]:
    """Draw a block of a scheme, biased to where implementations differ: see `KINDS`.

    Examples shrink to a full block of zeros; one that must differ from it, to the largest level (times a scale of 1)
    and as few and as small other numbers as will do, at the front, the kind as early in `KINDS` as will do. All
    blocks are such that the scheme has an answer to them.

    Parameters
    ----------
    kinds
        Only these; by default all that the scheme has an answer to, `nan` and `infinity` only if it does.
    size
        Of a block; by default that of the cut, or 16.
    ragged
        Blocks shorter than `size` too.
    source
        The format of the numbers: float16, float32, float64.

    Returns
    -------
    strategy of arrays [n], n = size or less

    Raises
    ------
    UnknownName
        `blocks: kind = 'tie', there is no such name; did you mean ties? ...`
    BadInput
        `blocks: kind = nan, int4-b4-absmax-f32 has no answer to it; leave it out, or use +nan=zero`

    Examples
    --------
    >>> from kbit_ref.strategies import simplest
    >>> simplest(blocks("int4-b4-absmax-f32"), lambda x: True)
    array([0., 0., 0., 0.], dtype=float32)
    >>> simplest(blocks("int4-b4-absmax-f32", kinds=["ties"]), lambda x: x.size == 4 and 0.5 in x)
    array([7. , 0.5, 0. , 0. ], dtype=float32)
    """
    s = fixed("blocks", scheme)
    kind = format_of("blocks", source)
    chosen = chosen_kinds("blocks", s, kinds)
    if size is not None and (not isinstance(size, int) or not 1 <= size <= block_size(s)):
        rule = f"blocks of {s} have 1 to {block_size(s)} elements"
        raise BadInput(message("blocks", f"size = {size!r}", rule, "leave it out"))
    made = block_of(s, kind, chosen, size or block_size(s), ragged and s["tail"] != "error")
    return made.filter(lambda x: answered(_laid(s, x), _alone(s)))


def fixed(function: str, scheme: Any) -> Scheme:
    """Return the scheme, whose answer must depend on the array alone."""
    s = scheme_of(scheme)
    if s.dtype.rounding.startswith("stochastic"):
        rule = "its answer depends on random bits"
        raise BadInput(message(function, f"scheme = {s}", rule, "leave rounding out"))
    return s
