"""Which elements of a block its scale depends on: of a large one, only those go through the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.tensors.scheme import Scheme

__all__ = ["BY_ENDS", "MANY", "seen"]

MANY = 4096  # elements that the definition takes in less than a second

BY_ENDS = (  # rules that look at nothing but the smallest and the largest number
    *("absmax", "absmaxhalf", "absmaxfull", "signedmax"),
    *("minmax", "affine", "affineplain", "mlx", "hqq"),
    *("pow2floor", "pow2ceil", "pow2even", "pow2even1", "pow2rceil"),
)


def seen(s: Scheme, numbers: NDArray[Any], element: int) -> NDArray[np.intp]:
    """intp [n]: the element, and all that its code depends on, in order.

    Parameters
    ----------
    s
        The scheme.
    numbers : [size]
        The block, as numbers.
    element
        Which of them is explained.

    Examples
    --------
    >>> from kbit_ref.tensors.scheme import scheme
    >>> seen(scheme("int4-tensor-absmax-f32"), np.arange(5000.0), 7)
    array([   0,    7, 4999])
    >>> seen(scheme("int4-tensor-rms-f32"), np.arange(5000.0), 7).size
    5000
    """
    # a number that is rounded or centred first may tie with one that was smaller
    plain = s["center"] == "none" and s["compute"] == "wider"
    if numbers.size <= MANY or s.rule not in BY_ENDS or not plain:
        return np.arange(numbers.size)
    finite = np.isfinite(numbers)
    kept = [element]
    if finite.any():  # argmin and argmax give the first of equals, and so does the definition
        kept += [int(np.argmin(np.where(finite, numbers, np.inf))), int(np.argmax(np.where(finite, numbers, -np.inf)))]
    if np.isnan(numbers).any():  # with +nan=zero it is a number
        kept.append(int(np.argmax(np.isnan(numbers))))
    return np.array(sorted(set(kept)))
