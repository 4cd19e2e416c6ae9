"""Arrays in the form that a library takes, and back: bfloat16 with `ml_dtypes`, tensors of torch, bytes of E8M0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.engine.codec import decode
from kbit_ref.errors import MissingLibrary, message

__all__ = ["as_bits", "as_numbers", "from_bytes", "plain", "to_numpy", "to_torch"]

Array = NDArray[Any]


def as_numbers(words: Array, source: str) -> Array:
    """Return words of a format as the array that a function takes; those of bfloat16, its bits, by `ml_dtypes`.

    Raises
    ------
    MissingLibrary
        `check: sources = bfloat16, NumPy has no bfloat16, and ml_dtypes is not installed; ...`
    """
    if source != "bfloat16":
        return words.view(source)
    try:
        import ml_dtypes
    except ImportError:
        rule = "NumPy has no bfloat16, and ml_dtypes is not installed"
        raise MissingLibrary(message("check", "sources = bfloat16", rule, "pip install ml_dtypes")) from None
    return words.view(np.dtype(ml_dtypes.bfloat16))


def plain(values: Any) -> Array:
    """Convert numbers for which NumPy has no type to float32."""
    array = np.asarray(values)
    return array if array.dtype.isbuiltin == 1 else array.astype(np.float32)


def from_bytes(scales: Array) -> NDArray[np.float32]:
    """Return the powers of two that bytes of E8M0 stand for.

    Examples
    --------
    >>> from_bytes(np.array([0, 127, 255], np.uint8))
    array([5.877472e-39, 1.000000e+00,          nan], dtype=float32)
    """
    return decode("e8m0fnu", scales)


def to_torch(words: Array, source: str = "float32") -> Any:
    """Return the tensor of the same numbers, in the same memory; for the source bfloat16 `words` are its bits."""
    import torch

    if source == "bfloat16":
        return torch.from_numpy(words.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(words)


def to_numpy(tensor: Any) -> Array:
    """Return the array of the same numbers; what NumPy has no type for, as float32."""
    import torch

    if tensor.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu):
        tensor = tensor.to(torch.float32)
    return np.asarray(tensor.detach().numpy())


def as_bits(values: Any) -> Array:
    """Return the bits of numbers, as unsigned integers of their width."""
    array = np.asarray(values)
    return array.view(f"uint{8 * array.dtype.itemsize}")
