"""Between NumPy and torch; imported by adapters, imports torch only when called."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["to_numpy", "to_torch"]


def to_torch(x: NDArray[Any], source: str = "float32") -> Any:
    """The tensor of the same numbers, in the same memory; for the source bfloat16, x holds the bits."""
    import torch

    return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16) if source == "bfloat16" else torch.from_numpy(x)


def to_numpy(tensor: Any) -> NDArray[Any]:
    """The array of the same numbers; what NumPy has no type for, as float32."""
    import torch

    if tensor.dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu):
        tensor = tensor.to(torch.float32)
    return np.asarray(tensor.detach().numpy())
