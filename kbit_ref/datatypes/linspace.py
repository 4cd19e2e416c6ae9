"""The `linspace` that the authors' tables were made with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["two_ended_linspace"]


def two_ended_linspace(start: float, stop: float, n: int) -> NDArray[np.float32]:
    """float32 [n]: n equidistant points, the lower half counted from `start`, the upper from `stop`.

        step = fl((stop - start) / (n - 1))
        x[i] = fl(start + i * step)  for i < n // 2,  fl(stop - (n - 1 - i) * step)  above

    every fl one rounding to float32 (product and sum fused). This is `torch.linspace` in float32
    on a processor with fused multiply-add; bitsandbytes' tables are built on it, and differ in
    the last bit from correctly rounded decimals (dynamic8: in 72 of 256 levels). float64 holds
    product and sum exactly, so one cast does the one rounding.

    Examples
    --------
    >>> two_ended_linspace(-1, 1, 4)
    array([-1.       , -0.3333333,  0.3333333,  1.       ], dtype=float32)
    """
    first, last = np.float32(start), np.float32(stop)
    step = np.float64((last - first) / np.float32(n - 1))
    i = np.arange(n)
    from_start = np.float64(first) + step * i
    from_stop = np.float64(last) - step * (n - 1 - i)
    return np.where(i < n // 2, from_start, from_stop).astype(np.float32)
