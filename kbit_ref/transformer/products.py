"""Products with matrices that may be quantized: those are decoded a tile of rows at a time, and never as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parameters", "product", "rows_of"]

Array = NDArray[Any]
Parameters = Mapping[str, Any]  # arrays, or QTensors for matrices


def product(x: Array, weight: Any) -> Array:
    """x [..., d_in] @ weight.T [d_in, d_out] -> [..., d_out]."""
    flat = x.reshape(-1, x.shape[-1])  # one large product instead of many small ones
    y: Array = flat @ weight.T
    return y.reshape(*x.shape[:-1], -1)


def rows_of(weight: Any, index: NDArray[np.intp]) -> Array:
    """weight[index]: the rows of some tokens.  [...] -> [..., d]."""
    return np.asarray(weight[index])
