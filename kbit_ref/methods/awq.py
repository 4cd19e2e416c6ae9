"""AWQ: widen the columns that large inputs meet before rounding, and narrow them again afterwards.

A column times f, rounded, over f: the steps of its block are f times finer for it. The factors are a power of the mean
magnitude of the inputs, (mean |x|)^a; a = 0 changes nothing. Of a grid of a, the one whose outputs move least is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.methods.coded import Coded
from kbit_ref.methods.objective import Objective
from kbit_ref.methods.registry import Given, register
from kbit_ref.quantize import quantize
from kbit_ref.scheme import Scheme

__all__ = ["Divided", "factors"]

Array = NDArray[Any]
LEAST = 1e-4  # of a power of the mean magnitude, before the factors are centred


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


@register("awq", source="Lin et al., arXiv 2306.00978", needs=("inputs",), grid=(20,))
def awq(weights: NDArray[Any], scheme: Scheme, given: Given, grid: int) -> Coded:
    """Round columns times a power of the mean magnitude of their inputs; the best of a grid of powers.

    grid
        Powers are 0, 1/grid, ... 1.
    """
    if grid < 1:
        raise BadInput(message("awq", f"grid = {grid}", "it counts the steps from power 0 to 1", "e.g. 20"))
    objective = Objective("awq", weights, given.inputs)
    return min(_candidates(weights, scheme, objective, grid), key=lambda coded: objective(coded.decoded()))


def _candidates(weights: Array, scheme: Scheme, objective: Objective, grid: int) -> Iterator[Coded]:
    """The matrix in few bits for every power, the least first; the first of equals wins."""
    magnitude = np.abs(objective.inputs).mean(axis=0)
    kind = np.float64 if weights.dtype == np.float64 else np.float32
    for i in range(grid + 1):
        f = factors(magnitude, i / grid)
        yield Coded(quantize(weights.astype(kind) * f.astype(kind), scheme), [Divided(f)])


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
