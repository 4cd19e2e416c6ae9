"""How much was lost, and what it cost: errors, and bits with everything counted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kbit_ref.engine.codec import CHUNK
from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import as_reals
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.qtensor import QTensor

__all__ = ["Metrics", "metrics"]


@dataclass(frozen=True)
class Metrics:
    """Errors of a quantized array.

    Parameters
    ----------
    mean_squared_error, mean_absolute_error
        Of x minus its dequantized value, in the units of x (squared).
    sqnr
        10 log10(sum x**2 / sum error**2), in decibels; infinite without error.
    bits_per_parameter
        Codes, scales, offsets and zero points over the number of elements.
    above_bound
        How many decibels the error lies above the rate-distortion bound of a normal source of the
        same power at as many bits: 6.02 * bits_per_parameter - sqnr.
    """

    mean_squared_error: float
    mean_absolute_error: float
    sqnr: float
    bits_per_parameter: float
    above_bound: float


def metrics(x: Any, q: QTensor) -> Metrics:
    """Return the errors of q as a copy of x; sums in float64.

    Raises
    ------
    BadInput
        `metrics: x of shape (3,), q is of shape (4,); ...`

    Examples
    --------
    >>> import kbit_ref as kb
    >>> q = kb.quantize([1.0, 2.0, 3.0, -3.5], "int4-tensor-absmax-f32")
    >>> kb.metrics([1.0, 2.0, 3.0, -3.5], q).mean_squared_error
    0.0
    """
    array = as_reals("metrics", x)
    if array.shape != q.shape:
        raise BadInput(message("metrics", f"x of shape {array.shape}", f"q is of shape {q.shape}", "pass its original"))
    a, b = array.reshape(-1), dequantize(q).reshape(-1)
    squared = absolute = power = 0.0
    for begin in range(0, a.size, CHUNK):
        part = a[begin : begin + CHUNK].astype(np.float64)
        error = part - b[begin : begin + CHUNK]
        squared += float(error @ error)
        absolute += float(np.abs(error).sum())
        power += float(part @ part)
    n = max(a.size, 1)
    sqnr = math.inf if squared == 0 else 10 * math.log10(power / squared) if power else -math.inf
    bits = q.bits_per_parameter
    return Metrics(squared / n, absolute / n, sqnr, bits, 20 * math.log10(2) * bits - sqnr)
