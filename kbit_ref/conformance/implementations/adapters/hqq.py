"""hqq: `Quantizer.quantize` without its iterations (`optimize=False`), groups along the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile
from kbit_ref.conformance.implementations.arrays import to_numpy, to_torch

GROUP = 64
SOURCES = ("float32", "float16", "bfloat16")


class Hqq(Adapter):
    """A real zero point; `compute_dtype` float32, its default is float16."""

    library, module, install = "hqq", "hqq.core.quantize", "pip install torch hqq"
    import_seconds = 5
    distribution = "hqq"
    profiles = tuple(  # it packs the codes of 8 // bits groups together
        BlockProfile(f"hqq-{bits}", f"{bits} bits", SOURCES, blocks=1 if bits == 3 else 8 // bits)
        for bits in (8, 4, 3, 2, 1)
    )

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """Quantize twice, with and without packing."""
        import torch
        from hqq.core.quantize import Quantizer

        bits = int(theirs.split()[0])
        options = {"nbits": bits, "group_size": GROUP, "optimize": False, "axis": 1, "device": "cpu"}
        plain, _ = Quantizer.quantize(to_torch(x, source), bitpack=False, **options)
        packed, meta = Quantizer.quantize(to_torch(x, source), bitpack=True, **options)
        meta["compute_dtype"] = torch.float32
        parts = {
            "codes": to_numpy(plain).astype(np.int16).reshape(x.shape),
            "scales": to_numpy(meta["scale"]),
            "zero_points": to_numpy(meta["zero"]),
            "decoded": to_numpy(Quantizer.dequantize(packed, meta)),
        }
        each = 8 // bits  # codes of a byte: one from each of so many parts of the array, the first on top
        if bits in (1, 2, 4, 8) and x.size // GROUP % each == 0:
            order = np.arange(x.size).reshape(each, -1).T.reshape(-1)
            parts |= {"packed": packed.numpy().reshape(-1), "order": order}
        return parts
