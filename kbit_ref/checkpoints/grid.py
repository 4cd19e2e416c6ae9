"""A rectangle of numbers that a file stores row after row, in groups of a packing layout.

    rows 1:3, columns 4:8 of [n_rows, length]        .  .  .  .  .  .  .  .
                                                     .  .  .  .  X  X  X  X
                                                     .  .  .  .  X  X  X  X

Whole rows, or a part of one row, may begin in the middle of a group: then the codes before it stay
as they are, and those after it are still to come. Any other rectangle is made of whole groups.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.tensors.packing import Layout, pack_into, unpack_from

__all__ = ["Rectangle", "put", "taken"]

Bytes = NDArray[np.uint8]


class Rectangle(NamedTuple):
    """Rows and columns of a grid whose rows have `length` numbers; both pairs are [begin, end)."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    length: int

    @property
    def shape(self) -> tuple[int, int]:
        """Its rows and columns."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.shape[0] * self.shape[1]

    @property
    def first(self) -> int:
        """How many numbers of the grid lie before its first one."""
        return self.rows[0] * self.length + self.columns[0]

    @property
    def joined(self) -> bool:
        """Do its numbers follow each other in the grid?"""
        return self.shape[0] <= 1 or self.shape[1] == self.length


def _place(data: Bytes, elements: int, n_bytes: int, at: Rectangle) -> Bytes:
    """The bytes of the groups that the rectangle touches, a view: 1-D if its numbers follow each other, else 2-D."""
    if at.joined:
        return data[at.first // elements * n_bytes : -(-(at.first + at.size) // elements) * n_bytes]
    of_a_row = at.length // elements * n_bytes
    begin, end = (column // elements * n_bytes for column in at.columns)
    return data.reshape(-1, of_a_row)[at.rows[0] : at.rows[1], begin:end]


def taken(data: Bytes, form: Layout | int, at: Rectangle) -> Bytes:
    """uint8 [n_bytes]: the numbers of the rectangle, packed as if there were no others.

    `form` is their layout, or how many bytes a number has.
    """
    if isinstance(form, int):
        return np.ascontiguousarray(_place(data, 1, form, at)).reshape(-1)
    place, before = _place(data, form.elements, form.bytes, at), at.first % form.elements
    if not (at.joined and before):
        return np.ascontiguousarray(place).reshape(-1)
    packed = np.empty(form.size(at.size), np.uint8)
    pack_into(packed, unpack_from(place, form, 0, before + at.size)[before:], form)
    return packed


def put(data: Bytes, form: Layout | int, at: Rectangle, packed: Bytes, fill: int = 0) -> None:
    """The inverse of `taken`; parts of a row and whole rows are put in order, each fills its last group with `fill`."""
    if isinstance(form, int):
        place, before = _place(data, 1, form, at), 0
    else:
        place, before = _place(data, form.elements, form.bytes, at), at.first % form.elements
    if isinstance(form, int) or not (at.joined and before):
        place[...] = packed.reshape(place.shape)
        return
    codes = [unpack_from(place, form, 0, before), unpack_from(packed, form, 0, at.size)]
    pack_into(place, np.concatenate(codes), form, 0, fill)
