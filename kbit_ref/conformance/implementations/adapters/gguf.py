"""gguf (gguf-py): `quants.quantize` and `quants.dequantize`, the NumPy twins of ggml's reference code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile
from kbit_ref.conformance.implementations.arrays import from_bytes

# where the parts of a block lie: first byte of each, in the order of the file
LAYOUTS = {
    "Q4_0": ("scale", 2, "codes", 16),
    "Q4_1": ("scale", 2, "offset", 2, "codes", 16),
    "Q5_0": ("scale", 2, "codes", 20),
    "Q5_1": ("scale", 2, "offset", 2, "codes", 20),
    "Q8_0": ("scale", 2, "codes", 32),
    "TQ1_0": ("codes", 52, "scale", 2),
    "TQ2_0": ("codes", 64, "scale", 2),
    "MXFP4": ("exponent", 1, "codes", 16),
}


class Gguf(Adapter):
    """`gguf.quants.quantize`; a block is its scale, its offset, its codes."""

    library, module, install = "gguf", "gguf", "pip install gguf"
    import_seconds = 0.2
    profiles = (
        *(BlockProfile(f"ggml-{name.lower()}", name, sources=("float32", "float16")) for name in LAYOUTS),
        *(BlockProfile(f"ggml-{name.lower()}", f"dequantize {name}", what="decode") for name in LAYOUTS),
    )

    def dequantize(self, theirs: str, parts: dict[str, NDArray[Any]]) -> Any:
        """The bytes of the blocks, put together here."""
        import gguf
        from gguf.quants import dequantize

        name = theirs.split()[1]
        made = {"codes": parts["packed"], "exponent": parts.get("scale_bytes")}
        made |= {"scale": parts["scales"].astype("<f2"), "offset": parts.get("offsets", parts["scales"]).astype("<f2")}
        fields = zip(LAYOUTS[name][::2], LAYOUTS[name][1::2], strict=True)
        blocks = [np.ascontiguousarray(made[str(part)]).view(np.uint8).reshape(-1, int(size)) for part, size in fields]
        raw = np.concatenate(blocks, axis=1).reshape(parts["shape"][0], -1)
        with np.errstate(all="ignore"):
            return dequantize(raw, getattr(gguf.GGMLQuantizationType, name)).reshape(parts["shape"])

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """Call it once each way; the bytes of a block are split here."""
        import gguf
        from gguf.quants import dequantize, quantize

        kind = getattr(gguf.GGMLQuantizationType, theirs)
        with np.errstate(all="ignore"):
            raw = quantize(x, kind)
            decoded = dequantize(raw, kind)
        size = sum(LAYOUTS[theirs][1::2])  # type: ignore[arg-type]
        blocks = raw.reshape(-1, size)
        parts: dict[str, Any] = {"decoded": decoded.reshape(x.shape)}
        at = 0
        for name, width in zip(LAYOUTS[theirs][::2], LAYOUTS[theirs][1::2], strict=True):
            field = np.ascontiguousarray(blocks[:, at : at + int(width)])
            at += int(width)
            if name == "codes":
                parts["packed"] = field.reshape(-1)
            elif name == "exponent":
                parts["scales"] = from_bytes(field)
            else:
                parts["scales" if name == "scale" else "offsets"] = field.view("<f2")
        return parts
