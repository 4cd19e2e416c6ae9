"""The arrays that every block format is asked about: each class of them has caught a real bug.

levels     every level times several scales, the largest one first
ties       every midpoint times several scales, and its neighbours in float32
maxima     block maxima: subnormal, powers of two and their neighbours, multiples of the top, the largest float
zeros      blocks of zeros among others; zeros, -0 and 1e-6 beside 1.0
ranges     blocks that are constant, or lie on one side of 0
normals    random numbers of many magnitudes
shapes     odd counts, short tails, one element, rows that are no multiple of the block
specials   NaN and infinities, where the profile has an answer
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import widened
from kbit_ref.conformance.definition import independent
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Case", "along_first", "cases", "narrowed", "shaped"]

F32 = np.float32
LARGEST = np.finfo(F32).max
EXPONENTS = (
    *(-149, -148, -140, -130, -128, -127, -126, -125, -120, -119, -118, -117, -100, -60, -30, -24, -20, -15, -14, -10),
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
        """The numbers, bfloat16 as float32."""
        return widened(self.words, self.source)


def narrowed(numbers: NDArray[Any], source: str) -> NDArray[Any]:
    """Numbers in a source format, rounded to nearest even where they must be; beyond its range the largest number."""
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
    """Blocks [n, size] as an array of two dimensions, so that the cut finds them again in this order.

    Filled up with copies of the first block to a multiple of a number of blocks.
    """
    fill = -len(blocks) % multiple
    blocks = np.concatenate([blocks, *[blocks[:1]] * fill]) if fill else blocks
    return np.ascontiguousarray(blocks.T) if along_first(s) else blocks


def along_first(s: Scheme) -> bool:
    """Do blocks run along the first of two axes?"""
    return s.cut.kind == "b" and s.cut.axis == 0


def cases(s: Scheme, sources: tuple[str, ...], shapes: str, multiple: int, size: int) -> list[Case]:
    """All arrays for a profile; `shapes`, `multiple` and `size` as in `BlockProfile`."""
    width = s.cut.size or size
    rng = np.random.default_rng(20260101)
    blocks = {
        "levels": _levels(s, width, rng),
        "ties": _ties(s, width, rng),
        "maxima": _maxima(s, width, rng),
        "zeros": _zeros(width),
        "ranges": _ranges(width, rng),
        "normals": _normals(width, rng),
    }
    if s["nan"] != "error" or s["inf"] != "error":
        blocks["specials"] = _specials(s, width)
    found = []
    for source in sources:
        for name, group in blocks.items():
            for part in [group] if independent(s) else _alike(group, multiple):
                found.append(Case(name, source, shaped(narrowed(part, source), s, multiple)))
        for shape in _shapes(shapes, width, multiple):
            shape = shape[::-1] if along_first(s) else shape
            numbers = rng.standard_normal(shape).astype(F32)
            name = "shape " + "x".join(map(str, shape))
            found.append(Case(name, source, narrowed(numbers, source)))
    return found


def _alike(blocks: NDArray[np.float32], multiple: int) -> list[NDArray[np.float32]]:
    """Where blocks are not independent: a few in an array, of magnitudes that are alike, and one zero block."""
    largest = np.abs(blocks).max(axis=1)
    order = np.argsort(largest, kind="stable")
    order = order[(largest[order] > 0) & np.isfinite(largest[order])]
    if multiple > 1:  # many blocks an array: what is very large or small would hide the rest
        order = order[(largest[order] > 2.0**-20) & (largest[order] < 2.0**20)]
    size = max(24, multiple)
    parts = [blocks[np.sort(order[i : i + size])] for i in range(0, len(order), size)]
    return [np.concatenate([part, blocks[:1] * 0])[-size:] for part in parts if len(part)]


def _finite_levels(s: Scheme) -> NDArray[np.float64]:
    levels = np.unique(s.dtype.levels[s.dtype.emitted])
    return np.asarray(levels[np.isfinite(levels)])


def _scales(rng: np.random.Generator) -> NDArray[np.float32]:
    """Scales of few bits, so that level * scale is exact in most types; of 8 bits; and of all 24.

    The last ones are what tells a product by the reciprocal from a quotient: they differ in a
    twentieth of the ties, and almost nowhere else.
    """
    few = np.array([1, 0.5, 2, 1.5, 0.75, 1.25, 1 / 64, 3 / 128, 48, 1000, 2.0**-20, 2.0**-40, 2.0**40], F32)
    eight = (rng.integers(128, 256, 6) / 256).astype(F32)
    return np.concatenate([few, few[:6] * F32(-1), eight, rng.uniform(0.5, 1, 16).astype(F32)])


def _in_blocks(values: NDArray[np.float32], first: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Numbers in blocks that each begin with `first`, the numbers that decide the scale.

    What is larger than these is left out; the last block is filled with zeros.
    """
    low, high = min(first.min(), 0), max(first.max(), 0)
    bound = max(-low, high)
    inside = (values >= low) & (values <= high) if len(first) > 1 else np.abs(values) <= bound
    values = values[inside]
    room = max(1, width - len(first))
    count = -(-len(values) // room)
    body = np.zeros(count * room, F32)
    body[: len(values)] = values
    heads = np.tile(first[: width - 1] if width > 1 else first[:0], (count, 1))
    return np.concatenate([heads, body.reshape(count, room)], axis=1)[:, :width].astype(F32)


def _anchors(s: Scheme, levels: NDArray[np.float64], scale: np.float32) -> NDArray[np.float32]:
    """What a block must hold for the rule to find this scale."""
    codes = 2**s.dtype.bits
    reach = {"absmaxhalf": (codes - 1) / 2, "absmaxfull": codes / 2, "signedmax": levels[np.argmax(np.abs(levels))]}
    with np.errstate(over="ignore", under="ignore"):
        if RULES[s.rule].offset_added or RULES[s.rule].zero_point:
            return np.array([0, s.dtype.top * float(scale)], F32)
        return np.array([reach.get(s.rule, s.dtype.top) * float(scale)], F32)


def _levels(s: Scheme, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    levels = _finite_levels(s)
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate(
            [
                _in_blocks((levels * float(scale)).astype(F32), _anchors(s, levels, scale), width)
                for scale in _scales(rng)
            ]
        )


def _ties(s: Scheme, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    levels = _finite_levels(s)
    midpoints = (levels[1:] + levels[:-1]) / 2
    found = []
    with np.errstate(over="ignore", under="ignore"):
        for scale in _scales(rng):
            ties = (midpoints * float(scale)).astype(F32)
            near = [ties, np.nextafter(ties, F32(-np.inf)), np.nextafter(ties, F32(np.inf))]
            found.append(_in_blocks(np.stack(near, 1).reshape(-1), _anchors(s, levels, scale), width))
    return np.concatenate(found)


def _maxima(s: Scheme, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """For every largest number, blocks of fractions of it."""
    top = float(s.dtype.top)
    exact = [2.0**e for e in EXPONENTS] + [top * 2.0**e for e in EXPONENTS if abs(e) < 118]
    with np.errstate(over="ignore", under="ignore"):
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
        if width > 2:
            blocks[:, 2] = 0
    return np.concatenate([blocks, -blocks])


def _zeros(width: int) -> NDArray[np.float32]:
    """Zero blocks among others, and next to nothing beside 1.0."""
    rows = []
    for others in ([0.0], [1e-6, -1e-6, 0.0, -0.0], [1e-20, -1e-20, -0.0], [1e-3, -1e-3], [2.0**-149, -(2.0**-149)]):
        for one in (1.0, -1.0, 3.0, 0.0):
            row = np.resize(np.array(others, F32), width)
            row[0] = one
            rows.append(row)
    rows += [np.full(width, -0.0, F32), np.zeros(width, F32), np.linspace(-1, 1, width, dtype=F32)]
    return np.stack(rows)


def _ranges(width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Constant blocks, blocks on one side of 0, narrow ranges far from it, both signs of the largest number."""
    rows = [np.full(width, value, F32) for value in (1, -1, 0.1, -0.1, 5, 1e-5, 1e5)]
    narrow = ((100, 100.001), (1e-5, 2e-5), (0.1, 0.10005))
    for low, high in ((5, 6), (-6, -5), (0, 1), (-1, 0), (-3, 1), (-1, 3), *narrow):
        row = rng.uniform(low, high, width).astype(F32)
        row[:2] = np.array([low, high], F32)[: row[:2].size]
        rows.append(row)
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


def _specials(s: Scheme, width: int) -> NDArray[np.float32]:
    kinds = ([np.nan, -np.nan] if s["nan"] != "error" else []) + ([np.inf, -np.inf] if s["inf"] != "error" else [])
    rows = []
    for special in kinds:
        for at in dict.fromkeys((0, width // 2, width - 1)):
            row = np.linspace(-1, 1, width, dtype=F32)
            row[at] = special
            rows.append(row)
    return np.stack(rows)


def _shapes(shapes: str, width: int, multiple: int) -> list[tuple[int, ...]]:
    """Shapes besides [n, width]; which of them is for `BlockProfile.shapes` to say."""
    flat: list[tuple[int, ...]] = [(width * multiple,), (2, width * multiple)]
    flat += [(4 * multiple, width // 2), (2 * multiple, 3 * width // 2)]
    if shapes == "rows":
        return [(1, width), (3, width)] if multiple == 1 else []
    if shapes == "flat":
        return [*flat, (2, 2, width * multiple)] if multiple == 1 else flat
    ragged: list[tuple[int, ...]] = [(1, 1), (1, 3), (2, width - 1), (2, width + 1), (3, 5)]
    ragged += [(5, 3 * width + 5), (7, 2 * width)]
    if shapes == "ragged":
        return ragged
    return [*flat, *ragged, (1,), (2,), (3,), (width - 1,), (width + 1,), (5 * width + 17,), (2, 3, width - 2)]
