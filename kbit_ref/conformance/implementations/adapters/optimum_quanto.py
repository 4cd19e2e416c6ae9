"""optimum-quanto: `AbsmaxOptimizer` and `MaxOptimizer` find scales, `quantize_weight` does the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, halves
from kbit_ref.conformance.implementations.arrays import to_numpy, to_torch

GROUP = 32
PROFILES = (
    BlockProfile("quanto-qint8", "qint8"),
    BlockProfile("quanto-qfloat8-e4m3fn", "qfloat8_e4m3fn"),
    BlockProfile("quanto-qfloat8-e5m2", "qfloat8_e5m2"),
    BlockProfile("quanto-qint4", "qint4"),
    BlockProfile("quanto-qint2", "qint2"),
    BlockProfile("quanto-qint4-zeropoint", "qint4 zeropoint"),
    BlockProfile("quanto-qint2-zeropoint", "qint2 zeropoint"),
)


class OptimumQuanto(Adapter):
    """8 bits: one scale a row. 4 and 2 bits: groups, with a real shift or a zero point."""

    library, module, install = "optimum-quanto", "optimum.quanto", "pip install torch optimum-quanto"
    import_seconds = 6
    distribution = "optimum-quanto"
    profiles = (*PROFILES, *halves(PROFILES, "float16", "bfloat16"))

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """Run the optimizer, then `quantize_weight` along the first axis."""
        import torch
        from optimum import quanto

        tensor = to_torch(x, source)
        name, *options = theirs.split()
        kind = quanto.qtypes[name]
        if kind.bits == 8:
            scale = quanto.AbsmaxOptimizer()(tensor, kind, 0)
            made = quanto.quantize_weight(tensor, kind, 0, scale, optimized=False)
            codes = made._data.view(torch.uint8).numpy()
            return {"codes": codes, "scales": to_numpy(scale), "decoded": to_numpy(made.dequantize())}
        scale, shift = quanto.MaxOptimizer()(tensor, kind, 0, GROUP, zeropoint=bool(options))
        made = quanto.quantize_weight(tensor, kind, 0, scale, shift, GROUP, optimized=False)
        codes = made._data.unpack().numpy().reshape(x.shape)
        packed = made._data._data.numpy().reshape(-1)
        parts = {"codes": codes, "scales": to_numpy(scale), "decoded": to_numpy(made.dequantize())}
        each = 8 // kind.bits  # codes of a byte: one from each of so many parts of the array
        if codes.size // GROUP % each == 0:
            parts |= {"packed": packed, "order": np.arange(codes.size).reshape(each, -1).T.reshape(-1)}
        return parts | ({"zero_points": to_numpy(shift)} if options else {"offsets": -to_numpy(shift)})
