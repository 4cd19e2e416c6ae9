"""Types fitted to data: Lloyd-Max for the normal distribution, and `learn` for your own numbers."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import DataType, register
from kbit_ref.datatypes.literals import computed_by, literal
from kbit_ref.errors import BadInput, UnknownName, message
from kbit_ref.inputs import as_reals

__all__ = ["learn"]

WIDTHS = range(2, 9)


@register("lloyd{bits}", family="learned", source="Lloyd 1982, Max 1960: N(0, 1)", bits=WIDTHS)
def lloyd(bits: int) -> DataType:
    """The least mean squared error for N(0, 1); levels in units of the standard deviation.

    Every level is the mean of its cell, every cell ends at the midpoints. Use with scale rule rms.
    """
    return DataType.from_levels(literal(f"lloyd{bits}"))


def compute_lloyd(bits: int) -> NDArray[np.float64]:
    """float64 [2**bits]: Lloyd-Max levels of N(0, 1), by Newton's method to 1e-12.

    Solves level = mean of the normal on its cell, for the positive half (the rest is its mirror
    image). With edges at the midpoints the Jacobian is tridiagonal.
    """
    from scipy.linalg import solve_banded
    from scipy.stats import norm

    n = 2 ** (bits - 1)
    levels = norm.ppf(0.5 + 0.5 * (np.arange(n) + 0.5) / n) * np.sqrt(3)  # density ~ pdf**(1/3)
    for _ in range(200):
        edges = np.concatenate([[0], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        density = norm.pdf(edges)
        mass = norm.sf(edges[:-1]) - norm.sf(edges[1:])
        mean = (density[:-1] - density[1:]) / mass
        by_lower = density[:-1] * (mean - edges[:-1]) / mass / 2  # d mean / d (a neighbour), half of an edge
        by_upper = density[1:] * (np.where(np.isinf(edges[1:]), 0, edges[1:]) - mean) / mass / 2
        by_lower[0] = 0  # the edge at zero is fixed
        by_upper[-1] = 0
        bands = np.zeros((3, n))
        bands[0, 1:], bands[1], bands[2, :-1] = -by_upper[:-1], 1 - by_lower - by_upper, -by_lower[1:]
        step = solve_banded((1, 1), bands, mean - levels)
        while np.any(np.diff(levels + step, prepend=0) <= 0):
            step /= 2
        levels = levels + step
        if np.max(np.abs(step)) < 1e-12:
            return np.concatenate([-levels[::-1], levels])
    raise AssertionError("Newton's method did not converge")


for _bits in WIDTHS:
    computed_by(f"lloyd{_bits}", partial(compute_lloyd, _bits))


# From data ------------------------------------------------------------------------------------

LEAST_ELEMENTS = 256  # estimate_quantiles asks for as many


def learn(x: Any, method: str, *, estimator: str = "sram") -> DataType:
    """Fit a data type to numbers.

    Parameters
    ----------
    x
        At least 256 finite real numbers, any shape; all that `encode` takes.
    method
        `quantile2` ... `quantile8`: the authors' recipe, 2**bits - 1 quantiles of x, and 0,
        divided by the largest magnitude. `lloyd2` ... `lloyd8`: the levels of least squared error,
        Lloyd's iteration from evenly spaced quantiles to its fixed point; units of x.
    estimator
        For quantiles: `sram`, the authors' (the mean over blocks of 4096 of order statistics), or
        `exact`, order statistics of all of x at once.

    Returns
    -------
    DataType
        Named after its levels, `quantile4~3f9a01c2`; it resolves by name after `kb.register`.

    Raises
    ------
    UnknownName
        `learn: method = 'quantil4', there is no such name; did you mean quantile4? ...`
    BadInput
        `learn: x has 10 elements, at least 256 are needed; give more data`

    Source
    ------
    arXiv 2212.09720, appendix A; bitsandbytes `create_quantile_map`, `kEstimateQuantiles`.

    Examples
    --------
    >>> import numpy as np, kbit_ref as kb
    >>> ramp = kb.learn(np.linspace(-3, 3, 4096), "lloyd2")
    >>> ramp.levels.round(2)
    array([-2.25, -0.75,  0.75,  2.25])
    """
    match = re.fullmatch(r"(quantile|lloyd)([2-8])", method)
    if match is None:
        known = [f"{name}{bits}" for name in ("quantile", "lloyd") for bits in WIDTHS]
        raise UnknownName.among("learn", "method", method, known, "methods are quantile2 to 8 and lloyd2 to 8")
    if estimator not in ESTIMATORS:
        raise UnknownName.among("learn", "estimator", estimator, ESTIMATORS, "use sram or exact")

    data = as_reals("learn", x).astype(np.float64).ravel()
    if not np.isfinite(data).all():
        at = int(np.flatnonzero(~np.isfinite(data))[0])
        rule = "quantiles of NaN or infinity are not defined"
        raise BadInput(message("learn", f"x[{at}] = {data[at]}", rule, "clean the input"))
    if data.size < LEAST_ELEMENTS:
        rule = f"at least {LEAST_ELEMENTS} are needed"
        raise BadInput(message("learn", f"x has {data.size} elements", rule, "give more data"))

    bits = int(match[2])
    levels = learn_quantiles(data, bits, estimator) if match[1] == "quantile" else learn_lloyd(data, bits)
    levels = levels.astype(np.float32).astype(np.float64) + 0.0
    if not np.isfinite(levels).all():
        raise BadInput(message("learn", f"max|x| = {np.abs(data).max()}", "float32 ends at 3.4e38", "scale x down"))
    digest = hashlib.sha256(levels.astype("<f4").tobytes()).hexdigest()[:8]
    source = f"kb.learn(x, {method!r}" + (f", estimator={estimator!r})" if match[1] == "quantile" else ")")
    return DataType.from_levels(levels, name=f"{method}~{digest}", family="learned", source=source)


def sram_quantiles(data: NDArray[np.float64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [n]: the authors' estimate, the mean over blocks of 4096 of order statistics.

    A partial last block is left out, unless it is the only one.
    """
    size = min(4096, data.size)
    blocks = np.sort(data[: data.size // size * size].reshape(-1, size), axis=1)  # [n_blocks, size]
    ranks = np.floor(probabilities * (size - 1) + 0.5).astype(np.intp)  # half away from zero
    return np.asarray(blocks[:, ranks].mean(axis=0))


def exact_quantiles(data: NDArray[np.float64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [n]: order statistics of all the data, the rank rounded half up."""
    ranks = np.floor(probabilities * (data.size - 1) + 0.5).astype(np.intp)
    return np.sort(data)[ranks]


ESTIMATORS = {"sram": sram_quantiles, "exact": exact_quantiles}


def quantile_probabilities(bits: int) -> NDArray[np.float64]:
    """float64 [2**bits - 1]: which of 256 equidistant probabilities the authors' code keeps."""
    n = 2**bits - 1
    offset = 1 / (2 * n)
    kept = np.floor(np.linspace(0, 255, n))
    return np.asarray(offset + kept * (1 - 2 * offset) / 255)


def with_zero(quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append 0, sort, divide by the largest magnitude."""
    levels = np.sort(np.append(quantiles, 0.0))
    largest = np.abs(levels).max()
    return levels / largest if largest > 0 else levels


def learn_quantiles(data: NDArray[np.float64], bits: int, estimator: str) -> NDArray[np.float64]:
    """float64 [2**bits]: the authors' quantile levels of the data."""
    return with_zero(ESTIMATORS[estimator](data, quantile_probabilities(bits)))


def learn_lloyd(data: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """float64 [2**bits]: Lloyd's iteration on sorted data; prefix sums give each cell's mean."""
    ordered = np.sort(data)
    centre = ordered.mean()
    prefix = np.concatenate([[0.0], np.cumsum(ordered - centre)])
    levels = _evenly(ordered, 2**bits)
    if np.unique(levels).size < levels.size:  # heaps of equal numbers: start from the distinct ones
        levels = _evenly(np.unique(ordered), 2**bits)
    for _ in range(10_000):
        edges = np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2, side="right")
        first, last = np.append(0, edges), np.append(edges, ordered.size)
        filled = last > first
        means = centre + (prefix[last] - prefix[first]) / np.maximum(last - first, 1)
        moved = np.where(filled, means, levels)
        if np.array_equal(moved, levels):
            break
        levels = moved
    return np.sort(levels)


def _evenly(ordered: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """float64 [n]: the elements in the middle of n equal parts."""
    return ordered[((np.arange(n) + 0.5) / n * ordered.size).astype(np.intp)]
