"""The functions that a transformer is made of, each a formula of NumPy; none knows of models.

Every function works in the dtype of its input (float32, or float64 for the reference) and treats
the last axis as the one that holds a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "gelu", "gelu_tanh", "layer_norm", "relu", "rms_norm", "rotate", "silu", "softmax"]

Array = NDArray[Any]


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) * weight + bias.

    Examples
    --------
    >>> layer_norm(np.array([1.0, 3.0]), None, None, 0.0)
    array([-1.,  1.])
    """
    y: Array = x - x.mean(-1, keepdims=True)  # [..., d] -> [..., d]
    variance = np.einsum("...i,...i->...", y, y)[..., None] / x.dtype.type(x.shape[-1])  # [..., d] -> [..., 1]
    y /= np.sqrt(variance + x.dtype.type(eps))
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y


def rms_norm(x: Array, weight: Array | None, eps: float) -> Array:
    """x / sqrt(mean of squares + eps) * weight.

    Examples
    --------
    >>> rms_norm(np.array([3.0, -3.0]), np.array([1.0, 2.0]), 0.0)
    array([ 1., -2.])
    """
    square = np.einsum("...i,...i->...", x, x)[..., None] / x.dtype.type(x.shape[-1])  # [..., d] -> [..., 1]
    y: Array = x / np.sqrt(square + x.dtype.type(eps))
    if weight is not None:
        y *= weight
    return y


def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)), written into x; the largest element is taken off first, so nothing overflows.

    Examples
    --------
    >>> softmax(np.array([0.0, 0.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    """
    x -= x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x


def relu(x: Array) -> Array:
    """max(x, 0), written into x."""
    return np.maximum(x, 0, out=x)


def gelu(x: Array) -> Array:
    """x * Phi(x), Phi the distribution function of the normal, written into x."""
    from scipy.special import erf

    half = erf(x * x.dtype.type(math.sqrt(0.5)))
    half += 1
    half *= 0.5
    x *= half
    return x


def gelu_tanh(x: Array) -> Array:
    """The approximation x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), written into x."""
    y = x * x
    y *= x.dtype.type(0.044715 * math.sqrt(2 / math.pi))
    y += x.dtype.type(math.sqrt(2 / math.pi))
    y *= x
    np.tanh(y, out=y)
    y += 1
    y *= 0.5
    x *= y
    return x


def silu(x: Array) -> Array:
    """x / (1 + exp(-x)), written into x."""
    with np.errstate(over="ignore"):  # exp of a large number is inf, and x / inf the right zero
        y = np.exp(-x)
    y += 1
    x /= y
    return x


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
}


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Turn pairs (x[i], x[i + d/2]) of the first d elements by an angle; the rest stays.

    Parameters
    ----------
    x : [..., n_seq, d_head]
    cos, sin : [..., n_seq, d / 2]
        Of the angles, one row a position.

    Examples
    --------
    >>> rotate(np.array([[1.0, 2.0, 9.0]]), np.array([[0.0]]), np.array([[1.0]]))  # a quarter turn
    array([[-2.,  1.,  9.]])
    """
    half = cos.shape[-1]
    y = x.copy()
    a, b = x[..., :half], x[..., half : 2 * half]
    y[..., :half] = a * cos - b * sin
    y[..., half : 2 * half] = b * cos + a * sin
    return y
