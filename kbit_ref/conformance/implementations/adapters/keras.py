"""keras: `abs_max_quantize` and its grouped kin, on the NumPy backend."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, BlockProfile, halves
from kbit_ref.conformance.implementations.arrays import as_numbers, plain

GROUP = 32
PROFILES = (
    BlockProfile("keras-int8", "abs_max_quantize"),
    BlockProfile("keras-int4", "abs_max_quantize (-7, 7)"),
    BlockProfile("keras-int4-grouped", "abs_max_quantize_grouped_with_zero_point", shapes="ragged"),
    BlockProfile(  # its other way, of which constant blocks differ
        "uint4-b32@0-affineplain-f32+eps=1e-7+tail=pad",
        "abs_max_quantize_grouped_with_zero_point to_numpy",
        shapes="ragged",
    ),
)


class Keras(Adapter):
    """Scales that decode divides by; groups along the first axis."""

    library, module, install = "keras", "keras", "pip install keras"
    import_seconds = 3
    profiles = (*PROFILES, *halves(PROFILES, "float16", "bfloat16"))

    def load(self) -> None:
        """Choose the backend, then import."""
        os.environ["KERAS_BACKEND"] = "numpy"
        super().load()

    def quantize(self, theirs: str, x: NDArray[Any], source: str) -> dict[str, Any]:
        """Call it once; keras has no function that decodes, its layers multiply or divide."""
        from keras import quantizers

        x = as_numbers(x, source)
        if theirs.startswith("abs_max_quantize_grouped"):
            values, scales, zeros = quantizers.abs_max_quantize_grouped_with_zero_point(
                x, GROUP, to_numpy=theirs.endswith("to_numpy")
            )
            levels = np.asarray(values).astype(np.int16) + 8
            zero = np.asarray(zeros).T.astype(np.int16) + 8  # [n_groups, columns] -> [columns, n_groups]
            return {"codes": levels, "scales": plain(scales).T, "zero_points": zero}
        limit = 7 if theirs.endswith(")") else 127
        values, scales = quantizers.abs_max_quantize(x, axis=-1, value_range=(-limit, limit))
        mask = 15 if limit == 7 else 255
        parts = {"codes": np.asarray(values).view(np.uint8) & mask, "scales": plain(scales)}
        if limit == 7:
            packed, _, _ = quantizers.pack_int4(np.asarray(values), axis=-1)
            parts["packed"] = np.asarray(packed).view(np.uint8).reshape(-1)
        return parts
