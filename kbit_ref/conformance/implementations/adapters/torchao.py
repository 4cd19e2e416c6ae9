"""torchao: the conversions of its microscaling formats, the MX tensors, NVFP4 and NF4, in eager mode on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, Profile, Timed, halves
from kbit_ref.conformance.implementations.arrays import to_numpy, to_torch
from kbit_ref.engine.codec import encode

SOURCES = ("float32", "bfloat16")
OURS = {
    "fp8_e4m3": "mxfp8-e4m3",
    "fp8_e5m2": "mxfp8-e5m2",
    "fp6_e2m3": "mxfp6-e2m3",
    "fp6_e3m2": "mxfp6-e3m2",
    "fp4_e2m1": "mxfp4",
}
MODES = {"floor": "", "ceil": "-ceil", "even": "-even", "rceil": "-rceil"}
NF4 = (BlockProfile("torchao-nf4", "nf4", shapes="flat", blocks=256),)
TIMED = {  # what the benchmark asks for: their name, and what it computes
    "nf4-b64-absmax-f32": ("nf4", "torchao-nf4"),
    "e4m3fn-b32@-1-pow2floor-e8m0fnu": ("fp8_e4m3 floor", "torchao-mxfp8-e4m3"),
    "e2m1fn-b32@-1-pow2floor-e8m0fnu": ("fp4_e2m1 floor", "torchao-mxfp4"),
    "e2m1fn-b16@-1-absmax-e4m3fn+global=multiplier": ("nvfp4 per tensor", "torchao-nvfp4-global"),
}


class Torchao(Adapter):
    """`f32_to_f4_unpacked` and its kin, which take float32 alone; `to_mx`, `NVFP4Tensor.to_nvfp4`, `to_nf4`."""

    library, module, install = "torchao", "torchao", "pip install torch torchao"
    import_seconds = 6
    profiles = (
        Profile("e2m1fn", "f4", sources=("float32",)),
        Profile("e2m3fn", "f6_e2m3", sources=("float32",)),
        Profile("e3m2fn", "f6_e3m2", sources=("float32",)),
        *(
            BlockProfile(f"torchao-{ours}{end}", f"{element} {mode}", SOURCES)
            for element, ours in OURS.items()
            for mode, end in MODES.items()
        ),
        BlockProfile("torchao-nvfp4", "nvfp4", SOURCES),
        BlockProfile("torchao-nvfp4-global", "nvfp4 per tensor", SOURCES),
        *NF4,
        *halves(NF4, "float16", "bfloat16", scales=False),
    )

    def load(self) -> None:
        """Import the modules with the formats."""
        import torchao.prototype.mx_formats.kernels
        import torchao.prototype.mx_formats.mx_tensor
        import torchao.prototype.mx_formats.nvfp4_tensor
        import torchao.quantization.quantize_.workflows  # noqa: F401

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """Call it once."""
        import torch
        from torchao.prototype.mx_formats import kernels

        return getattr(kernels, f"f32_to_{theirs}_unpacked")(torch.from_numpy(x)).numpy()

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """Call it once."""
        import torch
        from torchao.prototype.mx_formats import kernels

        return getattr(kernels, f"{theirs}_unpacked_to_f32")(torch.from_numpy(codes.astype(np.uint8))).numpy()

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """Call it once each way."""
        import torch

        there, back = _format(theirs, to_torch(x, source))
        made = there()
        decoded = to_numpy(back(made))
        if theirs == "nf4":
            scales = made.dequantize_scalers(made.quantized_scalers, made.quantization_factor, 256)
            return {
                "packed": made.quantized_data.numpy().reshape(-1),
                "scale_codes": made.quantized_scalers.numpy().view(np.uint8),
                "scale_scales": to_numpy(made.quantization_factor),
                "scale_offset": to_numpy(made.scaler_mean),
                "scales": to_numpy(scales),
                "decoded": decoded,
            }
        raw = made.qdata.view(torch.uint8).numpy()
        parts = {"codes": raw} if raw.shape == x.shape else {"packed": raw.reshape(-1)}
        parts |= {"scales": to_numpy(made.scale), "decoded": decoded}
        return parts | {"global_scale": made.per_tensor_scale.numpy()} if theirs.endswith("tensor") else parts

    def timed(self, verb: str, subject: str, x: NDArray[Any], threads: int) -> Timed | None:
        """Return calls of `pack_uint4` and `unpack_uint4`; of the block formats, and back."""
        if subject not in ("low4", *TIMED):
            return None
        import torch
        from torchao.prototype.mx_formats.kernels import pack_uint4, unpack_uint4

        torch.set_num_threads(threads)
        if subject == "low4":
            codes = torch.from_numpy(encode("nf4", x[: x.size // 2 * 2]))
            if verb == "pack":
                return Timed(lambda: pack_uint4(codes), lambda result: np.asarray(result.numpy()))
            packed = pack_uint4(codes)
            return Timed(lambda: unpack_uint4(packed), lambda result: np.asarray(result.numpy()))
        theirs, profile = TIMED[subject]
        there, back = _format(theirs, torch.from_numpy(x if theirs == "nf4" else x.reshape(1, -1)))

        def codes_of(made: Any) -> NDArray[Any]:
            data = made.quantized_data if theirs == "nf4" else made.qdata
            return np.asarray(data.view(torch.uint8)).reshape(-1)

        if verb == "quantize":
            return Timed(there, codes_of, profile)
        made = there()
        return Timed(lambda: back(made), lambda result: np.asarray(result).reshape(-1), profile)


def _format(theirs: str, tensor: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Quantize the tensor; dequantize what came of it."""
    import torch

    if theirs == "nf4":
        from torchao.quantization.quantize_.workflows import to_nf4

        return lambda: to_nf4(tensor, 64, 256), lambda made: made.get_original_weight()
    if theirs.startswith("nvfp4"):
        from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

        def there() -> Any:
            scale = per_tensor_amax_to_scale(tensor.abs().max()) if theirs.endswith("tensor") else None
            return NVFP4Tensor.to_nvfp4(tensor, per_tensor_scale=scale)
    else:
        from torchao.prototype.mx_formats.config import ScaleCalculationMode
        from torchao.prototype.mx_formats.mx_tensor import MXTensor

        element, mode = theirs.split()
        kinds: dict[str, Any] = {
            "fp8_e4m3": torch.float8_e4m3fn,
            "fp8_e5m2": torch.float8_e5m2,
            "fp4_e2m1": torch.float4_e2m1fn_x2,
        }

        def there() -> Any:
            return MXTensor.to_mx(tensor, kinds.get(element, element), 32, scaling_mode=ScaleCalculationMode(mode))

    return there, lambda made: made.dequantize(torch.float32)
