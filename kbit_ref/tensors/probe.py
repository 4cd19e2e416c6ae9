"""`probe`: 4,096 values on which two schemes differ, if they differ anywhere that we know of.

Random data do not tell a division from a product with the reciprocal, nor half-even from half-away. These do:
blocks whose scale is a number that makes ties, or just fails to, the scales among them at which a quotient parts
from a product with the reciprocal at the most edges; blocks whose largest element lies at, below and above a power of
two; zeros, subnormals, one large element among small ones, a tie of the largest magnitudes, ranges that do not hold
zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import datatype
from kbit_ref.engine.codec import decode, encode
from kbit_ref.errors import BadInput
from kbit_ref.tensors.aligned import anchors, edges, shifts, telling_scales
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["probe"]

SIZE = 4096
SEEDS = 4  # after so many rounds of all kinds the blocks are given again
SHAPES = {1: (SIZE,), 2: (64, 64), 3: (16, 16, 16), 4: (8, 8, 8, 8)}

LARGEST = 0.961  # the largest element of all, over the largest that a global scale of 1 would allow

Block = NDArray[np.float32]


def probe(scheme_: Scheme | str) -> NDArray[np.float32]:
    """Return values that separate a scheme from its neighbours: float32 [64, 64], or as many axes as the cut asks for.

    The same for every call. NaN and infinity are among them where the scheme has an answer to them.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> x = kb.probe("int8-b64-absmax-f32")
    >>> divided, multiplied = (kb.quantize(x, f"int8-b64-absmax-f32+arith={a}") for a in ("divide", "reciprocal"))
    >>> x.shape, bool((divided.codes != multiplied.codes).any())
    ((64, 64), True)
    """
    s = scheme(scheme_)
    axis = s.cut.axis
    shape = SHAPES[2 if axis is None else max(2, axis + 1 if axis >= 0 else -axis)]
    rows = s.cut.rows(np.zeros(shape, np.float32))
    n_rows, length = rows.shape
    size = min(s.cut.size or length, length)
    blocks = _endless(s, size)
    filled = np.empty(rows.shape, np.float32)
    for row in range(n_rows):
        for begin in range(0, length, size):
            part = filled[row, begin : begin + size]
            part[...] = next(blocks)[: part.size]
    if s["global"] != "none":  # the element that makes the global scale LARGEST, or 1 / LARGEST
        filled[-1, -1] = np.float32(LARGEST * float(np.float32(s.dtype.top * datatype(s.scale_dtype).top)))
    return np.ascontiguousarray(s.cut.join(filled, shape))


def _endless(s: Scheme, size: int) -> Iterator[Block]:
    """Blocks of that size that the scheme takes, one kind after the other, again and again."""
    alone = scheme(str(s).replace(f"-{s.cut}-", f"-b{s.cut.size or size}-", 1))
    shared = s["global"] != "none" or s["center"] == "tensor"  # all blocks have a part in one number
    accepted = []
    stochastic = s.dtype.rounding.startswith("stochastic")
    draws: dict[str, Any] = {"random": 0, "random_bits": 1} if stochastic else {}  # scales do not depend on them
    for seed in range(SEEDS):
        for block in _kinds(s, size, np.random.default_rng(seed)):
            if shared and not _moderate(block):
                continue
            try:
                quantize(block[:size], alone, **draws)
            except BadInput:  # its scale is out of range, or NaN has no code
                continue
            accepted.append(block[:size])
            yield block[:size]
    assert accepted, f"no block for {s}"
    while True:
        yield from accepted


def _moderate(block: Block) -> bool:
    """Would it leave the other blocks something of a scale or a mean that all of them share?"""
    largest = np.abs(block).max()
    return bool(largest == 0 or 2.0**-6 <= largest <= 2.0**10)


def _kinds(s: Scheme, size: int, rng: np.random.Generator) -> Iterator[Block]:
    """One block of every kind."""
    f32 = np.float32
    top = f32(s.dtype.top)
    scales = [1 / 3, 1.0, *telling_scales(s, rng, 4 if size <= 64 else 2), 0.75, 0.1, 1 + 2.0**-23, 2.0**-5, 448.0]
    for i, scale in enumerate(scales):
        aligned, anchored = _aligned(s, _used(s, scale))
        aligned = rng.permutation(aligned)
        parts = min(4 if i < 2 else 1, -(-aligned.size // size))
        for part in range(parts):
            block = _filled(rng, aligned[part * size :][:size], size)
            places = rng.permutation(size)[: anchored.size]
            block[places] = anchored[: places.size]
            yield block
    for exponent in (-3, 0, 1, 7):  # the largest element at, below and above a power of two, and that times top
        edge = f32(2.0**exponent)
        for most in (edge, edge * top):
            for way in (0, -np.inf, np.inf):
                values = _filled(rng, rng.standard_normal(size).astype(np.float32) * edge / 8, size)
                values[rng.integers(size)] = np.nextafter(most, f32(way)) if way else most
                yield values
    yield np.zeros(size, np.float32)
    yield np.where(np.arange(size) == size // 2, f32(1), f32(1e-6) * (np.arange(size) % 3 - 1).astype(np.float32))
    yield np.concatenate([[2.0, -2.0], rng.uniform(-2, 2, size)]).astype(np.float32)[:size]  # the first is positive
    yield np.concatenate([[-3.0, 3.0], rng.uniform(-3, 3, size)]).astype(np.float32)[:size]
    yield rng.uniform(5, 6, size).astype(np.float32)  # a range that does not hold 0
    yield -rng.uniform(5, 6, size).astype(np.float32)
    yield np.full(size, -1.5, np.float32)
    yield (rng.standard_normal(size) * rng.choice([1, 1, 30], size)).astype(np.float32)
    yield np.where(np.arange(size) % 2, f32(-0.0), rng.standard_normal(size).astype(np.float32))
    for tiny in (2.0**-126, 2.0**-130, 3 * 2.0**-149, 2.0**-13, 2.0**-16):
        yield (rng.standard_normal(size) * tiny).astype(np.float32)
    yield (rng.standard_normal(size) * 2.0**100).astype(np.float32)
    for special in (np.nan, np.inf, -np.inf):
        values = rng.standard_normal(size).astype(np.float32)
        values[rng.integers(size)] = special
        yield values


def _aligned(s: Scheme, used: np.float32) -> tuple[Block, Block]:
    """For a block of that scale: what lies on edges and next to them, and levels; and the elements that make it so."""
    f32 = np.float32
    shift = shifts(s)[len(shifts(s)) // 2]
    levels = np.unique(s.dtype.levels[s.dtype.emitted])
    middles = (edges(s) - shift).astype(f32)
    largest = anchors(s, shift).astype(f32)
    beside = [np.nextafter(middles, f32(way)) for way in (-np.inf, np.inf)]
    others = np.concatenate([*beside, (levels[np.isfinite(levels)] - shift).astype(f32)])
    if largest.size == 1:
        middles, others = (values[np.abs(values) < abs(largest[0])] for values in (middles, others))
    ties = middles * used
    near = [np.nextafter(ties, f32(way)) for way in (-np.inf, np.inf)]
    return np.concatenate([ties, *near, others * used]), largest * used


def _used(s: Scheme, scale: float) -> np.float32:
    """The scale in use of a block whose stored scale is next to `scale`."""
    stored = np.float32(scale)
    if s.scale_dtype != "f32":
        stored = np.float32(decode(s.scale_type, encode(s.scale_type, scale)))
    if s["global"] == "none":
        return stored
    reach = np.float32(s.dtype.top * datatype(s.scale_dtype).top)
    largest = np.float32(LARGEST * float(reach))
    if s["global"] == "multiplier":
        return np.float32(stored * np.float32(largest / reach))
    return np.float32(stored / np.float32(reach / largest))


def _filled(rng: np.random.Generator, values: NDArray[Any], size: int) -> Block:
    """Exactly `size` values, those given again if they do not suffice."""
    return np.array(rng.permutation(np.resize(rng.permutation(values), size)), np.float32)
