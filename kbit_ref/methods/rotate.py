"""A random rotation before quantizing, undone after decoding: outliers are spread over many inputs.

With R = D H (D random signs, H Hadamard's matrix) x @ W.T = x @ R (W R).T: the rotated weights look like
normal numbers, whatever W is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.methods.coded import Coded
from kbit_ref.methods.registry import Given, register
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["RotatedBack", "hadamard", "signs"]

Array = NDArray[Any]
SEED_BITS = 32


@dataclass(frozen=True)
class RotatedBack:
    """A step that undoes the rotation; all that is stored of it is the seed of its signs."""

    seed: int
    bits: int = SEED_BITS

    def __call__(self, x: Array) -> Array:
        """float32 [d_out, d_in] -> the same shape."""
        back: Array = hadamard(x.astype(np.float64)) * signs(x.shape[1], self.seed)  # H is its own inverse
        return back.astype(np.float32)


@register(
    "rotate",
    source="Chee et al., arXiv 2307.13304; Tseng et al., arXiv 2402.04396: randomised Hadamard transform",
    seed=(0,),
)
def rotate(weights: Array, scheme: Scheme, given: Given, *, seed: int) -> Coded:
    """Every row is rotated at random (signs, then Hadamard's matrix) before it is quantized.

    Of d_in = m * 2**k, m odd, runs of 2**k inputs are rotated among themselves: 16 of 48. Where d_in is odd nothing
    but signs is left.
    """
    if not 0 <= seed < 2**SEED_BITS:
        raise BadInput(message("rotate", f"seed = {seed}", f"it is from 0 to 2**{SEED_BITS} - 1", "use another"))
    with np.errstate(invalid="ignore", over="ignore"):
        rotated = hadamard(weights.astype(np.float64) * signs(weights.shape[1], seed)).astype(np.float32)
    for row in np.flatnonzero(~np.isfinite(rotated).all(axis=1))[:1]:
        rule = "rotated it is not finite in float32: a number that is not finite, or too large, is in all of them"
        raise BadInput(message("rotate", f"row {row}", rule, "clean it, or scale it down"))
    return Coded(quantize(rotated, scheme), [RotatedBack(seed)])


def signs(n: int, seed: int) -> Array:
    """float64 [n]: -1 or 1, by the highest bit of each number of PCG64, whose stream NumPy never changes.

    Examples
    --------
    >>> signs(8, 0)
    array([-1.,  1.,  1.,  1., -1., -1., -1., -1.])
    """
    return 1.0 - 2.0 * (np.random.PCG64(seed).random_raw(n) >> np.uint64(63))


def hadamard(x: Array) -> Array:
    """x @ H: Sylvester's matrix over sqrt(n), in runs of the largest power of two that divides the last axis.

    H is symmetric and orthogonal. One round replaces pairs (a, b) by (a + b, a - b); after log2(n) rounds, with
    pairs 1, 2, 4 ... apart, every output is a sum of all n inputs with signs.

    Parameters
    ----------
    x
        float64 [..., d].

    Examples
    --------
    >>> hadamard(np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]]))
    array([[ 0.5,  0.5,  0.5,  0.5],
           [ 5. , -1. , -2. ,  0. ]])
    """
    d = x.shape[-1]
    n = d & -d  # the lowest bit of d
    y, apart = x, 1
    while apart < n:
        pairs = y.reshape(*x.shape[:-1], -1, 2, apart)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        y = np.stack([a + b, a - b], axis=-2).reshape(x.shape)
        apart *= 2
    return np.asarray(y / np.sqrt(n))
