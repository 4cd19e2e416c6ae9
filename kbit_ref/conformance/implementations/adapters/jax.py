"""JAX on the CPU, with 64-bit numbers switched on; the entry point is `astype`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, Profile
from kbit_ref.conformance.implementations.adapters.ml_dtypes import FLOATS
from kbit_ref.conformance.judge import Known
from kbit_ref.conformance.variants.of_types import flushes

ON_THE_CPU = tuple(  # not the 6-bit floats; NaN keeps its payload in e5m2
    replace(p, nan="any") if p.theirs == "float8_e5m2" else p for p in FLOATS if not p.theirs.startswith("float6")
)
INTEGERS = tuple(Profile(f"{name}+rounding=toward_zero", name) for name in ("int4", "uint4", "int2", "uint2"))


class Jax(Adapter):
    """`jnp.asarray(x).astype(T)`: integers saturate here, and do not wrap."""

    library, module, install = "jax", "jax", "pip install jax"
    profiles = (*ON_THE_CPU, *INTEGERS)
    known = (
        Known(
            flushes("float32"),
            "https://github.com/jax-ml/jax/issues/38995",
            types=("bfloat16",),
            sources=("float64",),
        ),
    )

    def load(self) -> None:
        """On the CPU, and float64 stays float64."""
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import jax

        jax.config.update("jax_enable_x64", True)

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """One conversion."""
        import jax.numpy as jnp
        import ml_dtypes

        numbers = x.view(ml_dtypes.bfloat16) if source == "bfloat16" else x
        return np.asarray(jnp.asarray(numbers).astype(getattr(jnp, theirs)))

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """The bits, seen as the type, converted to float32."""
        import jax.numpy as jnp
        import ml_dtypes

        return np.asarray(jnp.asarray(codes.copy().view(getattr(ml_dtypes, theirs))).astype(jnp.float32))
