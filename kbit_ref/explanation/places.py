"""Where an element stands: in x, in the rows of the cut, in the packed bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index as as_index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, BadType, message
from kbit_ref.explanation.explanation import Place
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.packing import Layout

__all__ = ["Spot", "index_of", "places_of", "positions", "spot_of"]

Array = NDArray[Any]


def index_of(index: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index as a number >= 0 for each dimension."""
    try:
        wanted = [as_index(i) for i in (index if isinstance(index, tuple | list) else [index])]
    except TypeError:
        raise BadType(message("explain", f"index = {index!r}", "it is no integer", "use 5, or (2, 7)")) from None
    shown = f"index = {wanted[0] if len(wanted) == 1 else tuple(wanted)}"
    size = math.prod(shape)
    if size == 0:
        raise BadInput(message("explain", shown, "x has no elements", "pass an array with some"))
    sizes = list(shape)
    if len(wanted) != len(shape):
        if len(wanted) != 1:
            remedy = "give a number for each, or one for the order of memory"
            raise BadInput(message("explain", shown, f"x has {len(shape)} dimensions", remedy))
        sizes = [size]
    for axis, (i, n) in enumerate(zip(wanted, sizes, strict=True)):
        if not -n <= i < n:
            rule = f"x has {n} element{'s' * (n != 1)}" + (f" along axis {axis}" if len(sizes) > 1 else "")
            raise BadInput(message("explain", shown, rule, f"use {-n} to {n - 1}"))
    found = tuple(i % n for i, n in zip(wanted, sizes, strict=True))
    return found if len(wanted) == len(shape) else _unravel(found[0], shape)


class Spot(NamedTuple):
    """An element in the cut: its row and column, and the length of a row."""

    row: int
    column: int
    length: int


def spot_of(cut: Cut, shape: tuple[int, ...], at: tuple[int, ...]) -> Spot:
    """Where an element of x comes to lie."""
    if cut.axis is None:
        return Spot(0, _ravel(at, shape), math.prod(shape))
    axis = cut.axis % len(shape)
    sizes, rest = shape[:axis] + shape[axis + 1 :], at[:axis] + at[axis + 1 :]
    if cut.kind == "channel":
        return Spot(at[axis], _ravel(rest, sizes), math.prod(sizes))
    return Spot(_ravel(rest, sizes), at[axis], shape[axis])


def positions(cut: Cut, shape: tuple[int, ...], row: int, columns: Array) -> tuple[Any, ...]:
    """The inverse for columns [n] of a row: an index for each dimension, [n] each or one number."""
    if cut.axis is None:
        return np.unravel_index(columns, shape) if shape else ()
    axis = cut.axis % len(shape)
    sizes = shape[:axis] + shape[axis + 1 :]
    if cut.kind == "channel":
        rest: tuple[Any, ...] = np.unravel_index(columns, sizes) if sizes else ()
        return (*rest[:axis], row, *rest[axis:])
    rest = _unravel(row, sizes)
    return (*rest[:axis], columns, *rest[axis:])


def _ravel(at: Sequence[int], shape: Sequence[int]) -> int:
    flat = 0
    for i, n in zip(at, shape, strict=True):
        flat = flat * n + i
    return flat


def _unravel(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    found = []
    for n in reversed(shape):
        flat, i = divmod(flat, n)
        found.append(i)
    return tuple(reversed(found))


def places_of(form: Layout, position: int) -> tuple[tuple[Place, ...], tuple[int, int] | None]:
    """Where the bits of a packed code lie, its lowest bit first."""
    group, element = divmod(position, form.elements)
    if form.digits:
        found = [(byte, elements.index(element)) for byte, elements in enumerate(form.digits) if element in elements]
        return (), (group * form.bytes + found[0][0], found[0][1])
    places = [
        Place(place[1], group * form.bytes + at // 8, at % 8)
        for at, place in enumerate(form.places)
        if place is not None and place[0] == element
    ]
    return tuple(sorted(places, key=lambda place: place.bit)), None
