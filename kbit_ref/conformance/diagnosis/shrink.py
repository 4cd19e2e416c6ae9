"""The simplest block that still shows a difference: fewer numbers other than 0, and simpler ones.

Blocks are independent, so a library is asked about thousands of variants of a block in one array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["complexity", "shrink", "spell_block"]

Array = NDArray[Any]
Shows = Callable[[Array], NDArray[np.bool_]]

MOST_VARIANTS, MOST_ROUNDS = 3000, 24
KEPT_BITS = (1, 2, 3, 4, 6, 8, 11, 16)


def shrink(block: NDArray[np.float32], shows: Shows, rounds: int = MOST_ROUNDS) -> NDArray[np.float32]:
    """The simplest block that one can get to by small steps, each of which still shows the difference.

    Parameters
    ----------
    block : [size]
        float32; what shows the difference now.
    shows
        [n, size] -> [n]: which blocks show it.
    rounds
        So many steps at most.

    Returns
    -------
    [size]
    """
    best = np.array(block, np.float32)
    for _ in range(rounds):
        variants = list(_unique(best, _variants(best)))[:MOST_VARIANTS]
        if not variants:
            break
        variants.sort(key=complexity)
        good = shows(np.stack(variants))
        first = np.flatnonzero(good)
        if not first.size:
            break
        best = variants[int(first[0])]
    return best


def complexity(block: NDArray[np.float32]) -> tuple[float, ...]:
    """Fewer numbers other than 0 first, then fewer digits, magnitudes nearer to 1, fewer signs.

    Examples
    --------
    >>> complexity(np.array([1, 0, 0], np.float32)) < complexity(np.array([1, 0.3, 0], np.float32))
    True
    """
    finite = np.isfinite(block)
    numbers = block[finite & (block != 0)].astype(np.float64)
    fraction, exponent = np.frexp(numbers)
    whole = np.abs(np.ldexp(fraction, 24)).astype(np.int64)
    digits = 25 - np.frexp((whole & -whole).astype(np.float64))[1] if numbers.size else np.zeros(0)
    distinct = len(set(numbers.tolist()))
    zeros = int(np.signbit(block[block == 0]).sum())
    negative = int((numbers < 0).sum())
    order = int(np.flatnonzero(block != 0).sum()) if numbers.size else 0
    return (
        float(numbers.size + (~finite).sum() + zeros),
        float(distinct),
        float(digits.sum()),
        float(np.abs(exponent - 1).sum()),
        float(negative + zeros),
        float(order),
    )


def _unique(best: Array, variants: Iterator[Array]) -> Iterator[Array]:
    seen, now = {best.tobytes()}, complexity(best)
    for variant in variants:
        key = variant.tobytes()
        if key not in seen and complexity(variant) < now:
            seen.add(key)
            yield variant


def _variants(block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Blocks that differ in one step: numbers taken out, made simpler, moved to the front, scaled by a power of 2."""
    at = np.flatnonzero((block != 0) | np.signbit(block) | np.isnan(block))
    largest = int(np.abs(np.nan_to_num(block)).argmax())
    for share in (2, 4, 8, 16):  # whole parts at once
        size = -(-len(at) // share)
        for begin in range(0, len(at), max(size, 1)):
            some = at[begin : begin + size]
            yield _with(block, some, 0)
            yield _with(block, some[some != largest], 0)
    if len(at) > 1:
        for i in at:  # it alone, and with the largest
            alone = np.zeros_like(block)
            alone[i] = block[i]
            yield alone
            alone = alone.copy()
            alone[largest] = block[largest]
            yield alone
    for i in at:
        yield _with(block, i, 0)
    yield _front(block, at)
    finite = block[np.isfinite(block) & (block != 0)]
    if finite.size:
        with np.errstate(all="ignore"):
            scaled = np.ldexp(block, -int(np.frexp(np.abs(finite).max())[1]) + 1).astype(np.float32)
            yield scaled
            yield -block
    if len(at) <= 64:
        yield from _simpler(block, at)


def _front(block: NDArray[np.float32], at: Array) -> NDArray[np.float32]:
    moved = np.zeros_like(block)
    moved[: len(at)] = block[at]
    return moved


def _with(block: NDArray[np.float32], at: Any, value: Any) -> NDArray[np.float32]:
    changed = block.copy()
    changed[at] = value
    return changed


def _simpler(block: NDArray[np.float32], at: Array) -> Iterator[NDArray[np.float32]]:
    """One number after the other: 1, -1, a power of two, fewer bits of significand; and all of them at once."""
    for i in at:
        value = block[i]
        for other in (1.0, -1.0, 0.5, 2.0):
            yield _with(block, i, other)
        if np.isfinite(value):
            yield _with(block, i, abs(value))
            for bits in KEPT_BITS:
                yield from (_with(block, i, kept[0]) for kept in _kept(block[i : i + 1], bits))
    for bits in KEPT_BITS:
        yield from _kept(block, bits)
    finite = np.flatnonzero(np.isfinite(block) & (block != 0))
    for i in finite[:8]:
        for j in finite[:8]:
            if i != j:
                yield _with(block, i, block[j])


def _kept(values: NDArray[np.float32], bits: int) -> Iterator[NDArray[np.float32]]:
    """Numbers with so many bits of significand: rounded, and cut."""
    with np.errstate(all="ignore"):
        fraction, exponent = np.frexp(values.astype(np.float64))
        for rounding in (np.rint, np.trunc, lambda y: np.sign(y) * np.ceil(np.abs(y))):
            near = np.ldexp(rounding(np.ldexp(fraction, bits)), exponent - bits).astype(np.float32)
            yield np.where(np.isfinite(values) & np.isfinite(near), near, values)


def spell_block(block: Array) -> str:
    """`[1, 0.5, 0 x 62]`: the numbers of a block, runs of one number in short.

    Examples
    --------
    >>> spell_block(np.array([1, 0.5, 0, 0, 0], np.float32))
    '[1, 0.5, 0 x 3]'
    """
    texts = [_spell(value) for value in block.reshape(-1)]
    runs: list[list[Any]] = []
    for text in texts:
        if runs and runs[-1][0] == text:
            runs[-1][1] += 1
        else:
            runs.append([text, 1])
    parts = [text if count == 1 else f"{text} x {count}" for text, count in runs]
    if len(parts) > 12:
        parts = [*parts[:10], f"... {len(texts)} numbers"]
    return "[" + ", ".join(parts) + "]"


def _spell(value: Any) -> str:
    number = np.float32(value) if np.asarray(value).dtype != np.float64 else value
    text = str(number)
    return text.removesuffix(".0") if "e" not in text else text
