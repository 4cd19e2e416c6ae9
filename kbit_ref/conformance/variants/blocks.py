"""Mistakes of `cut`, `spread` and `join`: which elements make a block, and which scale is theirs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.steps import Array, Steps, spread

__all__: list[str] = []


def cut_as(steps: Steps, cut: Cut) -> Steps | None:
    """Writer and reader cut the array in another way."""
    if cut == steps.cut:
        return None
    return replace(steps, cut=cut, join=cut.join, spread=partial(spread, cut))


@mutant("wrong-axis", "cut", "spread", "join", source="microsoft/onnxruntime/issues/19694")
def wrong_axis(steps: Steps) -> Steps | None:
    """Blocks (or channels) lie along the other of the last two axes."""
    cut = steps.cut
    if cut.axis is None:
        return None
    other = {-1: -2, -2: -1, 0: 1, 1: 0}.get(cut.axis)
    return None if other is None else cut_as(steps, Cut(cut.kind, cut.size, other))


@mutant("blocks-straddle-rows", "cut", "spread", "join", source="DeepWok/mase/issues/321")
def blocks_straddle_rows(steps: Steps) -> Steps | None:
    """Blocks run on over the ends of rows, in the order of memory."""
    return cut_as(steps, Cut("b", steps.cut.size)) if steps.cut.kind == "b" and steps.cut.axis is not None else None


@mutant("blocks-end-with-rows", "cut", "spread", "join", source=CONSTRUCTED)
def blocks_end_with_rows(steps: Steps) -> Steps | None:
    """Each row begins a new block, though blocks should run on over the ends of rows."""
    return cut_as(steps, Cut("b", steps.cut.size, -1)) if steps.cut.kind == "b" and steps.cut.axis is None else None


@mutant("one-scale-a-row", "cut", "spread", "join", source="JustVugg/colibri/issues/225")
def one_scale_a_row(steps: Steps) -> Steps | None:
    """A whole row shares one scale instead of each block of it."""
    cut = steps.cut
    return cut_as(steps, Cut("b", None, cut.axis)) if cut.kind == "b" and cut.axis is not None else None


@mutant("other-block-size", "spread", source="nntrainer/nntrainer/pull/3521", times=(2, 0.5, 4, 0.25))
def other_block_size(steps: Steps, times: float = 2) -> Steps | None:
    """The reader takes the blocks as {times} times as large as they are, so that scales go to the wrong elements."""
    size = steps.cut.size
    width = int((size or 0) * times)
    if not width:
        return None

    def wrong(grid: Array, shape: tuple[int, ...]) -> Array:
        length = steps.cut.grid(shape)[1]
        return grid[:, np.minimum(np.arange(length) // width, grid.shape[1] - 1)]

    return replace(steps, spread=wrong)


@mutant("first-scale-for-all", "spread", source="JustVugg/colibri/pull/298")
def first_scale_for_all(steps: Steps) -> Steps | None:
    """The first scale of a row is used for all blocks of the row."""
    return replace(steps, spread=lambda grid, shape: steps.spread(np.repeat(grid[:, :1], grid.shape[1], 1), shape))


@mutant("scale-of-another-block", "spread", source=CONSTRUCTED, away=(1, -1))
def scale_of_another_block(steps: Steps, away: int = 1) -> Steps | None:
    """Every block is read with the scale of the block {away:+d} after it in memory."""

    def wrong(grid: Array, shape: tuple[int, ...]) -> Array:
        at = np.clip(np.arange(grid.size) + away, 0, grid.size - 1)
        return steps.spread(grid.reshape(-1)[at].reshape(grid.shape), shape)

    return replace(steps, spread=wrong)


@mutant("scales-transposed", "spread", source="microsoft/Olive/issues/2589", as_if=("written", "read"))
def scales_transposed(steps: Steps, as_if: str = "written") -> Steps | None:
    """The scales lie in memory as the transpose of what they should be ({as_if} so)."""
    if steps.cut.axis is None or steps.cut.size is None:
        return None

    def wrong(grid: Array, shape: tuple[int, ...]) -> Array:
        turned = grid.T.reshape(grid.shape) if as_if == "written" else grid.reshape(grid.shape[::-1]).T
        return steps.spread(turned, shape)

    return replace(steps, spread=wrong)
