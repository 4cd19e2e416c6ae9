"""A tensor a part at a time, so that its size does not matter.

A piece is some rows of the cut, or some columns of its only row: whole blocks, so that each piece
quantizes by itself to the bytes that the whole would have in that place. It begins a group of the
packing layout, and the number of blocks before it is a multiple of 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.blocks import Cut
from kbit_ref.scheme import Scheme

__all__ = ["Piece", "of_a_piece", "part_of", "pieces"]

Array = NDArray[Any]
AT_ONCE = 1 << 22  # elements, about


@dataclass(frozen=True)
class Piece:
    """Where a piece lies.

    Parameters
    ----------
    index
        Of the tensor as `part_of` turns it.
    shape
        Its rows and columns.
    first
        The number of elements before it.
    blocks
        The first of its blocks, and the one after the last.
    """

    index: tuple[slice, ...]
    shape: tuple[int, int]
    first: int
    blocks: tuple[int, int]

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.shape[0] * self.shape[1]


def pieces(cut: Cut, shape: tuple[int, ...], group: int, at_once: int = AT_ONCE) -> Iterator[Piece]:
    """All pieces in order; `group` is the number of elements in a group of the layout.

    Examples
    --------
    >>> [piece.shape for piece in pieces(Cut.parse("b3@-1"), (20, 5), 2, at_once=40)]
    [(8, 5), (8, 5), (4, 5)]
    """
    n_rows, length = cut.grid(shape)
    per_row = cut.per_row(length)
    if not n_rows * length:
        return
    if _flat(cut, len(shape)):
        width = cut.size or 1  # of a single block, any columns; all of them share it
        unit = math.lcm(8 * width, group)
        step = max(1, at_once // unit) * unit
        for begin in range(0, length, step):
            end = min(begin + step, length)
            blocks = (begin // width, -(-end // width)) if cut.size else (0, 1)
            yield Piece((slice(None), slice(begin, end)), (1, end - begin), begin, blocks)
        return
    lead = shape[cut.axis or 0] if cut.kind == "channel" else _others(cut, shape)[0]
    rows = n_rows // lead  # for each index of the leading axis
    unit = math.lcm(group // math.gcd(rows * length, group), 8 // math.gcd(rows * per_row, 8))
    step = max(1, at_once // (rows * length * unit)) * unit
    for begin in range(0, lead, step):
        end = min(begin + step, lead)
        first = begin * rows * length
        blocks = begin * rows * per_row, end * rows * per_row
        yield Piece((slice(begin, end),), ((end - begin) * rows, length), first, blocks)


def part_of(x: Array, cut: Cut, piece: Piece) -> Array:
    """The piece of x, a view: its rows, not yet flattened to [rows, columns]."""
    if _flat(cut, x.ndim):
        return x.reshape(1, -1)[piece.index]
    assert cut.axis is not None
    return np.moveaxis(x, cut.axis, 0 if cut.kind == "channel" else -1)[piece.index]


def of_a_piece(s: Scheme) -> Scheme:
    """The scheme for a piece as an array [rows, columns]."""
    if s.cut.axis is None:
        return s
    return replace(s, cut=Cut("channel", None, 0) if s.cut.kind == "channel" else Cut("b", s.cut.size, -1))


def _flat(cut: Cut, ndim: int) -> bool:
    """Is there one row, in the order of memory?"""
    return cut.axis is None or (cut.kind == "b" and ndim == 1)


def _others(cut: Cut, shape: tuple[int, ...]) -> list[int]:
    assert cut.axis is not None
    return [n for i, n in enumerate(shape) if i != cut.axis % len(shape)]
