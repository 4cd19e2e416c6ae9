"""ml_dtypes: NumPy extension types; the entry point is `astype`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, Known, Profile, Timed
from kbit_ref.conformance.implementations.arrays import as_bits, as_numbers
from kbit_ref.conformance.inputs.of_types import MORE_SOURCES, SOURCES
from kbit_ref.conformance.variants.of_types import is_beyond, through, wraps
from kbit_ref.engine.codec import encode

DOUBLE_ROUNDING = "https://github.com/jax-ml/ml_dtypes/pull/401"
FLOATS = (
    Profile("e4m3fn+overflow=ieee", "float8_e4m3fn", nan=(0x7F, 0xFF)),
    Profile("e4m3fnuz+overflow=ieee", "float8_e4m3fnuz"),
    Profile("e4m3b11fnuz+overflow=ieee", "float8_e4m3b11fnuz"),
    Profile("e4m3+overflow=ieee", "float8_e4m3", nan=(0x7C, 0xFC)),
    Profile("e3m4+overflow=ieee", "float8_e3m4", nan=(0x78, 0xF8)),
    Profile("e5m2+overflow=ieee", "float8_e5m2", nan=(0x7E, 0xFE)),
    Profile("e5m2fnuz+overflow=ieee", "float8_e5m2fnuz"),
    Profile("e8m0fnu+overflow=ieee+ties=upper", "float8_e8m0fnu"),
    Profile("e2m3fn", "float6_e2m3fn"),
    Profile("e3m2fn", "float6_e3m2fn"),
    Profile("e2m1fn", "float4_e2m1fn"),
    Profile("bf16+overflow=ieee", "bfloat16", sources=("float16", "float32", "float64"), nan=(0x7FC0, 0xFFC0)),
)
INTEGERS = tuple(Profile(f"{name}+rounding=toward_zero", name) for name in ("int4", "uint4", "int2", "uint2", "uint1"))
NAMES = {profile.dtype.partition("+")[0]: profile.theirs for profile in FLOATS}


class MlDtypes(Adapter):
    """`x.astype(ml_dtypes.T)` and back."""

    library, module, install = "ml_dtypes", "ml_dtypes", "pip install ml_dtypes"
    import_seconds = 0.1
    profiles = tuple(replace(each, sources=(*each.sources, *MORE_SOURCES)) for each in (*FLOATS, *INTEGERS))
    known = (
        Known(
            through("float32"),
            DOUBLE_ROUNDING,
            types=tuple(profile.theirs for profile in FLOATS),
            sources=("float64", "longdouble"),
        ),
        Known(
            through("float32"),
            DOUBLE_ROUNDING,
            types=("float8_e8m0fnu", "bfloat16"),
            sources=("int32", "int64", "uint32", "uint64"),
        ),
        Known(
            wraps(),
            "https://github.com/numpy/numpy/issues/22951 (NumPy leaves casts out of range undefined, as C does)",
            types=tuple(profile.theirs for profile in INTEGERS),
            sources=(*SOURCES, *MORE_SOURCES[:-1]),  # but for bool, of which all are in range
            undefined=is_beyond,
        ),
    )

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """Cast once."""
        import ml_dtypes

        return as_numbers(x, source).astype(getattr(ml_dtypes, theirs))

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """View the bits as the type, and cast them to float32."""
        import ml_dtypes

        return codes.copy().view(getattr(ml_dtypes, theirs)).astype(np.float32)

    def timed(self, verb: str, subject: str, x: NDArray[Any], threads: int) -> Timed | None:
        """Return a call of `astype`, in one thread."""
        if verb not in ("encode", "decode") or subject not in NAMES or threads > 1:
            return None
        import ml_dtypes

        kind = np.dtype(getattr(ml_dtypes, NAMES[subject]))
        if verb == "encode":
            return Timed(lambda: x.astype(kind), as_bits)
        codes = encode(subject, x).view(kind)
        return Timed(lambda: codes.astype(np.float32), np.asarray)
