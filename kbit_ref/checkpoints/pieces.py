"""A tensor a part at a time, so that its size does not matter.

A tensor lies in a file as [outer, along, inner], `along` being the axis that the cut names. A piece
is a rectangle of the rows of the cut: whole blocks, so that each piece quantizes by itself to the
numbers that the whole would have in that place; or a part of one block of each of its rows, where
a block is larger than a piece (`large.py`). Where the rows run across the file, a piece has many of
them and is narrow: what it reads are stretches of neighbours, and each page is read once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.checkpoints.grid import Rectangle
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Piece", "contiguous", "copied", "of_a_piece", "part_of", "pieces"]

Array = NDArray[Any]
Span = tuple[int, int]  # begin, end
AT_ONCE = 1 << 22  # elements, about
NEIGHBOURS = 1 << 10  # elements that are read together where the rows of the cut run across the file
TILE = 128  # rows and columns that are copied together there


@dataclass(frozen=True)
class Piece:
    """Where a piece lies.

    Parameters
    ----------
    elements
        Its rows and columns among the rows of the cut.
    blocks
        The same counted in blocks.
    whole
        Are its blocks whole, or is it a part of one block of each row?
    """

    elements: Rectangle
    blocks: Rectangle
    whole: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Its rows and columns."""
        return self.elements.shape


def pieces(
    cut: Cut, shape: tuple[int, ...], group: int, blocks: int = 1, *, split: bool = True, at_once: int = AT_ONCE
) -> Iterator[Piece]:
    """All pieces, those of the same blocks one after another, in order.

    Parameters
    ----------
    cut, shape
        Of the tensor.
    group, blocks
        How many codes make a group of the layout, and how many numbers of blocks one of theirs (8
        where zero points are packed).
    split
        May a block be cut in several pieces?
    at_once
        About so many elements make a piece, more if a block is not to be split.

    Examples
    --------
    >>> [piece.shape for piece in pieces(Cut.parse("b3@-1"), (20, 5), 2, at_once=40)]
    [(8, 5), (8, 5), (4, 5)]
    """
    n_rows, length = cut.grid(shape)
    if not n_rows * length:
        return
    per_row = cut.per_row(length)
    width = min(cut.size or length, length)
    outer, _, inner = _axes(cut, shape)
    across = (outer if _by_channel(cut) else inner) > 1  # do rows run across the file?
    narrow = max(1, at_once // min(n_rows, NEIGHBOURS))  # columns of a piece of many rows
    whole = not split or width <= (narrow if across and _by_channel(cut) else at_once)
    unit = math.lcm(width * blocks, group) if whole else group  # columns that fill whole groups
    fits = length % group == 0 and (per_row % blocks == 0 if whole else width % group == 0 and blocks in (1, per_row))
    if _by_channel(cut) and inner % group and math.lcm(inner, group) > narrow:
        fits = False
    if across and fits and length > narrow >= unit:
        rows, columns = _row_spans(cut, shape, NEIGHBOURS, 1), narrow // unit * unit
    elif whole and length <= at_once:
        together = math.lcm(group // math.gcd(length, group), blocks // math.gcd(per_row, blocks))
        rows, columns = _row_spans(cut, shape, at_once // length, together), length
    else:
        unit = unit if unit <= at_once else width if whole else 1
        rows, columns = ((row, row + 1) for row in range(n_rows)), max(unit, at_once // unit * unit)
    for span in rows:
        for begin, end in _column_spans(cut, shape, width, columns, group, whole):
            at = begin // width, -(-end // width)
            yield Piece(Rectangle(span, (begin, end), length), Rectangle(span, at, per_row), whole)


def _row_spans(cut: Cut, shape: tuple[int, ...], most: int, together: int) -> Iterator[Span]:
    """About `most` rows at a time, a multiple of `together` where that can be."""
    outer, along, inner = _axes(cut, shape)
    return _spans(1, along, most, together) if _by_channel(cut) else _spans(outer, inner, most, together)


def _column_spans(
    cut: Cut, shape: tuple[int, ...], width: int, columns: int, group: int, whole: bool
) -> Iterator[Span]:
    """At most so many columns at a time: whole blocks, or parts of one."""
    outer, along, inner = _axes(cut, shape)
    if _by_channel(cut):
        yield from [(0, width)] if whole else _spans(outer, inner, columns, group)
        return
    for block in range(0, along, along if whole else width):
        end = along if whole else min(block + width, along)
        for begin in range(block, end, columns):
            yield begin, min(begin + columns, end)


def _spans(outer: int, inner: int, most: int, together: int) -> Iterator[Span]:
    """Parts of an axis that two axes of the file make: a part has whole inner axes, or lies in one of them."""
    most = max(1, most)
    if inner > most:
        step = most // together * together or most
        for begin in range(0, outer * inner, inner):
            for at in range(begin, begin + inner, step):
                yield at, min(at + step, begin + inner)
        return
    unit = math.lcm(inner, together)
    step = most // unit * unit or most // inner * inner
    for begin in range(0, outer * inner, step):
        yield begin, min(begin + step, outer * inner)


def part_of(x: Array, cut: Cut, piece: Piece) -> Array:
    """The piece of x, a view of three axes that still are to be joined to [rows, columns]."""
    lengths = _axes(cut, x.shape)
    cube = x.reshape(lengths)  # [outer, along, inner]
    rows, columns = piece.elements.rows, piece.elements.columns
    if _by_channel(cut):
        return cube.transpose(1, 0, 2)[slice(*rows), *_two(columns, lengths[2])]
    return cube.transpose(0, 2, 1)[*_two(rows, lengths[2]), slice(*columns)]


def _two(span: Span, inner: int) -> tuple[slice, slice]:
    """A part that `_spans` gave, along the outer and the inner axis."""
    begin, end = span
    first = begin // inner
    if begin % inner == 0 and end % inner == 0:
        return slice(first, end // inner), slice(None)
    return slice(first, first + 1), slice(begin - first * inner, end - first * inner)


def copied(target: Array, source: Array) -> None:
    """Copy between the file and an array of the same shape, a tile at a time.

    Where neighbours of one are no neighbours of the other, NumPy would go through one of them from
    one end to the other for each few elements of the other.
    """
    target, source = target.squeeze(), source.squeeze()
    if source.ndim < 2 or (source.strides[-1] == source.itemsize and target.strides[-1] == target.itemsize):
        target[...] = source
        return
    for row in range(0, source.shape[-2], TILE):
        for column in range(0, source.shape[-1], TILE):
            tile = ..., slice(row, row + TILE), slice(column, column + TILE)
            target[tile] = source[tile]


def contiguous(part: Array, shape: tuple[int, int]) -> Array:
    """[rows, columns]: a part of a file, as it lies there or as an array of its own."""
    if part.flags.c_contiguous and part.flags.aligned:
        return part.reshape(shape)
    result = np.empty(part.shape, part.dtype)
    copied(result, part)
    return result.reshape(shape)


def of_a_piece(s: Scheme) -> Scheme:
    """The scheme for a piece as an array [rows, columns]."""
    if s.cut.axis is None:
        return s
    return replace(s, cut=Cut("channel", None, 0) if s.cut.kind == "channel" else Cut("b", s.cut.size, -1))


def _by_channel(cut: Cut) -> bool:
    """Is a row of the cut what the file has at one place of the axis?"""
    return cut.kind != "b"


def _axes(cut: Cut, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """outer, along, inner: the axis of the cut, what is before it and what is after it."""
    if cut.axis is None:
        n = math.prod(shape)
        return (1, n, 1) if cut.kind == "b" else (1, 1, n)
    axis = cut.axis % len(shape)
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
