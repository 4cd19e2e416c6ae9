"""gfloat: `round_ndarray`, then `encode_ndarray`; `decode_ndarray` back. Rounding and saturation are arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.implementations.adapters import Adapter, Known, Profile, Timed
from kbit_ref.conformance.implementations.arrays import as_numbers
from kbit_ref.conformance.variants.of_types import Cause
from kbit_ref.engine.codec import encode

MODES = {"TowardZero": "toward_zero", "TowardPositive": "toward_positive", "TowardNegative": "toward_negative"}

# Our name, theirs, and the code they give for NaN of either sign. `sat` is their saturation flag.
WITH_NAN = (
    ("e4m3fn", "ocp_e4m3", 0xFF),
    ("e5m2", "ocp_e5m2", 0xFF),
    ("Binary8p3se", "p3109 8 3", 0x80),
    ("Binary8p4se", "p3109 8 4", 0x80),
    ("Binary6p3se", "p3109 6 3", 0x20),
)
FINITE = (("e2m3fn", "ocp_e2m3"), ("e3m2fn", "ocp_e3m2"), ("e2m1fn", "ocp_e2m1"))


class Gfloat(Adapter):
    """A format is ten facts; the entry points take the format object."""

    library, module, install = "gfloat", "gfloat", "pip install gfloat"
    import_seconds = 0.1
    profiles = (
        *(Profile(f"{ours}+overflow=ieee", f"{theirs}", nan=(nan, nan)) for ours, theirs, nan in WITH_NAN),
        *(
            Profile(f"{ours}+overflow=finite", f"{theirs} sat", nan=(nan, nan), what=("encode",))
            for ours, theirs, nan in WITH_NAN
        ),
        *(
            Profile(
                f"e4m3fn+overflow=finite+rounding={ours}", f"ocp_e4m3 sat {mode}", nan=(0xFF, 0xFF), what=("encode",)
            )
            for mode, ours in MODES.items()
        ),
        Profile("e5m2+overflow=ieee+ties=away", "ocp_e5m2 TiesToAway", nan=(0xFF, 0xFF), what=("encode",)),
        Profile("e8m0fnu+overflow=finite", "ocp_e8m0 sat"),
        *(Profile(ours, f"{theirs} sat") for ours, theirs in FINITE),
    )
    known = (
        Known(
            Cause("below the smallest", "what rounds below 2^-127, zero included, is encoded as NaN"),
            "https://github.com/graphcore-research/gfloat/issues/62",
            types=("ocp_e8m0 sat",),
            sources=("bfloat16", "float32", "float64"),  # no positive float16 is that small
            undefined=lambda dtype, x: (x >= 0) & (x < dtype.levels[0]),
        ),
    )

    def encode(self, theirs: str, x: NDArray[Any], source: str) -> Any:
        """Round to the format, then encode. (bfloat16 goes in as float32, which holds it.)"""
        import gfloat

        options = theirs.split(" ")[1:]
        info = _format(theirs)
        mode = next((option for option in options if option.startswith("T")), "TiesToEven")
        numbers = as_numbers(x, source).astype(np.float32) if source == "bfloat16" else x
        rounded = gfloat.round_ndarray(info, numbers, getattr(gfloat.RoundMode, mode), sat="sat" in options)
        return gfloat.encode_ndarray(info, rounded)

    def decode(self, theirs: str, codes: NDArray[Any]) -> Any:
        """Decode in float64, as the library does."""
        import gfloat

        return gfloat.decode_ndarray(_format(theirs), codes.astype(np.int64))

    def timed(self, verb: str, subject: str, x: NDArray[Any], threads: int) -> Timed | None:
        """Return calls of `encode_ndarray(round_ndarray)` and `decode_ndarray`, in one thread."""
        theirs = next((name for ours, name, _ in WITH_NAN if ours == subject), None)
        if verb not in ("encode", "decode") or theirs is None or x.dtype != np.float32 or threads > 1:
            return None
        import gfloat

        info = _format(theirs)
        if verb == "encode":
            return Timed(lambda: gfloat.encode_ndarray(info, gfloat.round_ndarray(info, x, sat=True)), np.asarray)
        codes = encode(subject, x)
        return Timed(lambda: gfloat.decode_ndarray(info, codes), np.asarray)


def _format(theirs: str) -> Any:
    import gfloat.formats

    name, *options = theirs.split(" ")
    if name == "p3109":
        return gfloat.formats.format_info_p3109(int(options[0]), int(options[1]))
    return getattr(gfloat.formats, f"format_info_{name}")
