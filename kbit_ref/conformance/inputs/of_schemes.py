"""Generate the arrays that every block format is tried on: each class of them has caught a real bug.

levels     every level times several scales, the largest one first
ties       every midpoint times several scales, and its neighbours in float32; so is what else changes a code
scales     the same at every scale that 8 bits can store (of 16 bits, at every significand that tells a quotient from
           a product with the reciprocal, and others), and largest numbers halfway between two stored scales
maxima     block maxima: subnormal, powers of two and their neighbours, multiples of the top, the largest float
zeros      blocks of zeros among others, and nothing but zeros; zeros, -0 and 1e-6 beside 1.0
ranges     blocks that are constant, or lie on one side of 0
normals    random numbers of many magnitudes
float64    ties at scales of 53 bits, where the numbers are float64
shapes     odd counts, short tails, one element, rows that are no multiple of the block; ties in them too
specials   NaN and infinities, where the profile has an answer

Where all blocks of an array share a number (one scale, a scale of the scales, a mean), an array is a few blocks of
one kind: else the largest of them would hide the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic, widened
from kbit_ref.conformance.definition import independent
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.tensors.aligned import (
    anchors,
    by_telling,
    by_word,
    edges,
    in_order,
    parted,
    shifts,
    stored_scales,
    telling_scales,
    wide_scales,
)
from kbit_ref.tensors.scales import effective, whole_numbers
from kbit_ref.tensors.scheme import WIDE, Scheme

__all__ = ["Case", "along_first", "cases", "narrowed", "of_length", "shaped"]

F32 = np.float32
LARGEST = np.finfo(F32).max
TOGETHER = 24  # blocks of an array whose blocks share a number
MOST_ARRAYS = 32  # of a class, where an array has one scale
MOST_NUMBERS = 16384  # of a class that asks about many scales
MANY = 1000  # of which one may lie beyond the 99.9th percentile
GLOBAL = (1.0, 0.961, 2.0**-7, 1 / 3)  # the largest number, over the largest that a global scale of 1 would allow
TINY = (2.0**-126, 1.4 * 2.0**-149)  # likewise: its reciprocal is nearly infinite, and it is subnormal itself
EXPONENTS = (
    *(-149, -148, -140, -130, -128, -127, -126, -125, -120, -119, -118, -117, -116, -112, -108, -104, -100, -60, -30),
    *(-24, -20, -15, -14, -10),
    *(-9, -7, -6, -4, -3, -2, -1, 0, 1, 2, 3, 5, 8, 12, 14, 15, 16, 20, 40, 80, 120, 125, 126, 127),
)


@dataclass(frozen=True)
class Case:
    """One array, what it is good for, and the format it is handed over in."""

    name: str
    source: str
    words: NDArray[Any]  # the numbers; for bfloat16 their bits, as uint16

    @property
    def numbers(self) -> NDArray[Any]:
        """Return the numbers, bfloat16 as float32."""
        return widened(self.words, self.source)


def narrowed(numbers: NDArray[Any], source: str) -> NDArray[Any]:
    """Convert numbers to a source format, to nearest even; beyond its range to its largest number."""
    if source == "bfloat16":
        bits = np.asarray(numbers, F32).view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        beyond = np.isfinite(numbers) & (rounded & 0x7FFF == 0x7F80)
        special = np.isnan(numbers)
        return np.where(special, (bits >> 16).astype(np.uint16) | 0x40, rounded - beyond.astype(np.uint16))
    if source == "float16":
        limit = float(np.finfo(np.float16).max)
        finite = np.isfinite(numbers)
        return np.where(finite, np.clip(numbers, -limit, limit), numbers).astype(np.float16)
    return numbers.astype(source)


def shaped(blocks: NDArray[Any], s: Scheme, multiple: int = 1) -> NDArray[Any]:
    """Reshape blocks [n, size] to two dimensions, so that the cut finds them again in this order.

    Filled up with copies of the first block to a multiple of a number of blocks.
    """
    fill = -len(blocks) % multiple
    blocks = np.concatenate([blocks, *[blocks[:1]] * fill]) if fill else blocks
    return np.ascontiguousarray(blocks.T) if along_first(s) else blocks


def along_first(s: Scheme) -> bool:
    """Do blocks run along the first of two axes?"""
    return s.cut.kind == "b" and s.cut.axis == 0


def cases(s: Scheme, sources: tuple[str, ...], shapes: str, multiple: int, size: int) -> list[Case]:
    """Return all arrays for a profile; `shapes`, `multiple` and `size` as in `BlockProfile`."""
    width = s.cut.size or size
    rng = np.random.default_rng(20260101)
    arrays = _arrays(s, width, multiple, _scales(s, rng), rng)
    telling = telling_scales(s, rng, 12)
    turn = {False: 0, True: 0}
    asked = [*_shapes(shapes, width, multiple), *[(1, MANY)] * (s.cut.kind == "channel")]
    filled = [
        ("shape " + "x".join(map(str, shape)), _filled(s, shape, telling, turn, rng))
        for shape in (shape[::-1] if along_first(s) else shape for shape in asked)
    ]
    found = []
    for source in sources:
        more = [("float64", part) for part in _wide_arrays(s, width, multiple, rng)] if source == "float64" else []
        found += [Case(name, source, shaped(narrowed(part, source), s, multiple)) for name, part in arrays + more]
        found += [Case(name, source, narrowed(numbers, source)) for name, numbers in filled]
    return found


def _arrays(
    s: Scheme, width: int, multiple: int, scales: NDArray[np.float32], rng: np.random.Generator
) -> list[tuple[str, NDArray[np.float32]]]:
    """Return arrays of whole blocks [n, width], each with the name of its class."""
    one_scale = s.cut.kind == "tensor"
    size = TOGETHER * width if one_scale else width  # of what has one scale
    groups = {
        "levels": _levels(s, size, scales),
        "ties": _ties(s, size, scales),
        "scales": np.concatenate([_at_stored_scales(s, size, rng), _between_stored_scales(s, size, rng)]),
        "maxima": _maxima(s, size, rng),
        "zeros": _zeros(size),
        "ranges": _ranges(s, size, rng),
        "normals": _normals(size, rng),
    }
    specials = _specials(s, size)
    if independent(s):
        return [(name, blocks) for name, blocks in ({"specials": specials} | groups).items() if len(blocks)]
    found = [("zeros", np.zeros((max(TOGETHER, multiple), width), F32))]
    if one_scale:
        for name, rows in ({"specials": specials} | groups).items():
            some = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_ARRAYS)).astype(int))
            found += [(name, row.reshape(-1, width)) for row in rows[some]]
        return found
    if s["global"] != "none":
        found += [("scales", blocks) for blocks in _with_global_scales(s, width, rng)]
    if s.double is not None:
        found.append(("scales", _scales_on_edges(s, s.double, width, rng)))
    plain = groups["normals"][:TOGETHER]
    found += [("specials", np.concatenate([plain, row[None]])) for row in specials]
    return found + [(name, part) for name, blocks in groups.items() for part in _alike(blocks, multiple)]


def _alike(blocks: NDArray[Any], multiple: int) -> list[NDArray[Any]]:
    """Return arrays for blocks that are not independent: a few of similar magnitudes, and one zero block."""
    largest = np.abs(blocks).max(axis=1)
    order = np.argsort(largest, kind="stable")
    order = order[(largest[order] > 0) & np.isfinite(largest[order])]
    if multiple > 1:  # many blocks an array: what is very large or small would hide the rest
        order = order[(largest[order] > 2.0**-20) & (largest[order] < 2.0**20)]
    size = max(TOGETHER, multiple)
    parts = [blocks[np.sort(order[i : i + size])] for i in range(0, len(order), size)]
    return [np.concatenate([part, blocks[:1] * 0])[-size:] for part in parts if len(part)]


def _finite_levels(s: Scheme) -> NDArray[np.float64]:
    levels = np.unique(s.dtype.levels[s.dtype.emitted])
    return np.asarray(levels[np.isfinite(levels)])


def _scales(s: Scheme, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return scales of few bits, so that level * scale is exact in most types; of 8 bits; and of all 24.

    The last ones are what tells a product by the reciprocal from a quotient: of some hundreds those
    that do so at the most edges, and a few others.
    """
    few = np.array([1, 0.5, 2, 1.5, 0.75, 1.25, 1 / 64, 3 / 128, 48, 1000, 2.0**-20, 2.0**-40, 2.0**40], F32)
    eight = (rng.integers(128, 256, 6) / 256).astype(F32)
    wide = by_telling(s, wide_scales(s, rng))
    return np.concatenate([few, few[:6] * F32(-1), eight, wide[:12], wide[-4:]])


def _in_blocks(values: NDArray[Any], first: NDArray[Any], width: int) -> NDArray[Any]:
    """Return numbers in blocks that each begin with `first`, the numbers that decide the scale.

    What is larger than these is left out; the last block is filled with zeros.
    """
    low, high = min(first.min(), 0), max(first.max(), 0)
    bound = max(-low, high)
    inside = (values >= low) & (values <= high) if len(first) > 1 else np.abs(values) <= bound
    values = values[inside]
    room = max(1, width - len(first))
    count = -(-len(values) // room)
    body = np.zeros(count * room, values.dtype)
    body[: len(values)] = values
    heads = np.tile(first[: width - 1] if width > 1 else first[:0], (count, 1))
    return np.concatenate([heads, body.reshape(count, room)], axis=1)[:, :width]


def _levels(s: Scheme, width: int, scales: NDArray[np.float32]) -> NDArray[np.float32]:
    found = []
    levels = _finite_levels(s)
    with np.errstate(over="ignore", under="ignore"):
        for i, scale in enumerate(scales):
            shift = shifts(s)[i % len(shifts(s))]
            numbers = ((levels - shift) * float(scale)).astype(F32)
            found.append(_in_blocks(numbers, (anchors(s, shift) * float(scale)).astype(F32), width))
    return np.concatenate(found)


def _ties(s: Scheme, width: int, scales: NDArray[np.float32]) -> NDArray[np.float32]:
    found = []
    with np.errstate(over="ignore", under="ignore"):
        for i, scale in enumerate(scales):
            shift = shifts(s)[i % len(shifts(s))]
            ties = ((edges(s) - shift) * float(scale)).astype(F32)
            near = [ties, np.nextafter(ties, F32(-np.inf)), np.nextafter(ties, F32(np.inf))]
            head = (anchors(s, shift) * float(scale)).astype(F32)
            found.append(_in_blocks(np.stack(near, 1).reshape(-1), head, width))
    return np.concatenate(found)


def _at_stored_scales(
    s: Scheme, width: int, rng: np.random.Generator, used: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return a block of ties for each scale that can be stored; of very many, first those that tell variants apart.

    `used` are the scales that elements are divided by, where they are others than the stored ones.
    """
    scales = stored_scales(s) if used is None else used
    most = max(16, MOST_NUMBERS // width)
    separates = parted(s, scales)
    if len(scales) > max(most, 256):
        order = np.argsort(-separates.sum(axis=1), kind="stable")
        telling, others = order[: most // 2], order[most // 2 :]
        chosen = np.sort(np.concatenate([telling, others[:: -(-len(others) // (most // 2))]]))
        scales, separates = scales[chosen], separates[chosen]
    rows = np.zeros((len(scales), width), F32)
    with np.errstate(over="ignore", under="ignore"):
        for i, scale in enumerate(scales):
            shift = shifts(s)[i % len(shifts(s))]
            rows[i] = _row_of_ties(s, float(scale), shift, separates[i], width, rng)
    return rows[np.isfinite(rows).all(axis=1)]


def _row_of_ties(
    s: Scheme,
    scale: float,
    shift: float,
    first: NDArray[np.bool_],
    width: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return a block with that scale, filled with ties, those first that are marked, then with their neighbours."""
    head = (anchors(s, shift) * scale).astype(F32)[:width]
    order = np.lexsort([rng.random(first.size), ~first])
    ties = ((edges(s)[order] - shift) * scale).astype(F32)
    near = [np.nextafter(ties, F32(way)) for way in (-np.inf, np.inf)]
    values = np.concatenate([ties, rng.permutation(np.concatenate(near)), ties])
    bound = np.abs(head).max()
    low, high = (min(head.min(), 0), max(head.max(), 0)) if len(head) > 1 else (-bound, bound)
    inside = (values >= low) & (values <= high)
    values = np.append(values[inside], F32(0))
    return np.concatenate([head, np.resize(values, width - len(head))])


def _wide(s: Scheme, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return ties at scales of 53 bits and at stored ones, and their neighbours: numbers that are no float32."""
    stored = stored_scales(s)
    usual = stored[(stored >= 2.0**-10) & (stored <= 2.0**10)]
    scales = np.concatenate([rng.uniform(0.5, 1, 8), rng.choice(usual if usual.size else 2.0 ** np.arange(-8, 8), 8)])
    found = []
    for i, scale in enumerate(scales):
        shift = shifts(s)[i % len(shifts(s))]
        ties = (edges(s) - shift) * scale
        near = np.concatenate([ties, np.nextafter(ties, -np.inf), np.nextafter(ties, np.inf)])
        found.append(_in_blocks(rng.permutation(near)[: 8 * width], anchors(s, shift) * scale, width))
    return np.concatenate(found)


def _wide_arrays(s: Scheme, width: int, multiple: int, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Return arrays of these; where there is a global scale, it is 1."""
    one_scale = s.cut.kind == "tensor"
    blocks = _wide(s, TOGETHER * width if one_scale else width, rng)
    if one_scale:
        return [row.reshape(-1, width) for row in blocks[:MOST_ARRAYS]]
    if s["global"] == "none":
        return [blocks] if independent(s) else _alike(blocks, multiple)
    head = np.full((1, width), float(s.dtype.top) * float(datatype(s.scale_dtype).top))
    return [np.concatenate([blocks[i : i + TOGETHER], head]) for i in range(0, len(blocks), TOGETHER)]


def _between_stored_scales(
    s: Scheme, width: int, rng: np.random.Generator, factor: float = 1.0
) -> NDArray[np.float32]:
    """Return blocks whose scale, before it is stored, lies halfway between two that can be, and next to that.

    `factor` is what the stored scales are multiplied by to be those that elements are divided by.
    """
    scales = np.concatenate([[0], stored_scales(s).astype(np.float64)])
    if FACTS[s.rule].power_of_two or len(scales) == 1:
        return np.empty((0, width), F32)
    if s.scale_dtype in WIDE:  # what lies between two stored scales that are neighbours
        one = scales[(scales >= 1) & (scales <= 2)]
        scales = np.concatenate([[0, scales[1], 2 * scales[1]], one[:: max(1, len(one) // 96)]])
        step = one[1] - one[0]
        middles = np.concatenate([scales[:2] + scales[1] / 2, scales[3:-1] + step / 2])
    else:
        middles = (scales[1:] + scales[:-1]) / 2
    shift = shifts(s)[0]
    head = anchors(s, shift)
    rows = rng.uniform(-1, 1, (5 * len(middles), width))
    largest = head[np.argmax(np.abs(head))]
    with np.errstate(over="ignore", under="ignore"):
        exact = (middles * factor * largest).astype(F32)
        near = np.stack([by_word(in_order(exact) + i) for i in (-2, -1, 0, 1, 2)], 1).reshape(-1)
        if len(head) > 1:
            rows = np.abs(rows)
        rows = (rows * near[:, None]).astype(F32)
        rows[:, -1], rows[:, 0] = (0 if width > 1 else near), near
    return np.asarray(rows[np.isfinite(rows).all(axis=1) & (near != 0)])


def _with_global_scales(s: Scheme, width: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Return arrays with ties at every stored scale, and largest numbers between two, for each global scale."""
    a = Arithmetic("float32")
    scale_type = datatype(s.scale_dtype)
    found = []
    for share in GLOBAL:
        largest = F32(share * float(a.multiply(s.dtype.top, scale_type.top)))
        head = np.full((1, width), largest, F32)
        whole = whole_numbers(s, a, lambda rows: rows, head)
        stored = stored_scales(s)
        used = np.asarray(effective(s, a, whole.global_scale, stored), F32)
        factor = float(used[0]) / float(stored[0])
        some = [_at_stored_scales(s, width, rng, used), _between_stored_scales(s, width, rng, factor)]
        head[0, 1:] *= rng.uniform(-1, 1, width - 1).astype(F32)
        inside = [part[np.abs(part).max(axis=1) <= largest] for part in some]
        found.append(np.concatenate([*inside, head]))
    for share in TINY:
        rows = rng.uniform(-1, 1, (TOGETHER, width)) * np.exp2(-np.arange(TOGETHER))[:, None]
        rows[0, 0] = 1
        found.append((rows * share * float(a.multiply(s.dtype.top, scale_type.top))).astype(F32))
    return found


def _maxima(s: Scheme, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return blocks of fractions of a largest number, for each of these."""
    top = float(s.dtype.top)
    exact = [2.0**e for e in EXPONENTS] + [top * 2.0**e for e in EXPONENTS if abs(e) < 118]
    with np.errstate(over="ignore", under="ignore"):
        some = np.floor(top * np.array([1, 1.25, 1.4, 1.5]))
        counts = np.concatenate([np.arange(1, 13), some, some + 1])
        exact += list(counts * 2.0**-149)  # subnormal scales
        largest = np.array(exact, F32)
        largest = largest[np.isfinite(largest) & (largest > 0)]
        beside = [largest, np.nextafter(largest, F32(0)), np.nextafter(largest, F32(np.inf))]
        largest = np.unique(np.concatenate([*beside, np.array([LARGEST, np.nextafter(LARGEST, F32(0))])]))
        largest = largest[np.isfinite(largest) & (largest > 0)]
        shares = rng.uniform(-1, 1, (len(largest), width)).astype(F32)
        shares[:, 1::4] = np.rint(shares[:, 1::4] * 16) / 16
        blocks = shares * largest[:, None]
        sign = np.where(np.arange(len(largest)) % 2, F32(-1), F32(1))
        blocks[:, 0] = largest * sign
        if width > 3:
            blocks[:, 2] = 0
            blocks[:, 3] = np.minimum(np.nextafter(np.finfo(F32).tiny, F32(0)), largest) * sign  # subnormal
    least = np.copysign(np.nextafter(F32(0), F32(1)), blocks[:, :1])  # no 0: it has no product with an infinite factor
    without = np.where((blocks == 0) & (largest < np.finfo(F32).tiny)[:, None], least, blocks)
    return np.concatenate([blocks, -without])


def _zeros(width: int) -> NDArray[np.float32]:
    """Return zero blocks among others, and tiny numbers beside 1.0."""
    rows = []
    for others in ([0.0], [1e-6, -1e-6, 0.0, -0.0], [1e-20, -1e-20, -0.0], [1e-3, -1e-3], [2.0**-149, -(2.0**-149)]):
        for one in (1.0, -1.0, 3.0, 0.0):
            row = np.resize(np.array(others, F32), width)
            row[0] = one
            rows.append(row)
    rows += [np.resize(np.array([0, 2.0**-149], F32), width)]  # of one sign, and no scale of a multiple can be stored
    rows += [np.full(width, -0.0, F32), np.zeros(width, F32), np.linspace(-1, 1, width, dtype=F32)]
    return np.stack(rows)


def _ranges(s: Scheme, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return constant blocks, blocks on one side of 0, narrow ranges far from it, both signs of the largest."""
    constant = (1, -1, 0.1, -0.1, 5, 1e-5, 1e5, -1e10, *[1e10] * (s["flat"] == "widen"))  # which 1 more or less is too
    rows = [np.full(width, value, F32) for value in constant]
    narrow = ((100, 100.001), (1e-5, 2e-5), (0.1, 0.10005))
    huge = ((-(2.0**126), 2.0**126), (-(2.0**127), 2.0**127))  # the second span is no float32
    for low, high in ((5, 6), (-6, -5), (0, 1), (-1, 0), (-3, 1), (-1, 3), *narrow, *huge):
        row = rng.uniform(low, high, width).astype(F32)
        row[:2] = np.array([low, high], F32)[: row[:2].size]
        rows.append(row)
    for first in (1.3e3, 954815.4):  # three neighbours, far from 0
        rows.append(by_word(in_order(np.full(width, first, F32)) + rng.integers(0, 3, width)))
    for first in (1, -1):  # a tie of magnitudes, either sign first
        row = np.linspace(-0.9, 0.9, width, dtype=F32)
        row[:2] = np.array([first, -first], F32)[: row[:2].size]
        rows.append(row)
    return np.stack(rows)


def _normals(width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    count = max(8, 16384 // width)
    blocks = rng.standard_normal((count, width))
    magnitude = np.exp2(rng.uniform(-12, 12, (count, 1)))
    magnitude[: count // 2] = 0.02
    skewed = blocks + rng.uniform(-2, 2, (count, 1))
    return np.concatenate([blocks * magnitude, skewed[: count // 4]]).astype(F32)


def _scales_on_edges(s: Scheme, inner: Scheme, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return blocks whose scales lie next to where those get another code that quantize the scales again.

    Beside the midpoints; of another encoder between a midpoint and the edge of the encoder that is next to it.
    """
    at = edges(inner) / float(np.abs(anchors(inner)[0]))
    if inner["encoder"] == "nearest":
        at = np.concatenate([at * (1 - 2.0**-18), at * (1 + 2.0**-18)])
    else:
        gaps = np.diff(at)
        at = (at[:-1] + gaps / 2)[gaps < 2.0**-12]
    at = rng.permutation(at[np.abs(at) < 1])
    at = np.append(at, -at.sum())  # their mean is 0
    size = (inner.cut.size or 256) - 2
    at = np.concatenate([np.concatenate([[1, -1], at[i : i + size]]) for i in range(0, len(at), size)])
    rows = rng.uniform(-1, 1, (len(at), width)) * (1 + at / 2)[:, None]
    rows[:, :1] = (1 + at / 2)[:, None]
    return np.asarray(rows * anchors(s)[0], F32)


def _specials(s: Scheme, width: int) -> NDArray[np.float32]:
    words: tuple[int, ...] = (0x7FC00000, 0xFFC00000, 0x7F800001) if s["nan"] != "error" else ()  # the last one signals
    words += (0x7F800000, 0xFF800000) if s["inf"] != "error" else ()
    rows = [np.empty((0, width), F32)]
    for special in np.array(words, np.uint32).view(F32):
        for at in dict.fromkeys((0, width // 2, width - 1)):
            row = np.linspace(-1, 1, width, dtype=F32)
            row[at] = special
            rows.append(row[None])
    return np.concatenate(rows)


def of_length(s: Scheme, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return arrays of one row each, full blocks and a short last one of every kind, [6, n]."""
    shape = (n,) if s.cut.axis is None else (n, 1) if along_first(s) else (1, n)
    telling, turn = telling_scales(s, rng, 12), {False: 0, True: 0}
    return np.stack([_filled(s, shape, telling, turn, rng).reshape(-1) for _ in KINDS[True]])


KINDS = {
    False: ("ties", "normal", "small", "ties", "large", "away"),
    True: ("small", "ties", "away", "ties", "large", "ties"),
}
POWER = {"normal": 0, "small": -12, "large": 12, "away": 0}


def _filled(
    s: Scheme, shape: tuple[int, ...], scales: NDArray[np.float32], turn: dict[bool, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return an array of any shape, in turn blocks of ties, normal numbers, small and large ones, ones far from 0.

    `turn` counts full blocks, and short ones.
    """
    rows = s.cut.rows(np.zeros(shape, F32))
    width = s.cut.size or max(rows.shape[1], 1)
    separates = parted(s, scales)
    alone = independent(s)
    filled = np.empty(rows.shape, F32)
    for row in filled:
        for begin in range(0, len(row), width):
            part = row[begin : begin + width]
            short = part.size < width
            kind = KINDS[short][turn[short] % 6]
            turn[short] += 1
            if kind == "ties":
                i = int(rng.integers(len(scales)))
                shift = shifts(s)[i % len(shifts(s))]
                part[:] = _row_of_ties(s, float(scales[i]), shift, separates[i], part.size, rng)
            else:
                power = POWER[kind] if alone else POWER[kind] / 4
                part[:] = rng.standard_normal(part.size) * 2.0**power + 5 * (kind == "away")
    return np.ascontiguousarray(s.cut.join(filled, shape))


def _shapes(shapes: str, width: int, multiple: int) -> list[tuple[int, ...]]:
    """Return shapes besides [n, width]; which of them is for `BlockProfile.shapes` to say."""
    flat: list[tuple[int, ...]] = [(width * multiple,), (2, width * multiple)]
    flat += [(4 * multiple, width // 2), (2 * multiple, 3 * width // 2)]
    if shapes == "rows":
        return [(1, width), (3, width)] if multiple == 1 else []
    if shapes == "flat":
        return [*flat, (2, 2, width * multiple)] if multiple == 1 else flat
    ragged: list[tuple[int, ...]] = [(1, 1), (1, 3), (2, width - 1), (2, width + 1), (3, 5)]
    ragged += [(5, 3 * width + 5), (7, 2 * width)]
    ragged += [(3, 3), (4, 4 * width), (16, width)]  # as many blocks along either axis; tiles of scales, and of numbers
    if shapes == "ragged":
        return ragged
    return [*flat, *ragged, (1,), (2,), (3,), (width - 1,), (width + 1,), (5 * width + 17,), (2, 3, width - 2)]
