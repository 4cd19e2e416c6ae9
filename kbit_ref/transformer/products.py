"""Products with matrices that may be quantized: those are decoded a tile of rows at a time, and never as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.dequantize import dequantize
from kbit_ref.qtensor import QTensor
from kbit_ref.quantize import quantize
from kbit_ref.scheme import Scheme

__all__ = ["Matrix", "Parameters", "product", "rows_of", "tiles_of"]

Array = NDArray[Any]
Parameters = Mapping[str, Any]  # arrays; for matrices also `Matrix`
ELEMENTS = 1 << 17  # of a tile, about: decoded they fit the cache


@dataclass(frozen=True, eq=False)
class Matrix:
    """A quantized matrix [d_out, d_in].

    Parameters
    ----------
    q
        What is stored: [d_out, d_in], or [d_in, d_out] if it is `turned`.
    activations
        The scheme in which the other factor of a product is rounded, if it is.
    turned
        Is the QTensor transposed?
    """

    q: QTensor
    activations: Scheme | None = None
    turned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """[d_out, d_in]."""
        return self.q.shape[::-1] if self.turned else self.q.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is decoded."""
        return np.dtype(np.float32)

    @cached_property
    def tiles(self) -> list[tuple[int, QTensor]]:
        """Some rows each, with the number of the first; they look into the same memory."""
        return tiles_of(self.q)


def tiles_of(q: QTensor, about: int = ELEMENTS) -> list[tuple[int, QTensor]]:
    """A quantized matrix as tiles of rows, each a QTensor of views, with the number of its first row.

    A tile begins where a block and a group of the layout begin. Where that never is between two
    rows (blocks along columns, say), the matrix is one tile.

    Examples
    --------
    >>> from kbit_ref import quantize
    >>> q = quantize(np.ones((6, 4)), "int4-b8-absmax-f32")
    >>> [(first, tile.shape) for first, tile in tiles_of(q, about=8)]
    [(0, (2, 4)), (2, (2, 4)), (4, (2, 4))]
    """
    n_rows, n_columns = q.shape
    s, cut = q.scheme, q.scheme.cut
    along_rows = (cut.kind == "channel" and cut.axis in (0, -2)) or (cut.kind == "b" and cut.axis in (1, -1))
    flat = cut.axis is None
    if not q.size or not (flat or along_rows) or (flat and q.offsets is not None and s["center"] == "tensor"):
        return [(0, q)]
    group = math.lcm(s.layout.elements, (cut.size or 1) if flat else 1)  # elements between possible beginnings
    step = group // math.gcd(group, n_columns)  # rows between them
    step *= max(1, about // (step * n_columns))
    found = []
    for first in range(0, n_rows, step):
        last = min(first + step, n_rows)
        begin, end = first * n_columns, last * n_columns
        if along_rows:
            at: Any = slice(first, last)
        else:
            at = np.s_[:] if cut.size is None else np.s_[:, begin // cut.size : -(-end // cut.size)]
        tile = replace(
            q,
            packed=q.packed[s.layout.size(begin) : s.layout.size(end)],
            shape=(last - first, n_columns),
            scales=q.scales[at],
            offsets=None if q.offsets is None else q.offsets[at],
            zero_points=None if q.zero_points is None else q.zero_points[at],
            double=None,
        )
        found.append((first, tile))
    return found


def product(x: Array, weight: Any) -> Array:
    """x [..., d_in] @ weight.T [d_in, d_out] -> [..., d_out]."""
    flat = x.reshape(-1, x.shape[-1])  # one large product instead of many small ones
    if not isinstance(weight, Matrix):
        y: Array = flat @ weight.T
        return y.reshape(*x.shape[:-1], -1)
    if weight.activations is not None:
        flat = dequantize(quantize(flat, weight.activations)).astype(x.dtype, copy=False)
    y = np.zeros((len(flat), weight.shape[0]), x.dtype)
    room = np.empty((max(tile.shape[0] for _, tile in weight.tiles), weight.q.shape[1]), np.float32)
    for first, tile in weight.tiles:
        rows = dequantize(tile, out=room[: tile.shape[0]], threads=1).astype(x.dtype, copy=False)
        last = first + len(rows)
        if weight.turned:  # rows [tile, d_out] are a part of d_in
            y += flat[:, first:last] @ rows
        else:  # rows [tile, d_in] are a part of d_out
            np.matmul(flat, rows.T, out=y[:, first:last])
    return y.reshape(*x.shape[:-1], -1)


def rows_of(weight: Any, index: NDArray[np.intp]) -> Array:
    """weight[index]: the rows of some tokens.  [...] -> [..., d]."""
    if not isinstance(weight, Matrix):
        return np.asarray(weight[index])
    assert not weight.turned  # embeddings never are
    found = np.empty((*index.shape, weight.shape[1]), np.float32)
    for first, tile in weight.tiles:
        here = (index >= first) & (index < first + tile.shape[0])
        if here.any():
            found[here] = dequantize(tile, threads=1)[index[here] - first]
    return found
