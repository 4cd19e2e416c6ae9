"""PyTorch on the CPU; the entry points are `Tensor.to` and `Tensor.view`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, Known, Profile, Timed
from kbit_ref.conformance.implementations.arrays import to_torch
from kbit_ref.conformance.variants.of_types import through


class Torch(Adapter):
    """`x.to(torch.T).view(torch.uint8)`. The 4-bit float and the small integers have no casts."""

    library, module, install = "torch", "torch", "pip install torch"
    import_seconds = 3
    profiles = (
        Profile("e4m3fn", "float8_e4m3fn", nan=(0x7F, 0xFF)),
        Profile("e4m3fnuz+overflow=ieee", "float8_e4m3fnuz"),
        Profile("e5m2+overflow=ieee", "float8_e5m2", nan=(0x7F, 0xFF)),
        Profile("e5m2fnuz+overflow=ieee", "float8_e5m2fnuz"),
        Profile("e8m0fnu+overflow=ieee+ties=upper", "float8_e8m0fnu"),
        Profile("f16+overflow=ieee", "float16", sources=("bfloat16", "float32", "float64"), nan="any"),
        Profile("bf16+overflow=ieee", "bfloat16", sources=("float16", "float32", "float64"), nan="any"),
    )
    known = (
        Known(
            through("float32"),
            "torch 2.13, torch/headeronly/util/Float8_e4m3fn.h, Half.h and their kin: made from float alone",
            types=tuple(profile.theirs for profile in profiles),
            sources=("float64",),
        ),
    )

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """Convert once, and return the bits of the result."""
        import torch

        return _bits(to_torch(x, source).to(getattr(torch, theirs)))

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """View the bits as the type, and convert them to float32."""
        import torch

        bits = codes.view(np.int16 if codes.dtype == np.uint16 else np.uint8).copy()
        return torch.from_numpy(bits).view(getattr(torch, theirs)).to(torch.float32).numpy()

    def timed(self, verb: str, subject: str, x: NDArray[Any], threads: int) -> Timed | None:
        """Return a call of `Tensor.to`."""
        theirs = next((p.theirs for p in self.types if p.dtype.partition("+")[0] == subject), None)
        if verb not in ("encode", "decode") or theirs is None:
            return None
        import torch

        torch.set_num_threads(threads)
        kind, tensor = getattr(torch, theirs), torch.from_numpy(x)
        if verb == "encode":
            return Timed(lambda: tensor.to(kind), _bits)
        codes = tensor.to(kind)
        return Timed(lambda: codes.to(torch.float32), np.asarray)


def _bits(tensor: Any) -> NDArray[Any]:
    import torch

    return np.asarray(tensor.view(torch.uint8 if tensor.itemsize == 1 else torch.uint16).numpy())
