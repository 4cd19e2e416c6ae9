"""AWQ: widen the columns that large inputs meet before rounding, and narrow them again afterwards.

A column times f, rounded, over f: the steps of its block are f times finer for it. The factors are a power of the mean
magnitude of the inputs, (mean |x|)^a; a = 0 changes nothing. Of a grid of a, the one whose outputs move least is kept.

Clipping comes after that: cut the largest weights of a block to a share of the largest, and its steps get finer for all
others. The share is the one with which the block's own part of the outputs moves least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.methods.coded import Coded
from kbit_ref.methods.grids import columns_of_a_block
from kbit_ref.methods.objective import Objective
from kbit_ref.methods.registry import Given, register
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Divided", "clipped", "factors"]

Array = NDArray[Any]
LEAST = 1e-4  # of a power of the mean magnitude, before the factors are centred
SHARES = [1 - i / 20 for i in range(11)]  # of the largest weight of a block


@dataclass(frozen=True, eq=False)
class Divided:
    """The step after decoding: every column over its factor.

    Parameters
    ----------
    factors
        float16 [d_in].

    Examples
    --------
    >>> step = Divided(np.array([2, 0.5], np.float16))
    >>> step(np.array([[1, 1]], np.float32)), step.bits
    (array([[0.5, 2. ]], dtype=float32), 32)
    """

    factors: NDArray[np.float16]

    @property
    def bits(self) -> int:
        """16 a column."""
        return 16 * self.factors.size

    def __call__(self, x: Array) -> Array:
        """float32 [d_out, d_in], divided."""
        return np.asarray(x / self.factors.astype(np.float32))


@register("awq", source="Lin et al., arXiv 2306.00978", needs=("inputs",), grid=(20,), clip=("no", "yes"))
def awq(weights: NDArray[Any], scheme: Scheme, given: Given, grid: int, clip: str) -> Coded:
    """Round columns times a power of the mean magnitude of their inputs; the best of a grid of powers.

    grid
        Powers are 0, 1/grid, ... 1.
    clip
        `yes`: then look for clipped blocks as well, and take them if the outputs move less.
    """
    if grid < 1:
        raise BadInput(message("awq", f"grid = {grid}", "it counts the steps from power 0 to 1", "e.g. 20"))
    objective = Objective("awq", weights, given.inputs)
    magnitude = np.abs(objective.inputs).mean(axis=0)
    powers = [factors(magnitude, i / grid) for i in range(grid + 1)]

    def tried(f: NDArray[np.float16]) -> Coded:
        return Coded(quantize(_widened(weights, f), scheme), [Divided(f)])

    def moved(coded: Coded) -> float:
        return objective(coded.decoded())

    f = min(powers, key=lambda f: moved(tried(f)))  # the first of equals, so the least power
    if clip == "no":
        return tried(f)
    cut = clipped(_widened(weights, f), scheme, objective.inputs / f.astype(np.float64))
    return min(tried(f), Coded(quantize(cut, scheme), [Divided(f)]), key=moved)


def _widened(weights: Array, f: NDArray[np.float16]) -> Array:
    """float32 or float64: every column times its factor."""
    kind = np.float64 if weights.dtype == np.float64 else np.float32
    return np.asarray(weights.astype(kind) * f.astype(kind))


def clipped(w: Array, s: Scheme, x: Array) -> Array:
    """Weights [d_out, d_in] with the largest of each block cut to the share for which its outputs on x move least.

    Raises
    ------
    BadInput
        `awq: scheme = nf4-tensor-absmax-f32, its blocks do not lie within rows; use clip=no, or blocks of rows`
    """
    size = w.shape[1] if str(s.cut) == "channel" else columns_of_a_block(s.cut, w.shape)
    if size is None:
        rule = "its blocks do not lie within rows"
        raise BadInput(message("awq", f"scheme = {s}", rule, "use clip=no, or blocks of rows"))
    starts = np.arange(0, w.shape[1], size)
    roots = [Objective("awq", w[:1, a : a + size], x[:, a : a + size]).root for a in starts]
    block = np.arange(w.shape[1]) // size  # of each column
    largest = np.maximum.reduceat(np.abs(w), starts, axis=1)  # [d_out, n_blocks]
    best, least = largest, np.full(largest.shape, np.inf)
    for share in SHARES:
        bound = largest * w.dtype.type(share)
        error = dequantize(quantize(np.clip(w, -bound[:, block], bound[:, block]), s)) - w
        moved = [((error[:, a : a + size] @ root.T) ** 2).sum(axis=1) for a, root in zip(starts, roots, strict=True)]
        better = (now := np.stack(moved, axis=1)) < least
        best, least = np.where(better, bound, best), np.where(better, now, least)
    return np.asarray(np.clip(w, -best[:, block], best[:, block]))


def factors(magnitude: Array, power: float) -> NDArray[np.float16]:
    """What the columns are multiplied by, as stored: the largest and the smallest are about 1 over each other.

    Examples
    --------
    >>> factors(np.array([16.0, 1.0, 4.0]), 0.5)
    array([2. , 0.5, 1. ], dtype=float16)
    """
    f = np.maximum(magnitude**power, LEAST)
    f = f / np.sqrt(f.max() * f.min())
    bounds = np.finfo(np.float16)
    return np.asarray(np.clip(f, bounds.smallest_normal, bounds.max), np.float16)
