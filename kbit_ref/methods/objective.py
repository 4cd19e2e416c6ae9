"""What a method that knows its inputs is judged by: how far the outputs move, ||(W - W') X||^2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.inputs import real_array

__all__ = ["Objective", "inputs_for"]

Array = NDArray[Any]


class Objective:
    """The squared distance of the outputs of two matrices, summed over the calibration inputs.

    Parameters
    ----------
    function
        Who asks, for the text of errors.
    weights
        float [d_out, d_in]: the matrix that the others are compared with.
    inputs
        float [n, d_in].

    Attributes
    ----------
    weights
        float64 [d_out, d_in].
    inputs
        float64 [n, d_in].
    root
        float64 [at most d_in, d_in]: inputs with the same sums of products, root.T @ root = inputs.T @ inputs. It is
        the triangular factor of the inputs where there are more of them than columns.

    Raises
    ------
    BadInput
        `awq: inputs of shape (9, 32), the matrix has d_in = 64; give [n, 64]`

    Examples
    --------
    >>> o = Objective("gptq", np.eye(2), np.array([[3.0, 4.0]]))
    >>> float(o(np.zeros((2, 2)))), float(o(np.diag([1.0, 0.0])))
    (25.0, 16.0)
    """

    def __init__(self, function: str, weights: Array, inputs: Any):
        self.weights = _finite(function, "weights", weights)
        self.inputs = inputs_for(function, inputs, self.weights.shape[1])
        many = len(self.inputs) > self.weights.shape[1]
        self.root = np.asarray(np.linalg.qr(self.inputs, mode="r")) if many else self.inputs

    def __call__(self, decoded: Array) -> float:
        """||(W - decoded) X||^2, in float64."""
        return float((((self.weights - decoded) @ self.root.T) ** 2).sum())


def inputs_for(function: str, inputs: Any, d_in: int) -> Array:
    """float64 [n, d_in]: calibration inputs, or a line that says why they are none."""
    found = _finite(function, "inputs", inputs)
    if found.ndim != 2 or found.shape[1] != d_in or not len(found):
        got, rule = f"inputs of shape {found.shape}", f"the matrix has d_in = {d_in}"
        raise BadInput(message(function, got, rule, f"give [n, {d_in}]"))
    return found


def _finite(function: str, name: str, values: Any) -> Array:
    """As float64, all of them finite."""
    real_array(function, values)  # which refuses what is no real number
    array = np.asarray(values).astype(np.float64)
    for at in np.argwhere(~np.isfinite(array))[:1]:
        got = f"{name}[{', '.join(map(str, at))}] = {array[tuple(at)]}"
        raise BadInput(message(function, got, "its outputs have no distance", "clean it"))
    return array
