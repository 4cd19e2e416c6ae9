"""compressed-tensors: `calculate_qparams`, `quantize`, and the compressors that write checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, halves
from kbit_ref.conformance.implementations.arrays import from_bytes, to_numpy, to_torch

FLOATS = {  # preset, compressor
    "nvfp4": ("NVFP4A16", "NVFP4PackedCompressor"),
    "mxfp4": ("MXFP4A16", "MXFP4PackedCompressor"),
    "mxfp6": ("MXFP6A16", "MXFP6PackedCompressor"),
    "mxfp8": ("MXFP8A16", "MXFP8QuantizationCompressor"),
}
GROUP = 32
SAMPLE = (  # which half precision is tried on: all widths go the same way
    *(BlockProfile(f"ct-int{bits}", f"int{bits}") for bits in (4, 8)),
    *(BlockProfile(f"ct-int{bits}-asym", f"int{bits} asymmetric") for bits in (4, 8)),
)
NVFP4 = (BlockProfile("ct-nvfp4", "nvfp4"),)
MX = tuple(BlockProfile(f"ct-{name}", name, ("float32", "bfloat16")) for name in FLOATS if name != "nvfp4")


class CompressedTensors(Adapter):
    """Scales from the extremes of each group, as its observers find them; decoded by `decompress`."""

    library, module = "compressed-tensors", "compressed_tensors"
    import_seconds = 8
    install = "pip install torch compressed-tensors"
    profiles = (
        *(BlockProfile(f"ct-int{bits}", f"int{bits}") for bits in range(2, 9)),
        *(BlockProfile(f"ct-int{bits}-asym", f"int{bits} asymmetric") for bits in (4, 8)),
        *NVFP4,
        *MX,
        *halves(SAMPLE, "float16", "bfloat16"),
        *halves(NVFP4, "bfloat16", scales=False),
        *halves(NVFP4, "float16", scales=False, compute=False),  # 448 * 6 * 448 is beyond float16
        *halves(MX, "float16", scales=False, compute=False),
    )

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """Compute the scales, then `compress` and `decompress`."""
        tensor = to_torch(x, source)
        return _floats(theirs, tensor) if theirs in FLOATS else _integers(theirs, tensor)


def _qparams(tensor: Any, args: Any, global_scale: Any = None) -> Any:
    import torch
    from compressed_tensors.quantization.utils import calculate_qparams

    low, high = torch.aminmax(tensor.unflatten(-1, (-1, args.group_size)), dim=-1)
    return calculate_qparams(low, high, args, global_scale=global_scale)


def _integers(theirs: str, tensor: Any) -> dict[str, Any]:
    import torch
    from compressed_tensors.compressors import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.lifecycle.forward import quantize

    bits = int(theirs[3])
    args = QuantizationArgs(
        num_bits=bits, type="int", symmetric=theirs.endswith(theirs[3]), strategy="group", group_size=GROUP
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    scales, zeros = _qparams(tensor, args)
    values = quantize(tensor, scales, zeros, args, dtype=torch.int8).numpy()
    state = {"weight": tensor, "weight_scale": scales, "weight_zero_point": zeros}
    stored = PackedQuantizationCompressor.compress(state, scheme)
    decoded = PackedQuantizationCompressor.decompress(dict(stored), scheme)["weight"]
    half = 2 ** (bits - 1)
    parts = {
        "codes": (values.astype(np.int16) + half).astype(np.uint8),
        "packed": stored["weight_packed"].numpy().reshape(-1).view(np.uint8),
        "scales": to_numpy(scales),
        "decoded": to_numpy(decoded),
    }
    return parts if args.symmetric else parts | {"zero_points": zeros.numpy()}


def _floats(theirs: str, tensor: Any) -> dict[str, Any]:
    import compressed_tensors.compressors as compressors
    import torch
    from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme
    from compressed_tensors.quantization.utils import generate_gparam

    preset, compressor = FLOATS[theirs]
    scheme = preset_name_to_scheme(preset, ["Linear"])
    whole = generate_gparam(tensor.min().reshape(1), tensor.max().reshape(1)) if theirs == "nvfp4" else None
    scales, zeros = _qparams(tensor, scheme.weights, whole)
    state = {"weight": tensor, "weight_scale": scales, "weight_zero_point": zeros}
    if whole is not None:
        state["weight_global_scale"] = whole
    squeeze = getattr(compressors, compressor)
    stored = squeeze.compress(state, scheme)
    parts: dict[str, Any] = {"decoded": to_numpy(squeeze.decompress(dict(stored), scheme)["weight"])}
    if "weight_packed" in stored:
        parts["packed"] = stored["weight_packed"].numpy().reshape(-1)
    else:
        parts["codes"] = stored["weight"].view(torch.uint8).numpy()
    scale = to_numpy(stored["weight_scale"])
    parts["scales"] = from_bytes(scale) if scale.dtype == np.uint8 else scale
    return parts if whole is None else parts | {"global_scale": whole.numpy()}
