"""bitsandbytes on the CPU: `quantize_4bit`, `quantize_blockwise` and their inverses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, Timed
from kbit_ref.conformance.implementations.arrays import to_numpy, to_torch

SOURCES = ("float32", "float16", "bfloat16")
TIMED = {"nf4-b64-absmax-f32": "bnb-cpu-nf4", "dynamic8-b64-absmax-f32": "bnb-cpu-dynamic8"}


class Bitsandbytes(Adapter):
    """The functional interface."""

    library, module, install = "bitsandbytes", "bitsandbytes", "pip install torch bitsandbytes"
    import_seconds = 6
    profiles = (
        BlockProfile("bnb-cpu-nf4", "nf4", SOURCES, shapes="any"),
        BlockProfile("bnb-cpu-fp4", "fp4", SOURCES, shapes="any"),
        BlockProfile("bnb-dynamic8", "blockwise", SOURCES, shapes="any"),
        BlockProfile("bnb-nested", "nf4 nested", SOURCES, shapes="flat"),
    )

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """Call it once each way; decode to float32 whatever the source."""
        import torch
        from bitsandbytes import functional as bnb

        tensor = to_torch(x, source)
        if theirs == "blockwise":
            codes, state = bnb.quantize_blockwise(tensor, blocksize=64)
            state.dtype = torch.float32
            decoded = bnb.dequantize_blockwise(codes, state)
            return {"codes": codes.numpy(), "scales": state.absmax.numpy(), "decoded": to_numpy(decoded)}
        nested = theirs.endswith("nested")
        packed, state = bnb.quantize_4bit(
            tensor, blocksize=64, quant_type=theirs.split()[0], compress_statistics=nested
        )
        state.dtype = torch.float32
        parts: dict[str, Any] = {"packed": packed.numpy().reshape(-1)}
        parts["decoded"] = to_numpy(bnb.dequantize_4bit(packed, state)).reshape(x.shape)
        if nested:
            parts["scale_codes"] = state.absmax.numpy()
            parts["scale_scales"] = state.state2.absmax.numpy()
            parts["scale_offset"] = state.offset.numpy()
            scales = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
            parts["scales"] = scales.numpy()
        else:
            parts["scales"] = state.absmax.numpy()
        return parts

    def timed(self, verb: str, subject: str, x: NDArray[Any], threads: int) -> Timed | None:
        """Return calls of `quantize_4bit`, `quantize_blockwise` and their inverses."""
        profile = TIMED.get(subject)
        if profile is None:
            return None
        import torch
        from bitsandbytes import functional as bnb

        torch.set_num_threads(threads)
        tensor, four = torch.from_numpy(x), subject.startswith("nf4")

        def there() -> Any:
            if four:
                return bnb.quantize_4bit(tensor, blocksize=64, quant_type="nf4")
            return bnb.quantize_blockwise(tensor, blocksize=64)

        if verb == "quantize":
            return Timed(there, lambda result: np.asarray(result[0]).reshape(-1), profile)
        codes, state = there()
        back = bnb.dequantize_4bit if four else bnb.dequantize_blockwise
        return Timed(lambda: back(codes, state), lambda result: np.asarray(result).reshape(-1), profile)
