"""Floating point: sign | exponent | significand, and what the last codes mean.

One formula makes every level. With E exponent bits, M significand bits and a bias,

    value(e, m) = m/2**M * 2**(1 - bias)              e = 0   (subnormal)
                = (1 + m/2**M) * 2**(e - bias)        e > 0

A format is the formula and its specials: `ieee` gives the last exponent to infinity and NaN,
`fn` gives one code to NaN, `fnuz` puts NaN where -0 would be, `finite` has neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.datatypes.datatype import DataType, register

OFP8 = "OCP 8-bit floating point specification (OFP8) 1.0, section 5"
OCP_MX = "OCP Microscaling formats (MX) 1.0, section 5.3"
LLVM = "LLVM APFloat.h"


def magnitudes(
    exponent_bits: int, significand_bits: int, bias: int, subnormal: float = 1.0, codes: int | None = None
) -> NDArray[np.float64]:
    """float64 [codes], by default [2**(E+M)]: the formula above for ascending exponent and significand.

    `subnormal` scales the levels below the smallest normal one: 1 is IEEE's gradual underflow.
    """
    e, m = np.divmod(np.arange(codes or 2 ** (exponent_bits + significand_bits)), 2**significand_bits)
    fraction = m / 2**significand_bits
    with np.errstate(over="ignore"):  # the code after the last one may be out of reach
        subnormals, normals = np.ldexp(subnormal * fraction, 1 - bias), np.ldexp(1 + fraction, e - bias)
    levels: NDArray[np.float64] = np.where(e == 0, subnormals, normals)
    return levels


def float_type(
    exponent_bits: int,
    significand_bits: int,
    bias: int,
    specials: str,
    *,
    signed: bool = True,
    subnormal: float = 1.0,
    **choices: Any,
) -> DataType:
    """A float type from its few facts; everything else is derived."""
    positive = magnitudes(exponent_bits, significand_bits, bias, subnormal)
    n = len(positive)
    unused: list[int] = []
    beyond: float | None = None

    if specials == "ieee":
        infinity = n - 2**significand_bits
        beyond = float(positive[infinity])
        positive[infinity], positive[infinity + 1 :] = np.inf, np.nan
        quiet = infinity + 2 ** (significand_bits - 1)
        unused += [code for code in range(infinity + 1, n) if code != quiet]
    elif specials == "fn":
        beyond = float(positive[-1])
        positive[-1] = np.nan
    elif specials == "fnuz":
        beyond = 2 * float(positive[-1]) - float(positive[-2])

    levels = np.concatenate([positive, -positive]) if signed else positive
    if signed and specials == "fnuz":
        levels[n] = np.nan
    elif signed:
        unused += [n + code for code in np.flatnonzero(np.isnan(positive)).tolist()]
    choices.setdefault("ties", "even")
    return DataType.from_levels(levels, unused=unused, beyond=beyond, **choices)


@register("e5m2", family="float", source=OFP8)
def e5m2() -> DataType:
    """OCP FP8 E5M2: IEEE-like, bias 15, infinities, up to 57344. Also LLVM Float8E5M2."""
    return float_type(5, 2, 15, "ieee")


@register("e4m3", family="float", source=LLVM + ", Float8E4M3")
def e4m3() -> DataType:
    """IEEE-like E4M3: bias 7, infinities, up to 240. Not the OCP one, which is e4m3fn."""
    return float_type(4, 3, 7, "ieee")


@register("e4m3fn", family="float", source=OFP8)
def e4m3fn() -> DataType:
    """OCP FP8 E4M3: bias 7, no infinity, one NaN a sign, up to 448."""
    return float_type(4, 3, 7, "fn")


@register("e4m3fnuz", family="float", source="Noune et al., arXiv 2206.02915")
def e4m3fnuz() -> DataType:
    """Graphcore and AMD FP8 E4M3: bias 8, NaN in place of -0, up to 240."""
    return float_type(4, 3, 8, "fnuz")


@register("e5m2fnuz", family="float", source="Noune et al., arXiv 2206.02915")
def e5m2fnuz() -> DataType:
    """Graphcore and AMD FP8 E5M2: bias 16, NaN in place of -0, up to 57344."""
    return float_type(5, 2, 16, "fnuz")


@register("e4m3b11fnuz", family="float", source=LLVM + ", Float8E4M3B11FNUZ")
def e4m3b11fnuz() -> DataType:
    """E4M3 with bias 11, NaN in place of -0, up to 30."""
    return float_type(4, 3, 11, "fnuz")


@register("e3m4", family="float", source=LLVM + ", Float8E3M4")
def e3m4() -> DataType:
    """IEEE-like E3M4: bias 3, infinities, up to 15.5."""
    return float_type(3, 4, 3, "ieee")


@register("e8m0fnu", family="float", source=OCP_MX + "; section 5.4.1")
def e8m0fnu() -> DataType:
    """The MX scale: 2**(code - 127), code 255 is NaN; no zero, no sign, negative numbers give NaN.

    Choices
    -------
    Ties at 1.5 * 2**n take the even code. Zero gives the smallest level, 2**-127.
    """
    levels = np.append(np.ldexp(1.0, np.arange(255) - 127), np.nan)
    return DataType.from_levels(levels, ties="even", negative="nan", beyond=2.0**128)


@register("ue4m3", family="float", source="PTX ISA, ue4m3; NVFP4 block scales")
def ue4m3() -> DataType:
    """The positive half of e4m3fn in 7 bits: the NVFP4 block scale, up to 448."""
    return float_type(4, 3, 7, "fn", signed=False)


@register("ue5m3", family="float", source="AMD CDNA scale format E5M3")
def ue5m3() -> DataType:
    """Unsigned E5M3: bias 15, the last code is NaN, up to 114688."""
    return float_type(5, 3, 15, "fn", signed=False)


@register("e4m4", family="float", source="bitsandbytes pull request 1858, k-bit block maxima")
def e4m4() -> DataType:
    """Unsigned E4M4: bias 11, every code a number, up to 31; a stored scale."""
    return float_type(4, 4, 11, "finite", signed=False)


@register("e2m3fn", family="float", source=OCP_MX)
def e2m3fn() -> DataType:
    """OCP FP6 E2M3: bias 1, every code a number, up to 7.5."""
    return float_type(2, 3, 1, "finite")


@register("e3m2fn", family="float", source=OCP_MX)
def e3m2fn() -> DataType:
    """OCP FP6 E3M2: bias 3, every code a number, up to 28."""
    return float_type(3, 2, 3, "finite")


@register("e2m1fn", family="float", source=OCP_MX)
def e2m1fn() -> DataType:
    """OCP FP4 E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives."""
    return float_type(2, 1, 1, "finite")


@register("f16", family="float", source="IEEE 754-2019, binary16")
def f16() -> DataType:
    """IEEE half precision: bias 15, up to 65504."""
    return float_type(5, 10, 15, "ieee")


@register("bf16", family="float", source="bfloat16: the upper half of an IEEE binary32")
def bf16() -> DataType:
    """bfloat16: float32 with 7 significand bits, bias 127."""
    return float_type(8, 7, 127, "ieee")


# The paper's own family -----------------------------------------------------------------------

SUBNORMAL = {"": 1.0, "_sub4": 1 / 4, "_sub16": 1 / 16}
PAPER_SPLIT = {3: (2, 0), 4: (3, 0), 5: (3, 1), 6: (3, 2), 7: (3, 3), 8: (3, 4)}


@register("kfloat{bits}", family="float", source="arXiv 2212.09720, sections 2.2 and 5", bits=range(3, 9))
def paper_float(bits: int) -> DataType:
    """The paper's floats, every code a number: e2m0 e3m0 e3m1 e3m2 e3m3 e3m4 for 3 to 8 bits.

    Aliases of the grammar below with the exponent widths of the paper's results.
    """
    return any_float(bits, *PAPER_SPLIT[bits], "")


@register(
    "kfloat{bits}_e{E}m{M}{sub}",
    family="float",
    source="arXiv 2212.09720, appendix A; bitsandbytes, November 2022 to 2023",
    grammar=True,
    where=lambda bits, E, M, sub: bits == 1 + E + M and (M > 0 or not sub),
    bits=range(2, 9),
    E=range(1, 8),
    M=range(7),
    sub=tuple(SUBNORMAL),
)
def any_float(bits: int, E: int, M: int, sub: str) -> DataType:
    """The paper's float with any split: no NaN, no infinity; the smallest normal level is 1.

    `_sub4` and `_sub16` scale the levels below 1 by 1/4 and 1/16, as versions of the authors'
    code did. The code of -0 is never emitted.
    """
    return float_type(E, M, 1, "finite", subnormal=SUBNORMAL[sub], zero_sign="positive")


@register(
    "bnbfloat{bits}_e{E}m{M}",
    family="float",
    source="bitsandbytes functional.create_fp8_map, 0.39 and later",
    grammar=True,
    where=lambda bits, E, M: bits == 1 + E + M,
    bits=range(3, 9),
    E=range(1, 8),
    M=range(7),
)
def bitsandbytes_float(bits: int, E: int, M: int) -> DataType:
    """bitsandbytes' normalised table, ascending: kfloat with `_sub4`, divided by its largest level.

    The second zero takes the code above the first and is unused.
    """
    positive = magnitudes(E, M, 1, 1 / 4).astype(np.float32)
    positive /= positive[-1]
    return DataType.from_levels(np.concatenate([-positive[::-1] + 0, positive]), unused=[len(positive)])
