"""torchao: the float4 and float6 conversions of its microscaling formats; they take float32 alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, Profile


class Torchao(Adapter):
    """`f32_to_f4_unpacked` and its kin."""

    library, module, install = "torchao", "torchao", "pip install torch torchao"
    profiles = (
        Profile("e2m1fn", "f4", sources=("float32",)),
        Profile("e2m3fn", "f6_e2m3", sources=("float32",)),
        Profile("e3m2fn", "f6_e3m2", sources=("float32",)),
    )

    def load(self) -> None:
        """The module with the conversions."""
        import torchao.prototype.mx_formats.kernels  # noqa: F401

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """One call."""
        import torch
        from torchao.prototype.mx_formats import kernels

        return getattr(kernels, f"f32_to_{theirs}_unpacked")(torch.from_numpy(x)).numpy()

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """One call."""
        import torch
        from torchao.prototype.mx_formats import kernels

        return getattr(kernels, f"{theirs}_unpacked_to_f32")(torch.from_numpy(codes.astype(np.uint8))).numpy()
