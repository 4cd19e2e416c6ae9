"""Products with matrices: arrays, or objects that know how they are multiplied (`Factor`).

Quantized ones (`Matrix`) are decoded a tile of rows at a time (1 MiB, or 8 MiB where many rows are multiplied), and
as a whole only if something has to be done to the decoded matrix (`methods.coded.Step`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kbit_ref.methods.coded import Coded, Step
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.kernels import Room
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Factor", "Matrix", "Parameters", "product", "rows_of", "tiles_of"]

Array = NDArray[Any]
Parameters = Mapping[str, Any]  # arrays; for matrices also a `Factor`
ELEMENTS = 1 << 18  # of a tile, about: decoded they fit the cache, which counts where they are used once
MANY = 32  # rows of the other factor from which on a product takes longer than decoding does
OF_MANY = 1 << 21  # elements of a tile then: many small products are slower than one large one


class Factor(Protocol):
    """A matrix [d_out, d_in] that is no array and does its own products: a quantized one, or one that listens."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[d_out, d_in]."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers."""

    def times(self, x: Array) -> Array:
        """x [n, d_in] @ W.T -> [n, d_out]."""

    def rows(self, index: NDArray[np.intp]) -> Array:
        """W[index]: [...] -> [..., d_in]."""


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
    steps
        What is done to the decoded matrix; with any the matrix is decoded as a whole in every product.
    """

    q: QTensor
    activations: Scheme | None = None
    turned: bool = False
    steps: Sequence[Step] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """[d_out, d_in]."""
        return self.q.shape[::-1] if self.turned else self.q.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is decoded."""
        return np.dtype(np.float32)

    @property
    def bits(self) -> int:
        """All bits stored, those of the steps too."""
        return Coded(self.q, self.steps).bits

    @cached_property
    def tiles(self) -> list[tuple[int, QTensor]]:
        """Some rows each, with the number of the first; they look into the same memory."""
        return [(0, self.q)] if self.steps else tiles_of(self.q)

    @cached_property
    def large_tiles(self) -> list[tuple[int, QTensor]]:
        """The same for products with many rows."""
        return [(0, self.q)] if self.steps else tiles_of(self.q, OF_MANY)

    def decoded(self, tile: QTensor, out: NDArray[np.float32] | None = None, room: Room | None = None) -> Array:
        """float32: the rows of a tile, after the steps."""
        x: Array = dequantize(tile, out=out, threads=1, room=room)
        for step in self.steps:
            x = step(x)
        return x

    def times(self, x: Array) -> Array:
        """x [n, d_in] @ W.T -> [n, d_out]."""
        if self.activations is not None:
            x = dequantize(quantize(x, self.activations)).astype(x.dtype, copy=False)
        y = (np.zeros if self.turned else np.empty)((len(x), self.shape[0]), x.dtype)
        tiles = self.tiles if len(x) < MANY else self.large_tiles
        largest = max(tile.shape[0] for _, tile in tiles)
        target, room = np.empty((largest, self.q.shape[1]), np.float32), Room(largest * self.q.shape[1])
        for first, tile in tiles:
            rows = self.decoded(tile, target[: tile.shape[0]], room).astype(x.dtype, copy=False)
            last = first + len(rows)
            if self.turned:  # rows [tile, d_out] are a part of d_in
                y += x[:, first:last] @ rows
            else:  # rows [tile, d_in] are a part of d_out
                np.matmul(x, rows.T, out=y[:, first:last])
        return y

    def rows(self, index: NDArray[np.intp]) -> Array:
        """W[index]: [...] -> [..., d_in]."""
        assert not self.turned  # embeddings never are
        found = np.empty((*index.shape, self.shape[1]), np.float32)
        for first, tile in self.tiles:
            here = (index >= first) & (index < first + tile.shape[0])
            if here.any():
                found[here] = self.decoded(tile)[index[here] - first]
        return found


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


def product(x: Array, weight: Array | Factor) -> Array:
    """x [..., d_in] @ weight.T [d_in, d_out] -> [..., d_out]."""
    flat = x.reshape(-1, x.shape[-1])  # one large product instead of many small ones
    y: Array = flat @ weight.T if isinstance(weight, np.ndarray) else weight.times(flat)
    return y.reshape(*x.shape[:-1], -1)


def rows_of(weight: Array | Factor, index: NDArray[np.intp]) -> Array:
    """weight[index]: the rows of some tokens.  [...] -> [..., d]."""
    return np.asarray(weight[index]) if isinstance(weight, np.ndarray) else weight.rows(index)
