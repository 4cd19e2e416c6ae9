"""The definition of GPTQ: before every column, the best values of all that is still free, solved for from scratch.

This is what optimal brain quantization does when the columns come in a fixed order (Frantar & Alistarh,
arXiv 2208.11580). It takes d_in solutions of d_in equations; it is here to be read, and to test `gptq.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.methods.coded import Coded
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.packing import pack
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["by_definition"]

Array = NDArray[Any]


def by_definition(
    weights: Array, s: Scheme, inputs: Array, order: str = "given", damp: float = 0.01, size: int | None = None
) -> Coded:
    """GPTQ column by column, in float64.

    Parameters
    ----------
    weights
        float [d_out, d_in].
    s
        The scheme.
    inputs
        float [n, d_in], no column of it all 0.
    order
        `given`, or `act`: the columns with the largest sums of squares first.
    damp
        Share of the mean of the diagonal that is added to it.
    size
        The columns of a block, if its scales are those of the updated weights; None: of the original ones.

    Returns
    -------
    Coded
    """
    d_in = weights.shape[1]
    x = inputs.astype(np.float64)
    h = x.T @ x
    order_of = np.argsort(-np.diag(h), kind="stable") if order == "act" else np.arange(d_in)
    h += damp * np.mean(np.diag(h)) * np.eye(d_in)
    w = weights.astype(np.float64)  # the columns that are done hold what they decode to, the others their best values
    q = quantize(weights, s)
    numbers = _numbers(q)
    codes = np.zeros(weights.shape, np.uint8)
    for n, j in enumerate(order_of):
        done, free = order_of[:n], order_of[n:]
        moved = w[:, done] - weights[:, done]
        w[:, free] = weights[:, free] - np.linalg.solve(h[np.ix_(free, free)], h[np.ix_(free, done)] @ moved.T).T
        if size and j % size == 0:
            q = _refitted(q, w[:, j : j + size].astype(weights.dtype), j // size)
            numbers = _numbers(q)
        nearest = np.abs(numbers[:, :, j] - w[:, j]).argmin(axis=0)
        codes[:, j] = s.dtype.ascending[nearest]
        w[:, j] = np.take_along_axis(numbers[:, :, j], nearest[None], axis=0)[0]
    return Coded(replace(q, packed=pack(s.cut.rows(codes), s.layout)))


def _numbers(q: QTensor) -> Array:
    """float64 [n_codes, d_out, d_in]: what each code would be decoded to, at every place."""
    codes = [pack(np.full(q.size, code), q.scheme.layout) for code in q.scheme.dtype.ascending]
    return np.stack([dequantize(replace(q, packed=packed)).astype(np.float64) for packed in codes])


def _refitted(q: QTensor, weights: Array, at: int) -> QTensor:
    """With the scales of other weights in the blocks number `at` of every row."""
    part, parts = quantize(weights, q.scheme), {}
    for name in ("scales", "offsets", "zero_points"):
        if getattr(q, name) is not None:
            parts[name] = getattr(q, name).copy()
            parts[name].reshape(len(weights), -1)[:, at] = getattr(part, name).reshape(-1)
    return replace(q, **parts)
