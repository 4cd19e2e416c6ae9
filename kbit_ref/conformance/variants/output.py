"""Mistakes of `times` and `join`: the values that come out, and where they are written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.tensors.steps import Array, Steps

__all__: list[str] = []


@mutant("result-transposed", "join", source="casper-hansen/AutoAWQ/issues/275")
def result_transposed(steps: Steps) -> Steps | None:
    """The matrix is returned transposed, in the memory of the right shape."""

    def wrong(rows: Array, shape: tuple[int, ...]) -> Array:
        values = steps.join(rows, shape)
        return np.ascontiguousarray(values.swapaxes(-1, -2)).reshape(shape) if len(shape) > 1 else values

    return replace(steps, join=wrong)


@mutant("last-blocks-lost", "times", source="tracel-ai/burn/issues/4659", n=(8, 1, 2, 3, 4, 16, 32))
def last_blocks_lost(steps: Steps, n: int = 8) -> Steps | None:
    """The last {n} blocks are never written: they are zeros."""

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        values = steps.times(levels, scale, zero, offset)
        width = min(steps.cut.size or values.shape[1], values.shape[1])
        rest = values.shape[1] % width or width  # of the short last block
        lost = min(rest + (n - 1) * width, values.size)
        flat = values.reshape(-1).copy()
        flat[flat.size - lost :] = 0
        return flat.reshape(values.shape)

    return replace(steps, times=wrong)


@mutant("only-the-first-block", "times", source="1bit-MONSTER/1bit-MONSTER/pull/488")
def only_the_first_block(steps: Steps) -> Steps | None:
    """The reader returns after the first block: everything else is zeros."""

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        values = steps.times(levels, scale, zero, offset)
        size = steps.cut.size or values.shape[1]
        return np.where(np.arange(values.size).reshape(values.shape) < size, values, np.float32(0))

    return replace(steps, times=wrong)


@mutant("part-of-each-block", "times", source="1bit-MONSTER/1bit-MONSTER/issues/734", parts=(4, 2))
def part_of_each_block(steps: Steps, parts: int = 4) -> Steps | None:
    """Only the first of {parts} parts of each block is written: the rest is zeros."""
    size = steps.cut.size
    if size is None or size < parts:
        return None

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        values = steps.times(levels, scale, zero, offset)
        return np.where(np.arange(values.shape[1]) % size < size // parts, values, np.float32(0))

    return replace(steps, times=wrong)


@mutant("tail-dropped", "times", source="PTO-ISA/SuperNPUBench/pull/39")
def tail_dropped(steps: Steps) -> Steps | None:
    """What is left of a row after its full blocks is not written: it is zeros."""
    size = steps.cut.size
    if size is None:
        return None

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        values = steps.times(levels, scale, zero, offset)
        full = values.shape[1] // size * size
        return np.where(np.arange(values.shape[1]) < full, values, np.float32(0))

    return replace(steps, times=wrong)


@mutant("sign-of-values-lost", "times", source=CONSTRUCTED)
def sign_of_values_lost(steps: Steps) -> Steps | None:
    """The sign bit is dropped: every value is read as its magnitude."""
    return replace(steps, times=lambda *parts: np.abs(steps.times(*parts)))


@mutant("values-in-bf16", "times", source="mlx-node/mlx-node/issues/101", form=("bfloat16", "float16"))
def values_in_bf16(steps: Steps, form: str = "bfloat16") -> Steps:
    """The reader computes in {form}: every value is rounded to it."""
    narrow = Arithmetic(form)
    return replace(steps, times=lambda *parts: narrow.round(steps.times(*parts)))
