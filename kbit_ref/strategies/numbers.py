"""Numbers of a data type, and numbers beside them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from kbit_ref.conformance.cases.of_types import finite_levels, midpoints
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.strategies.search import st

__all__ = ["SOURCES", "beside", "format_of", "levels_of", "near_midpoints", "points_of"]

SOURCES = ("float32", "float16", "float64")
ULPS = (0, -1, 1)  # from a midpoint: on it, next below, next above


def levels_of(dtype: DataType | str, *, special: bool = False) -> st.SearchStrategy[float]:
    """Draw levels of a type that `encode` gives.

    Examples shrink to 0, or the level nearest to it; of two as near, the positive one.

    Parameters
    ----------
    special
        NaN, infinities and -0 too, of those that the type has.

    Examples
    --------
    >>> from kbit_ref.strategies import simplest
    >>> simplest(levels_of("nf4"), lambda level: level < 0)
    -0.09105003625154495
    """
    d = datatype(dtype)
    found = sorted(finite_levels(d).tolist(), key=_simple)
    others = [x for x in d.levels[d.emitted].tolist() if not np.isfinite(x) or (x == 0 and np.signbit(x))]
    some = st.sampled_from(found)
    return st.one_of(some, st.sampled_from(others)) if special and others else some


def _simple(x: float) -> tuple[float, bool]:
    return abs(x), x < 0


def near_midpoints(dtype: DataType | str, *, source: str = "float32") -> st.SearchStrategy[float]:
    """Draw numbers of a format that lie on a midpoint between two levels, or next to one on either side.

    Examples shrink to the midpoint nearest to 0, the positive one of two; then to what is next below it, then above.
    A midpoint that the format does not have is represented by its neighbours.

    Parameters
    ----------
    source
        The format: float16, float32, float64.

    Raises
    ------
    UnknownName
        `near_midpoints: source = 'float8', there is no such name; ...`

    Examples
    --------
    >>> from kbit_ref.strategies import simplest
    >>> simplest(near_midpoints("int4"), lambda x: True), simplest(near_midpoints("int4"), lambda x: x > 0.5)
    (0.5, 0.5000000596046448)
    """
    kind = format_of("near_midpoints", source)
    points = points_of(datatype(dtype))
    if not points:
        rule = f"{datatype(dtype)} has one level, and no midpoint"
        raise BadInput(message("near_midpoints", f"dtype = {dtype}", rule, "use levels_of"))
    return st.sampled_from([float(beside(kind, *point)) for point in points])


@lru_cache(maxsize=256)
def points_of(d: DataType) -> list[tuple[float, int]]:
    """Return midpoints, each with distances in ulp; the simplest first: one index for both shrinks well."""
    return [(x, ulps) for x in sorted(midpoints(d).tolist(), key=_simple) for ulps in ULPS]


def format_of(function: str, source: str) -> Any:
    """Return the NumPy type of a format."""
    if source not in SOURCES:
        raise UnknownName.among(function, "source", source, SOURCES, f"use {', '.join(SOURCES)}")
    return np.dtype(source).type


def beside(kind: Any, x: float, ulps: int) -> Any:
    """Return the number of a format next to x, below or above it; for 0, the nearest."""
    with np.errstate(over="ignore", under="ignore"):
        near = kind(x)
        if ulps == 0 or (ulps < 0 and float(near) < x) or (ulps > 0 and float(near) > x):
            return near
        return np.nextafter(near, kind(ulps * np.inf))
