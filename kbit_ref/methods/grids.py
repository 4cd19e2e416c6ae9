"""A matrix whose codes are chosen one column at a time, on the grid that its blocks decode to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.errors import BadInput, message
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.dequantize import values_of
from kbit_ref.tensors.packing import pack_into
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scales import effective
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Grids", "columns_of_a_block", "of_elements"]

Array = NDArray[Any]
PARTS = ("scales", "offsets", "zero_points")


class Grids:
    """What every block of a matrix can hold, and the codes chosen so far.

    A block with its scale (and offset, zero point, global scale) decodes each code to one number: its grid. An element
    goes to the nearest number of its block's grid, whatever the type, the rule and the encoder.

    Parameters
    ----------
    function
        Who asks, for the text of errors.
    weights
        float [d_out, d_in]; the blocks begin with the scales that the scheme finds in it.
    s
        The scheme.

    Examples
    --------
    >>> from kbit_ref import scheme
    >>> grids = Grids("gptq", np.array([[0.0, 7.0], [0.0, 14.0]]), scheme("int4-channel-absmax-f32"))
    >>> grids.nearest(1, np.array([2.4, 2.4]))  # steps of 1 in the first row, of 2 in the second
    array([2., 2.])
    """

    def __init__(self, function: str, weights: Array, s: Scheme):
        if s.dtype.rounding != "nearest":
            got, rule = f"scheme = {s}", "every element goes to the nearest number"
            raise BadInput(message(function, got, rule, "leave rounding out"))
        self.function, self.s = function, s
        self.q = quantize(weights, s)
        # float64 stays, all else is float32, in which the scheme's arithmetic is then done
        self.kind = np.float64 if np.asarray(weights).dtype == np.float64 else np.float32
        parts = {name: getattr(self.q, name) for name in PARTS}
        self.parts: dict[str, Array] = {name: part.copy() for name, part in parts.items() if part is not None}
        self.block = _blocks(s.cut, self.q.shape)  # [d_out, d_in]
        self.codes = np.empty(self.q.shape, np.uint8)
        self.choices = np.tile(s.dtype.ascending.astype(np.uint8), (self.q.shape[0], 1))  # [d_out, n_codes]
        self._check(self.q)

    def refit(self, first: int, weights: Array) -> None:
        """Blocks, one in each row, that begin at column `first` get the scales of other weights [d_out, size]."""
        part = quantize(np.ascontiguousarray(weights, self.kind), self.s, threads=1)
        self._check(part)
        at = self.block[:, first]
        for name, values in self.parts.items():
            values.reshape(-1)[at] = getattr(part, name).reshape(-1)

    def nearest(self, column: int, weights: Array) -> Array:
        """float64 [d_out]: the numbers nearest to the weights of a column, whose codes are kept."""
        numbers, scale = self.numbers(column)
        at = np.abs(numbers - weights[:, None]).argmin(axis=1)[:, None]
        codes = np.take_along_axis(self.choices, at, axis=1)
        self.codes[:, column] = np.where(scale == 0, self.s.code_of_zero, codes)[:, 0]
        return np.take_along_axis(numbers, at, axis=1)[:, 0]

    def numbers(self, column: int) -> tuple[Array, Array]:
        """float64 [d_out, n_codes]: the grid of each element of a column; and [d_out, 1], its scale."""
        at = self.block[:, column, None]
        of = {name: part if part.size == 1 else part.reshape(-1)[at] for name, part in self.parts.items()}
        scale = effective(self.s, Arithmetic("float32"), self.q.global_scale, of["scales"])
        grid = values_of(self.s, self.choices, scale, of.get("zero_points"), of.get("offsets"))
        return grid.astype(np.float64), scale

    def qtensor(self) -> QTensor:
        """What is stored, once every column has its codes."""
        packed = np.empty(self.s.layout.size(self.q.size), np.uint8)
        pack_into(packed, np.ascontiguousarray(self.s.cut.rows(self.codes)), self.s.layout, 0, self.s.fill)
        parts: dict[str, Any] = self.parts
        return replace(self.q, packed=packed, **parts)

    def _check(self, q: QTensor) -> None:
        for scale in q.scales[~np.isfinite(q.scales)][:1]:
            got, rule = f"a block scale of {scale}", "no number of its grid is finite"
            raise BadInput(message(self.function, got, rule, "use a wider scale"))


def columns_of_a_block(cut: Cut, shape: tuple[int, ...]) -> int | None:
    """How many columns a block covers, if every block lies in one row of the matrix and all rows are cut alike.

    Examples
    --------
    >>> [columns_of_a_block(Cut.parse(text), (4, 96)) for text in ("b32", "b64", "b64@-1", "b64@0", "tensor")]
    [32, None, 64, None, None]
    """
    if cut.kind != "b" or cut.size is None:
        return None
    aligned = shape[1] % cut.size == 0 if cut.axis is None else cut.axis in (1, -1)
    return cut.size if aligned else None


def of_elements(of_blocks: Array, cut: Cut, shape: tuple[int, ...]) -> Array:
    """[*shape]: for each element what its block has, as [n_rows, n_blocks] are stored; one number stays [1, 1].

    Examples
    --------
    >>> of_elements(np.array([[1.0, 2.0, 3.0]]), Cut.parse("b3"), (2, 4))
    array([[1., 1., 1., 2.],
           [2., 2., 3., 3.]])
    """
    return of_blocks if of_blocks.size == 1 else of_blocks.reshape(-1)[_blocks(cut, shape)]


def _blocks(cut: Cut, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """intp [d_out, d_in]: the number of the block of each element, as the scales are stored."""
    n_rows, length = cut.grid(shape)
    columns = np.arange(length) // (cut.size or length)
    return np.ascontiguousarray(cut.join(np.arange(n_rows)[:, None] * cut.per_row(length) + columns, shape))
