"""Mistakes of `cut`, `spread` and `join`: which elements make a block, and which scale is theirs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.steps import Array, Steps, spread

__all__ = ["Reordered", "places", "reordered"]

Order = Callable[[Cut, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Reordered(Cut):
    """The cut of an array whose elements are put in another order first.

    Parameters
    ----------
    order
        (the cut that it replaces, shape) -> [n_rows, length]: the places in memory of the elements of its rows.
    """

    order: Order = field(default=lambda cut, shape: cut.rows(places(shape)))
    base: Cut = field(default=Cut("tensor"))

    def rows(self, x: Array) -> Array:
        """Reshape to rows: [*shape] -> [n_rows, length]."""
        return np.asarray(x.reshape(-1)[self.order(self.base, x.shape)])

    def join(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """Reshape rows back: [n_rows, length] -> [*shape]."""
        joined = np.empty(math.prod(shape), rows.dtype)
        joined[self.order(self.base, shape)] = rows
        return joined.reshape(shape)

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return (n_rows, length)."""
        n_rows, length = self.order(self.base, shape).shape
        return n_rows, length


def places(shape: tuple[int, ...]) -> Array:
    """Return the place in memory of each element, int [*shape]."""
    return np.arange(math.prod(shape)).reshape(shape)


def reordered(steps: Steps, order: Order, size: int | None) -> Steps | None:
    """Return steps that make blocks of elements in another order."""
    return cut_as(steps, Reordered("b", size, None, order, steps.cut))


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


@mutant(
    "groups-strided",
    "cut",
    "spread",
    "join",
    source="mobiusml/hqq/blob/master/hqq/core/quantize.py",
    of=("array", "row"),
)
def groups_strided(steps: Steps, of: str = "array") -> Steps | None:
    """A block is every n-th element of the {of}, n the number of blocks, instead of neighbours (HQQ's axis 0)."""
    size = steps.cut.size
    if size is None:
        return None

    def order(cut: Cut, shape: tuple[int, ...]) -> Array:
        rows = cut.rows(places(shape))
        lines = rows.reshape(1, -1) if of == "array" else rows
        if lines.shape[1] % size:
            return rows
        return np.ascontiguousarray(lines.reshape(len(lines), size, -1).swapaxes(1, 2)).reshape(lines.shape)

    return reordered(steps, order, size)


@mutant(
    "blocks-in-tiles",
    "cut",
    "spread",
    "join",
    source="NVIDIA/TransformerEngine/blob/main/transformer_engine/pytorch/custom_recipes/quantization_ref_nvfp4.py",
    rows=(2, 4, 8, 16, "as many as columns"),
)
def blocks_in_tiles(steps: Steps, rows: int | str = 2) -> Steps | None:
    """A block is a tile of the matrix (rows: {rows}) instead of a run of neighbours in one row."""
    size = steps.cut.size
    square = isinstance(rows, str)
    if size is None or (isinstance(rows, int) and size % rows):
        return None
    high = size if isinstance(rows, str) else rows
    wide = size if square else size // high

    def order(cut: Cut, shape: tuple[int, ...]) -> Array:
        plain = cut.rows(places(shape))
        if len(plain) % high or plain.shape[1] % wide:
            return plain
        tiles = plain.reshape(len(plain) // high, high, -1, wide).swapaxes(1, 2)
        return np.ascontiguousarray(tiles).reshape(-1, high * wide)

    return reordered(steps, order, high * wide)


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


@mutant("first-scale-for-all", "spread", source="JustVugg/colibri/pull/298", of=("row", "array"))
def first_scale_for_all(steps: Steps, of: str = "row") -> Steps:
    """The first scale of the {of} is used for all blocks of the {of}."""

    def wrong(grid: Array, shape: tuple[int, ...]) -> Array:
        first = grid[:, :1] if of == "row" else grid[:1, :1]
        return steps.spread(np.broadcast_to(first, grid.shape), shape)

    return replace(steps, spread=wrong)


@mutant("scale-of-another-block", "spread", source=CONSTRUCTED, away=(1, -1))
def scale_of_another_block(steps: Steps, away: int = 1) -> Steps | None:
    """Every block is read with the scale of the block {away:+d} after it in memory."""

    def wrong(grid: Array, shape: tuple[int, ...]) -> Array:
        at = np.clip(np.arange(grid.size) + away, 0, grid.size - 1)
        return steps.spread(grid.reshape(-1)[at].reshape(grid.shape), shape)

    return replace(steps, spread=wrong)


@mutant("scales-along-another-axis", "spread", source="apple/coreai-torch/pull/24", away=(1, 2))
def scales_along_another_axis(steps: Steps, away: int = 1) -> Steps | None:
    """The right codes are multiplied by scales laid along another axis of the same length, {away} before theirs."""
    cut = steps.cut
    if cut.axis is None or isinstance(cut, Reordered):
        return None
    axis = cut.axis

    def wrong(grid: Array, shape: tuple[int, ...]) -> Array:
        other = Cut(cut.kind, cut.size, (axis - away) % len(shape))
        n_rows, length = other.grid(shape)
        if grid.shape != (n_rows, other.per_row(length)):
            return steps.spread(grid, shape)
        return cut.rows(other.join(spread(other, grid, shape), shape))

    return replace(steps, spread=wrong)


@mutant("scales-strided", "spread", source="mobiusml/hqq/blob/master/hqq/core/quantize.py")
def scales_strided(steps: Steps) -> Steps | None:
    """The reader takes scale i % n, n the number of blocks in a row, for element i instead of scale i // size."""
    if steps.cut.size is None:
        return None

    def wrong(grid: Array, shape: tuple[int, ...]) -> Array:
        return grid[:, np.arange(steps.cut.grid(shape)[1]) % grid.shape[1]]

    return replace(steps, spread=wrong)


def _in_128_by_4(rows: int, columns: int) -> Array:
    """Return where the scales of tensor cores lie: tiles of 128 x 4, in each of them rows r, r + 32, ... together."""
    r, c = np.indices((rows, columns))
    tile = r // 128 * -(-columns // 4) + c // 4
    return tile * 512 + r % 32 * 16 + r % 128 // 32 * 4 + c % 4


def _in_4_by_4(rows: int, columns: int) -> Array:
    """Return where the scales of four rows lie: those of a row in columns, four columns side by side."""
    r, c = np.indices((rows, columns))
    if rows % 4 or columns % 4:
        return r * columns + c
    group = columns // 4
    return (r // 4 * 4 + c // group) * columns + c % group * 4 + r % 4


SWIZZLES = {"128 x 4": _in_128_by_4, "4 x 4": _in_4_by_4}


@mutant(
    "scales-swizzled",
    "spread",
    source="vllm-project/vllm/issues/50084",
    tiles=tuple(SWIZZLES),
    as_if=("written", "read"),
)
def scales_swizzled(steps: Steps, tiles: str = "128 x 4", as_if: str = "written") -> Steps | None:
    """The scales are {as_if} in tiles of {tiles}, as tensor cores have them, by one side only."""
    if steps.cut.axis is None or steps.cut.size is None:
        return None

    def wrong(grid: Array, shape: tuple[int, ...]) -> Array:
        places = SWIZZLES[tiles](*grid.shape)
        memory = np.zeros(max(int(places.max(initial=0)) + 1, grid.size), grid.dtype)  # what is not written is 0
        if as_if == "written":
            memory[places] = grid
            return steps.spread(memory[: grid.size].reshape(grid.shape), shape)
        memory[: grid.size] = grid.reshape(-1)
        return steps.spread(memory[places], shape)

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
