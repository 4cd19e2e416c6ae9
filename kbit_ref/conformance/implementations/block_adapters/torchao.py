"""torchao: the MX tensors, NVFP4 and NF4, in eager mode on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.block_adapters import BlockAdapter, BlockProfile, halves
from kbit_ref.conformance.implementations.block_adapters._torch import to_numpy, to_torch

ELEMENTS = ("fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2", "fp4_e2m1")
MODES = ("floor", "ceil", "even", "rceil")
OURS = {
    "fp8_e4m3": "mxfp8-e4m3",
    "fp8_e5m2": "mxfp8-e5m2",
    "fp6_e2m3": "mxfp6-e2m3",
    "fp6_e3m2": "mxfp6-e3m2",
    "fp4_e2m1": "mxfp4",
}


NF4 = (BlockProfile("torchao-nf4", "nf4", shapes="flat", blocks=256),)


def _mx(element: str, mode: str) -> str:
    return f"torchao-{OURS[element]}" + ("" if mode == "floor" else f"-{mode}")


class TorchaoBlocks(BlockAdapter):
    """`to_mx` with its four scaling modes, `NVFP4Tensor.to_nvfp4`, `to_nf4`."""

    library, module, install = "torchao", "torchao", "pip install torch torchao"
    profiles = (
        *(
            BlockProfile(_mx(element, mode), f"{element} {mode}", ("float32", "bfloat16"))
            for element in ELEMENTS
            for mode in MODES
        ),
        BlockProfile("torchao-nvfp4", "nvfp4", ("float32", "bfloat16")),
        BlockProfile("torchao-nvfp4-global", "nvfp4 per tensor", ("float32", "bfloat16")),
        *NF4,
        *halves(NF4, "float16", "bfloat16", scales=False),
    )

    def load(self) -> None:
        """The modules with the formats."""
        import torchao.prototype.mx_formats.mx_tensor
        import torchao.prototype.mx_formats.nvfp4_tensor
        import torchao.quantization.quantize_.workflows  # noqa: F401

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """One call each way."""
        if theirs == "nf4":
            return _nf4(x, source)
        return _nvfp4(theirs, x, source) if theirs.startswith("nvfp4") else _mx_parts(theirs, x, source)


def _mx_parts(theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
    import torch
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.mx_tensor import MXTensor

    element, mode = theirs.split()
    kinds: dict[str, Any] = {
        "fp8_e4m3": torch.float8_e4m3fn,
        "fp8_e5m2": torch.float8_e5m2,
        "fp4_e2m1": torch.float4_e2m1fn_x2,
    }
    made = MXTensor.to_mx(to_torch(x, source), kinds.get(element, element), 32, scaling_mode=ScaleCalculationMode(mode))
    raw = made.qdata.view(torch.uint8).numpy()
    parts = {"packed": raw.reshape(-1)} if element == "fp4_e2m1" else {"codes": raw}
    return parts | {
        "scales": to_numpy(made.scale),
        "decoded": to_numpy(made.dequantize(torch.float32)),
    }


def _nvfp4(theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
    import torch
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

    tensor = to_torch(x, source)
    scale = per_tensor_amax_to_scale(tensor.abs().max()) if theirs.endswith("tensor") else None
    made = NVFP4Tensor.to_nvfp4(tensor, per_tensor_scale=scale)
    parts: dict[str, Any] = {
        "packed": made.qdata.view(torch.uint8).numpy().reshape(-1),
        "scales": to_numpy(made.scale),
        "decoded": to_numpy(made.dequantize(torch.float32)),
    }
    return parts if scale is None else parts | {"global_scale": scale.numpy()}


def _nf4(x: NDArray[Any], source: str) -> dict[str, Any]:
    from torchao.quantization.quantize_.workflows import to_nf4

    made = to_nf4(to_torch(x, source), 64, 256)
    return {
        "packed": made.quantized_data.numpy().reshape(-1),
        "scale_codes": made.quantized_scalers.numpy().view(np.uint8),
        "scale_scales": to_numpy(made.quantization_factor),
        "scale_offset": to_numpy(made.scaler_mean),
        "scales": to_numpy(made.dequantize_scalers(made.quantized_scalers, made.quantization_factor, 256)),
        "decoded": to_numpy(made.get_original_weight()),
    }
