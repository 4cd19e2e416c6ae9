"""A matrix product without error: each element is the exact sum of products, correctly rounded to float64.

The matrices are cut into slices of a few bits, so few that BLAS multiplies two slices without any
rounding, in whatever order it adds; what is left is a sum of a few numbers an element
(K. Ozaki, T. Ogita, S. Oishi, S. M. Rump: Error-free transformations of matrix multiplication by
using fast routines of matrix multiplication, Numerical Algorithms 59, 2012).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Product", "exact_product", "tiles", "two_sum"]

Array = NDArray[Any]
TILE = 256  # rows and columns of the result computed at once


class Product(NamedTuple):
    """Per element: the product correctly rounded, what rounding took, and how far that may be wrong itself."""

    centre: NDArray[np.float64]  # [M, N]
    rest: NDArray[np.float64]  # exact - centre, nearly
    doubt: NDArray[np.float64]  # |exact - centre - rest| is no more


def two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """Return fl(x + y) and its rounding error, exactly (D. E. Knuth, The Art of Computer Programming 2, 4.2.2)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def exact_product(a: Array, b: Array) -> Product:
    """Compute a [M, K] @ b [K, N], float32 or float64, every element correctly rounded.

    Numbers are finite; all float32 numbers will do, of other float64 numbers those between 2**-200 and 2**200.

    Examples
    --------
    >>> one_third = np.float64(np.float32(1 / 3))
    >>> float(exact_product(np.array([[1.0, one_third, -1.0]]), np.array([[2.0**60], [3.0], [2.0**60]])).centre[0, 0])
    1.0000000298023224
    """
    found = Product(*(np.zeros((len(a), b.shape[1])) for _ in range(3)))
    for at in tiles(len(a), b.shape[1]):
        for whole, part in zip(found, _tile(a[at[0]].astype(np.float64), b[:, at[1]].astype(np.float64)), strict=True):
            whole[at] = part
    return found


def tiles(n_rows: int, n_columns: int) -> Iterator[tuple[slice, slice]]:
    """Yield the squares of a result, so that each needs little memory."""
    for row in range(0, n_rows, TILE):
        for column in range(0, n_columns, TILE):
            yield slice(row, row + TILE), slice(column, column + TILE)


def _tile(a: NDArray[np.float64], b: NDArray[np.float64]) -> Product:
    shape = len(a), b.shape[1]
    right = _slices(b.T)
    terms = [p @ q.T for p in _slices(a) for q in right]  # each of them exact
    total, rest, size = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for term in terms:
        total, lost = two_sum(total, term)
        rest += lost
        size += np.abs(lost)
    doubt = (len(terms) + 2) * 2.0**-52 * size  # of additions in `rest`; Higham, Accuracy and Stability, (4.4)
    centre, rest = two_sum(total, rest)
    gap = np.abs(centre - np.nextafter(centre, 0))
    unsure = (doubt > 0) & ((np.abs(rest) + doubt) * (1 + 2.0**-50) >= gap / 2)
    for i in zip(*np.nonzero(unsure), strict=True):  # next to a tie: fsum has no error
        numbers = [float(term[i]) for term in terms]
        centre[i] = math.fsum(numbers)
        rest[i] = math.fsum([*numbers, -float(centre[i])])
        doubt[i] = abs(rest[i]) * 2.0**-52
    return Product(centre, rest, doubt)


def _slices(rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Split `rows` [n, K] into matrices of few bits that sum up to it: numbers are whole numbers of units of a row.

    That whole number is at most 2**bits, and K * 2**bits * 2**bits at most 2**53: sums of products of
    slices are whole numbers that float64 holds.
    """
    bits = (53 - (rows.shape[1] - 1).bit_length()) // 2
    found, left = [], rows
    while left.any():
        _, exponent = np.frexp(np.abs(left).max(axis=1, keepdims=True))
        unit = np.ldexp(1.0, exponent - bits)
        part = np.rint(left / unit) * unit
        found.append(part)
        left = left - part  # exact: a whole number of smaller units
    return found
