"""The encoders of `exact/encoders.py` on arrays: y float32 or float64 in, codes out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode
from kbit_ref.exact.encoders import BINS, FP4_TREE, NF4_TREE, constant
from kbit_ref.tensors.scheme import Scheme

__all__ = ["ENCODERS"]

Array = NDArray[Any]
Codes = NDArray[np.uint8]
Encoder = Callable[[Scheme, Arithmetic, Array], Codes]

ENCODERS: dict[str, Encoder] = {}


def encoder(name: str) -> Callable[[Encoder], Encoder]:
    """Decorate the encoder of that name."""

    def decorate(function: Encoder) -> Encoder:
        ENCODERS[name] = function
        return function

    return decorate


@lru_cache(maxsize=4)
def _constants(texts: tuple[str, ...]) -> NDArray[np.float32]:
    return np.array([float(constant(text)) for text in texts], np.float32)


@encoder("nearest")
def nearest(s: Scheme, a: Arithmetic, y: Array) -> Codes:
    """The engine."""
    return encode(s.dtype, y, threads=1)


@encoder("argmin")
def argmin(s: Scheme, a: Arithmetic, y: Array) -> Codes:
    """Rounded differences, level by level."""
    codes = np.sort(s.dtype.emitted[np.isfinite(s.dtype.levels[s.dtype.emitted])]).astype(np.uint8)
    best = np.full(y.shape, np.inf, a.dtype)
    found = np.full(y.shape, codes[0])
    for code in codes:
        difference = np.abs(a.subtract(y, a.dtype(s.dtype.levels[code])))
        closer = difference < best
        best[closer], found[closer] = difference[closer], code
    bad = ~np.isfinite(y)
    if bad.any():
        found[bad] = encode(s.dtype, y[bad], threads=1)
    return found


@encoder("midpoints32")
def midpoints32(s: Scheme, a: Arithmetic, y: Array) -> Codes:
    """Sorted midpoints: how many lie below."""
    if np.isnan(y).any():
        return np.where(np.isnan(y), nearest(s, a, y), midpoints32(s, a, np.where(np.isnan(y), a.dtype(0), y)))
    codes, midpoints = _midpoints32(s.dtype)
    return codes[np.searchsorted(midpoints, y)]


@lru_cache(maxsize=16)
def _midpoints32(dtype: DataType) -> tuple[Codes, Array]:
    """The codes in order of their levels, and the midpoints of neighbours in float32."""
    finite = np.flatnonzero(np.isfinite(dtype.levels))
    order = finite[np.argsort(dtype.levels[finite], kind="stable")]
    levels = dtype.levels[order].astype(np.float32)
    return order.astype(np.uint8), (levels[:-1] + levels[1:]) * np.float32(0.5)


@encoder("bnb_nf4")
def bnb_nf4(s: Scheme, a: Arithmetic, y: Array) -> Codes:
    """The tree as sorted thresholds."""
    thresholds = _constants(tuple(NF4_TREE))
    lowest = np.where(np.isnan(y), -np.inf, y)  # no comparison with NaN holds
    return np.searchsorted(thresholds, lowest).astype(np.uint8)


@encoder("bnb_fp4")
def bnb_fp4(s: Scheme, a: Arithmetic, y: Array) -> Codes:
    """The tree as sorted thresholds: how many lie below the magnitude."""
    thresholds = _constants(tuple(text for text, _ in reversed(FP4_TREE)))
    codes = np.array([0, *(code for _, code in reversed(FP4_TREE))], np.uint8)
    with np.errstate(invalid="ignore"):
        magnitude = np.where(np.isnan(y), 0, np.abs(y))
        return np.asarray(codes[np.searchsorted(thresholds, magnitude)] + np.uint8(8) * (y < 0), np.uint8)


@encoder("bnb_bins")
def bnb_bins(s: Scheme, a: Arithmetic, y: Array) -> Codes:
    """The table of bins."""
    if np.isnan(y).any():
        return nearest(s, a, y)  # which refuses it
    with np.errstate(over="ignore", under="ignore"):
        narrow = np.asarray(y, np.float32)
    inside = np.clip(narrow, np.float32(-1), np.float32(1))
    half = (inside + np.float32(1)) * np.float32(0.5)
    fused = (half.astype(np.float64) * (BINS - 1) + 0.5).astype(np.float32)  # exact in float64: 24 + 16 bits
    return _bins(s.dtype)[fused.astype(np.intp)]


@lru_cache(maxsize=16)
def _bins(dtype: DataType) -> Codes:
    """uint8 [65536]: the code of every bin."""
    order = np.argsort(dtype.levels, kind="stable")
    levels = dtype.levels[order].astype(np.float32)
    midpoints = (levels[:-1] + levels[1:]) * np.float32(0.5)
    centres = np.float32(-1) + np.arange(0, 2 * BINS, 2).astype(np.float32) / np.float32(BINS - 1)
    return order.astype(np.uint8)[np.searchsorted(midpoints, centres)]


@encoder("addhalf")
def addhalf(s: Scheme, a: Arithmetic, y: Array) -> Codes:
    """Add, cut, and name the integer."""
    return _counted(s, a, y, 0.5, 0.0)


@encoder("addround")
def addround(s: Scheme, a: Arithmetic, y: Array) -> Codes:
    """Add, round, and name the integer."""
    return _counted(s, a, y, 0.0, 0.5)


def _counted(s: Scheme, a: Arithmetic, y: Array, rounded: float, exactly: float) -> Codes:
    """The whole part of fl(y - lowest + rounded) + exactly; the last sum is exact in float64."""
    levels = s.dtype.levels[s.dtype.emitted]
    lowest, highest = float(levels.min()), float(levels.max())
    with np.errstate(invalid="ignore"):
        shifted = np.clip(a.add(y, a.dtype(rounded - lowest)).astype(np.float64), 0, highest - lowest)
        return encode(s.dtype, np.floor(shifted + exactly) + lowest, threads=1)
