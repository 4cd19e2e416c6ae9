"""Mistakes of `times` and `join`: the values that come out, and where they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.tensors.steps import Array, Steps

__all__ = ["HELD", "never_written"]

HELD = {"zeros": 0, "0xa5": 0xA5A5A5A5}  # what memory holds that nobody writes, as words of 32 bits


def never_written(steps: Steps, lost: Callable[[tuple[int, ...]], Array], word: int) -> Steps:
    """Return steps that leave what was in memory where `lost`, of the shape of the rows, is true."""
    held = np.array(word, np.uint32).view(np.float32)

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        values = steps.times(levels, scale, zero, offset)
        return np.where(lost(values.shape), held, values)

    return replace(steps, times=wrong)


def _numbered(shape: tuple[int, ...]) -> Array:
    """Return the place of each element of the rows, in order."""
    return np.arange(int(np.prod(shape))).reshape(shape)


# Not written --------------------------------------------------------------------------------------


@mutant("nothing-written", "times", source="ml-explore/mlx/issues/4250", holds=tuple(HELD))
def nothing_written(steps: Steps, holds: str = "zeros") -> Steps:
    """Nothing is written: the values are what memory held, {holds}."""
    return never_written(steps, lambda shape: np.ones(shape, bool), HELD[holds])


@mutant(
    "last-blocks-lost",
    "times",
    source="tracel-ai/burn/issues/4659",
    n=(8, 1, 2, 3, 4, 16, 32),
    hold=tuple(HELD),
)
def last_blocks_lost(steps: Steps, n: int = 8, hold: str = "zeros") -> Steps:
    """The last {n} blocks are never written: memory held {hold}."""

    def lost(shape: tuple[int, ...]) -> Array:
        width = min(steps.cut.size or shape[1], shape[1])
        rest = shape[1] % width or width  # of the short last block
        return _numbered(shape) >= np.prod(shape) - rest - (n - 1) * width

    return never_written(steps, lost, HELD[hold])


@mutant("only-the-first-block", "times", source="1bit-MONSTER/1bit-MONSTER/pull/488", holds=tuple(HELD))
def only_the_first_block(steps: Steps, holds: str = "zeros") -> Steps:
    """The reader returns after the first block: everything else is what memory held, {holds}."""
    return never_written(steps, lambda shape: _numbered(shape) >= (steps.cut.size or shape[1]), HELD[holds])


@mutant("part-of-each-block", "times", source="1bit-MONSTER/1bit-MONSTER/issues/734", parts=(4, 2), holds=tuple(HELD))
def part_of_each_block(steps: Steps, parts: int = 4, holds: str = "zeros") -> Steps | None:
    """Only the first of {parts} parts of each block is written: in the rest memory held {holds}."""
    size = steps.cut.size
    if size is None or size < parts:
        return None
    kept = size // parts
    return never_written(steps, lambda shape: np.arange(shape[1]) % size >= kept, HELD[holds])


@mutant("tail-dropped", "times", source="PTO-ISA/SuperNPUBench/pull/39", holds=tuple(HELD))
def tail_dropped(steps: Steps, holds: str = "zeros") -> Steps | None:
    """What is left of a row after its full blocks is not written: memory held {holds}."""
    size = steps.cut.size
    if size is None:
        return None
    return never_written(steps, lambda shape: np.arange(shape[1]) >= shape[1] // size * size, HELD[holds])


@mutant("last-element-lost", "times", source=CONSTRUCTED, n=(1, 2, 3), hold=tuple(HELD))
def last_element_lost(steps: Steps, n: int = 1, hold: str = "zeros") -> Steps:
    """The last {n} elements of all are not written: memory held {hold}."""
    return never_written(steps, lambda shape: _numbered(shape) >= np.prod(shape) - n, HELD[hold])


# Written elsewhere, or twice ----------------------------------------------------------------------


@mutant("result-transposed", "join", source="casper-hansen/AutoAWQ/issues/275")
def result_transposed(steps: Steps) -> Steps | None:
    """The matrix is returned transposed, in the memory of the right shape."""

    def wrong(rows: Array, shape: tuple[int, ...]) -> Array:
        values = steps.join(rows, shape)
        return np.ascontiguousarray(values.swapaxes(-1, -2)).reshape(shape) if len(shape) > 1 else values

    return replace(steps, join=wrong)


@mutant("written-elsewhere", "join", source=CONSTRUCTED, by=(1, -1, 2, -2))
def written_elsewhere(steps: Steps, by: int = 1) -> Steps:
    """Every value is written {by:+d} elements from its place: some fall outside, and some places hold zeros."""

    def wrong(rows: Array, shape: tuple[int, ...]) -> Array:
        values = np.asarray(steps.join(rows, shape))
        flat, moved = values.reshape(-1), np.zeros(values.size, values.dtype)
        if by > 0:
            moved[by:] = flat[:-by]
        else:
            moved[:by] = flat[-by:]
        return moved.reshape(shape)

    return replace(steps, join=wrong)


@mutant("row-written-too-long", "times", source="ROCm/aiter/pull/5290")
def row_written_too_long(steps: Steps) -> Steps | None:
    """Each row is written one element too long: the first of the next row is read with the scale of this one."""
    if steps.cut.axis is None:
        return None

    def before(grid: Array) -> Array:
        moved = np.array(grid)
        moved[1:, 0] = grid[:-1, -1]
        return moved

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        moved = [part if part is None or part.shape == (1, 1) else before(part) for part in (scale, zero, offset)]
        return steps.times(levels, np.asarray(moved[0]), *moved[1:])

    return replace(steps, times=wrong)


@mutant("blocks-written-twice", "times", source=CONSTRUCTED)
def blocks_written_twice(steps: Steps) -> Steps | None:
    """Every block is written to the place of the next one, too: every second block holds what the one before it has."""
    size = steps.cut.size
    if size is None:
        return None

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        values = steps.times(levels, scale, zero, offset)
        place = np.arange(values.shape[1])
        return values[:, np.where(place // size % 2 == 1, place - size, place)]

    return replace(steps, times=wrong)


@mutant("values-added-twice", "times", source="NVIDIA/cuda-quantum/pull/2475")
def values_added_twice(steps: Steps) -> Steps:
    """The values are added to what memory holds, and that is the same values: all are twice what they should be."""
    return _times(steps, 2)


@mutant("values-times-a-constant", "times", source=CONSTRUCTED, by=(1.3, 0.5, 0.9, 1.01))
def values_times_a_constant(steps: Steps, by: float = 1.3) -> Steps:
    """All values are {by} times what they should be."""
    return _times(steps, by)


def _times(steps: Steps, factor: float) -> Steps:
    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        with np.errstate(over="ignore"):
            return steps.times(levels, scale, zero, offset) * np.float32(factor)

    return replace(steps, times=wrong)


@mutant(
    "halves-swapped",
    "join",
    source="sgl-project/sglang/issues/32430",
    taken=("swapped", "in turns", "apart"),
)
def halves_swapped(steps: Steps, taken: str = "swapped") -> Steps:
    """The two halves of the first axis, as of gate and up, are taken {taken}."""

    def wrong(rows: Array, shape: tuple[int, ...]) -> Array:
        values = np.asarray(steps.join(rows, shape))
        if not shape or shape[0] % 2:
            return values
        half = shape[0] // 2
        first, second = values[:half], values[half:]
        if taken == "swapped":
            return np.concatenate([second, first])
        if taken == "in turns":
            return np.stack([first, second], axis=1).reshape(shape)
        return np.concatenate([values[::2], values[1::2]])

    return replace(steps, join=wrong)


# The values themselves ----------------------------------------------------------------------------


@mutant("sign-of-values-lost", "times", source=CONSTRUCTED)
def sign_of_values_lost(steps: Steps) -> Steps:
    """The sign bit is dropped: every value is read as its magnitude."""
    return replace(steps, times=lambda *parts: np.abs(steps.times(*parts)))


@mutant(
    "values-in-bf16",
    "times",
    source="mlx-node/mlx-node/issues/101",
    form=("bfloat16", "float16"),
    rounded=("value", "operation"),
)
def values_in_bf16(steps: Steps, form: str = "bfloat16", rounded: str = "value") -> Steps:
    """The reader computes in {form}: every {rounded} is rounded to it."""
    narrow = Arithmetic(form)

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        if rounded == "value":
            return narrow.round(steps.times(levels, scale, zero, offset))
        left = narrow.round(levels) if zero is None else narrow.subtract(levels, zero)
        product = narrow.round(steps.times(left, narrow.round(scale), None, None))
        if offset is None:
            return product
        return np.where(np.isfinite(product), narrow.add(product, narrow.round(offset)), product)

    return replace(steps, times=wrong)
