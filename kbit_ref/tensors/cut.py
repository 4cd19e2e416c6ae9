"""Cutting an array into blocks that share a scale, and joining them again.

Every cut is the same picture: the array becomes rows, each row is cut in blocks of `size`, and a
short last block of a row is a block of its own.

    tensor          one row, one block
    b64             one row (C order), blocks of 64
    channel@axis    one row, one block for each index along the axis
    b64@axis        the axis becomes the rows' direction, blocks of 64 along it
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, UnknownName, message

__all__ = ["Cut"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Cut:
    """How an array is cut; `parse` and `str` convert from and to its spelling.

    Examples
    --------
    >>> Cut.parse("b64@-1"), str(Cut.parse("channel@0"))
    (Cut(kind='b', size=64, axis=-1), 'channel')
    """

    kind: str  # tensor, channel, b
    size: int | None = None  # of a block; None: the whole row
    axis: int | None = None  # None: flat

    @classmethod
    def parse(cls, text: str) -> Cut:
        """The cut of that spelling."""
        match = re.fullmatch(r"(tensor)|(channel)(?:@(-?\d+))?|b([1-9]\d*)(?:@(-?\d+))?", text)
        if match is None:
            known = ["tensor", "channel", "channel@1", "b64", "b32@1"]
            raise UnknownName.among(
                "scheme", "cut", text, known, "cuts are tensor, channel, channel@axis, b64, b64@axis"
            )
        tensor, channel, channel_axis, size, block_axis = match.groups()
        if tensor:
            return cls("tensor")
        if channel:
            return cls("channel", None, int(channel_axis or 0))
        return cls("b", int(size), None if block_axis is None else int(block_axis))

    def __str__(self) -> str:
        name = f"b{self.size}" if self.kind == "b" else self.kind
        at_default = self.axis is None or (self.kind == "channel" and self.axis == 0)
        return name if at_default else f"{name}@{self.axis}"

    def rows(self, x: Array) -> Array:
        """[*shape] -> [n_rows, length], a view where NumPy can make one."""
        if self.kind == "channel":
            moved = np.moveaxis(x, self._axis(x.ndim), 0)
            return moved.reshape(moved.shape[0], -1) if x.size else moved.reshape(moved.shape[0], 0)
        if self.axis is None:
            return x.reshape(1, -1)
        axis = self._axis(x.ndim)
        moved = x if axis == x.ndim - 1 else np.moveaxis(x, axis, -1)
        return moved.reshape(-1, moved.shape[-1]) if x.size else np.empty((0, moved.shape[-1]), x.dtype)

    def join(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """[n_rows, length] -> [*shape], the inverse of `rows`."""
        if self.axis is None:
            return rows.reshape(shape)
        axis = self._axis(len(shape))
        if self.kind == "b" and axis == len(shape) - 1:
            return rows.reshape(shape)
        others = [n for i, n in enumerate(shape) if i != axis]
        if self.kind == "channel":
            return np.moveaxis(rows.reshape(shape[axis], *others), 0, axis)
        return np.moveaxis(rows.reshape(*others, shape[axis]), -1, axis)

    def place(self, shape: tuple[int, ...], row: int, column: int) -> tuple[int, ...]:
        """The index in the array of an element of the rows.

        Examples
        --------
        >>> Cut.parse("b64@0").place((3, 4), 1, 2)  # of 4 rows of 3
        (2, 1)
        """
        if self.axis is None:
            return tuple(int(i) for i in np.unravel_index(column, shape))
        axis = self._axis(len(shape))
        others = [n for i, n in enumerate(shape) if i != axis]
        along, across = (row, column) if self.kind == "channel" else (column, row)
        index = [int(i) for i in np.unravel_index(across, others)] if others else []
        return (*index[:axis], along, *index[axis:])

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(n_rows, length) of an array of that shape, without one."""
        n = math.prod(shape)
        if self.axis is None:
            return 1, n
        along = shape[self._axis(len(shape))]
        across = n // along if along else 0
        return (along, across) if self.kind == "channel" else (across, along)

    def per_row(self, length: int) -> int:
        """Blocks in a row, a short last one included."""
        return -(-length // (self.size or max(length, 1)))

    def _axis(self, ndim: int) -> int:
        assert self.axis is not None
        if not -ndim <= self.axis < ndim:
            got, rule = f"cut = {self} for x of {ndim} dimensions", f"axes are {-ndim} to {ndim - 1}"
            raise BadInput(message("quantize", got, rule, "choose another axis, or a flat cut such as b64"))
        return self.axis % ndim
