"""NumPy arithmetic in a named format, every operation rounded once: float16, bfloat16, float32, float64.

float16 and bfloat16 are computed in float64 from float32 numbers, and rounded once more. A product of
24 by 24 bits is exact there; a quotient is never so near to a tie of 11 bits that 53 could not tell;
a sum, which can be, is rounded to odd first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMATS", "Arithmetic", "identity", "median_error", "odd_quotient", "round_to_integer", "same", "widened"]

Array = Any  # an array, or a number

FORMATS = ("float16", "bfloat16", "float32", "float64")


def widened(words: Array, kind: str = "bfloat16") -> NDArray[Any]:
    """Return the numbers of a format: bfloat16, which NumPy lacks and which comes as uint16, as float32.

    Examples
    --------
    >>> widened(np.array([0x3F80, 0xC000], np.uint16))
    array([ 1., -2.], dtype=float32)
    """
    if kind != "bfloat16":
        return np.asarray(words)
    return np.asarray((words.astype(np.uint32) << np.uint32(16)).view(np.float32))


def identity(numbers: Array) -> NDArray[np.uint64]:
    """Return a word for each number, equal where the numbers are: all NaN are one, the zeros are two."""
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        wide = np.ascontiguousarray(numbers, np.float64).reshape(np.shape(numbers))
    return np.where(np.isnan(wide), np.uint64(2**64 - 1), wide.view(np.uint64))


def same(a: Array, b: Array, *, zeros: bool = True) -> NDArray[np.bool_]:
    """Tell where two arrays hold the same numbers, to the bit: any NaN is as good as another.

    Parameters
    ----------
    zeros
        Do the signs of zeros count?

    Examples
    --------
    >>> same([np.nan, 0.0, 1.0], [-np.nan, -0.0, 1.0]), same(0.0, -0.0, zeros=False)
    (array([ True, False,  True]), array(True))
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind in "biu" and b.dtype.kind in "biu":
        return np.asarray(a == b)
    if a.dtype == b.dtype == np.float32 and a.ndim and b.ndim:
        alike = np.asarray((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b)))
    else:
        alike = np.asarray(identity(a) == identity(b))
    return alike if zeros else np.asarray(alike | ((a == 0) & (b == 0)))


def median_error(ours: Array, theirs: Array) -> float:
    """Return the median of |theirs - ours| / max(|theirs|, |ours|), each at most 1, over the numbers that differ.

    Where one is NaN or infinite and the other is not, the error is 1; of zeros that differ in sign it is 0.

    Examples
    --------
    >>> median_error([2.0, 4.0, np.nan], [1.0, 4.0, 7.0]), median_error([0.0], [-0.0])
    (0.75, 0.0)
    """
    a, b = np.asarray(ours, np.float64).ravel(), np.asarray(theirs, np.float64).ravel()
    differ = ~same(a, b)
    a, b = a[differ], b[differ]
    if not a.size:
        return 0.0
    with np.errstate(all="ignore"):
        larger = np.maximum(np.abs(a), np.abs(b))
        error = np.where(larger == 0, 0.0, np.minimum(np.abs(a / larger - b / larger), 1.0))
    return float(np.median(np.where(np.isfinite(a) & np.isfinite(b), error, 1.0)))


class Arithmetic:
    """One format: arrays are held in `dtype`, results are numbers of the format.

    Examples
    --------
    >>> bf16 = Arithmetic("bfloat16")
    >>> float(bf16.divide(np.float32(1), np.float32(3)))
    0.333984375
    """

    def __init__(self, name: str):
        self.name = name
        self.dtype: Any = np.float64 if name == "float64" else np.float32

    def round(self, x: Array) -> NDArray[Any]:
        """x, of float32 or float64, rounded to nearest even."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if self.name == "float16":
                return np.asarray(x).astype(np.float16).astype(np.float32)
            if self.name != "bfloat16":
                return np.asarray(x).astype(self.dtype, copy=False)
            wide = np.asarray(x)
            if wide.dtype == np.float64:  # to an odd float32 first: no double rounding
                wide = _to_odd_float32(wide)
            word = np.ascontiguousarray(wide, np.float32).view(np.uint32)
            rounded = (word + (np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1)))) & np.uint32(0xFFFF0000)
            return np.where(np.isfinite(wide), rounded.view(np.float32), wide).reshape(np.shape(x))

    def add(self, a: Array, b: Array) -> NDArray[Any]:
        """fl(a + b)."""
        return self._each(np.add, a, b)

    def subtract(self, a: Array, b: Array) -> NDArray[Any]:
        """fl(a - b)."""
        return self._each(np.subtract, a, b)

    def multiply(self, a: Array, b: Array) -> NDArray[Any]:
        """fl(a * b)."""
        return self._each(np.multiply, a, b)

    def divide(self, a: Array, b: Array) -> NDArray[Any]:
        """fl(a / b)."""
        return self._each(np.divide, a, b)

    def _each(self, operation: Any, a: Array, b: Array) -> NDArray[Any]:
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            if self.name in ("float32", "float64"):
                return np.asarray(operation(np.asarray(a, self.dtype), np.asarray(b, self.dtype)))
            x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
            result = operation(x, y)
            if operation is np.add or operation is np.subtract:
                result = _to_odd_sum(x, y if operation is np.add else -y, result)
        return self.round(result)


def round_to_integer(x: Array, ties: str) -> NDArray[Any]:
    """The nearest whole number, a tie as the name says; infinities and NaN stay."""
    if ties == "even":
        return np.asarray(np.rint(x))
    with np.errstate(invalid="ignore"):
        whole = np.floor(x)
        rest = x - whole  # exact
        up = {"away": whole >= 0, "zero": whole < 0, "upper": True, "lower": False}[ties]
        return np.asarray(np.where(np.isfinite(x), whole + ((rest > 0.5) | ((rest == 0.5) & up)), x))


def _to_odd_sum(x: Array, y: Array, total: Array) -> NDArray[np.float64]:
    """x + y, `total` when rounded, as the neighbour with an odd word if it is inexact (Knuth's two-sum)."""
    total = np.asarray(total, np.float64)
    part = total - x
    lost = (x - (total - part)) + (y - part)
    even = total.view(np.uint64) % 2 == 0
    wrong = even & np.isfinite(lost) & (lost != 0)
    return np.asarray(np.where(wrong, np.nextafter(total, np.copysign(np.inf, lost)), total))


def _to_odd_float32(x: NDArray[np.float64]) -> NDArray[np.float32]:
    near = x.astype(np.float32)
    wide = near.astype(np.float64)
    even = near.view(np.uint32) % 2 == 0
    down, up = np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))
    return np.where(even & (wide > x), down, np.where(even & (wide < x), up, near))


def odd_quotient(a: Array, b: Array) -> NDArray[np.float64]:
    """a / b in float64, an inexact quotient as its neighbour with an odd word.

    Every comparison with a number of at most 52 bits comes out as for the true quotient, so it can
    be rounded again. The fractions of a and b are divided, q = m / n; the remainder m - q * n is
    exact in two parts (Dekker's product), and tells the side that rounding took.
    """
    m, e = np.frexp(np.asarray(a, np.float64))
    n, f = np.frexp(np.asarray(b, np.float64))
    with np.errstate(all="ignore"):
        q = m / n
        product = q * n
        q_high, n_high = _upper_half(q), _upper_half(n)
        q_low, n_low = q - q_high, n - n_high
        lost = ((q_high * n_high - product) + q_high * n_low + q_low * n_high) + q_low * n_low
        rest = (m - product) - lost  # its sign is that of m - q * n
        side = np.sign(rest) * np.sign(n)
        even = q.view(np.uint64) % 2 == 0
        q = np.where(even & (np.abs(side) == 1), np.nextafter(q, np.copysign(np.inf, side)), q)
        quotient = np.ldexp(q, e - f)
        least, most = np.float64(5e-324), np.finfo(np.float64).max
        quotient = np.where((quotient == 0) & (q != 0), np.copysign(least, q), quotient)
        return np.where(np.isinf(quotient) & np.isfinite(q), np.copysign(most, q), quotient)


def _upper_half(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper 26 bits of each significand."""
    return (x.view(np.uint64) & np.uint64(0xFFFFFFFFF8000000)).view(np.float64)
