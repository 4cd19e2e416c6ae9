"""Integers: the levels are whole numbers, or whole numbers over the largest one."""

from __future__ import annotations

import numpy as np

from kbit_ref.datatypes.datatype import DataType, register
from kbit_ref.datatypes.linspace import two_ended_linspace

WIDTHS = range(2, 9)


@register("int{bits}", family="integer", source="two's complement", bits=WIDTHS)
def twos_complement(bits: int) -> DataType:
    """Signed integers in two's complement, -2**(bits-1) to 2**(bits-1) - 1.

    Source
    ------
    The int2 ... int8 of ONNX, ml_dtypes and every processor.
    """
    codes = np.arange(2**bits)
    return DataType.from_levels(np.where(codes < 2 ** (bits - 1), codes, codes - 2**bits), ties="even")


@register("uint{bits}", family="integer", source="binary", bits=range(1, 9))
def unsigned(bits: int) -> DataType:
    """Unsigned integers, 0 to 2**bits - 1.

    Source
    ------
    The uint2 ... uint8 of ONNX and ml_dtypes.
    """
    return DataType.from_levels(np.arange(2**bits), ties="even")


@register("oint{bits}", family="integer", source="GGUF Q4_0, GPTQ, compressed-tensors, MatMulNBits", bits=WIDTHS)
def offset_binary(bits: int) -> DataType:
    """Signed integers in offset binary: code c is c - 2**(bits-1).

    Source
    ------
    ggml-quants.c, `q - 8`; compressed-tensors packs `value + 2**(bits-1)`.
    """
    return DataType.from_levels(np.arange(2**bits) - 2 ** (bits - 1), ties="even")


@register("mxint8", family="integer", source="OCP Microscaling formats (MX) 1.0, section 5.3.4")
def mx_integer() -> DataType:
    """OCP MXINT8: two's complement with 6 bits after the point, -2 to 127/64.

    Source
    ------
    OCP MX 1.0, section 5.3.4: an implicit scale of 2**-6.
    """
    return DataType.from_levels(twos_complement(8).levels / 64, ties="even")


@register("int{bits}sym", family="integer", source="arXiv 2212.09720, section 2.2 and appendix A", bits=WIDTHS)
def symmetric(bits: int) -> DataType:
    """The paper's integers: as many negative as positive ones, so the code 10...0 is unused.

    Source
    ------
    Dettmers & Zettlemoyer, appendix A: "truncated" to -(2**(bits-1) - 1) ... 2**(bits-1) - 1.
    """
    codes = np.arange(2**bits)
    levels = np.where(codes < 2 ** (bits - 1), codes, codes - 2**bits)
    return DataType.from_levels(levels, unused=[2 ** (bits - 1)], ties="even")


@register("linear{bits}", family="integer", source="bitsandbytes functional.create_linear_map", bits=WIDTHS)
def linear(bits: int) -> DataType:
    """bitsandbytes' table: 2**bits - 1 points of a linspace from -1 to 1, and 0 inserted in the middle.

    The middle point would be 0 as well, and its code unused. That is so in linear2; in the others the
    authors' float32 arithmetic misses 0 by up to 2**-24, which makes it a level of its own.

    Source
    ------
    `create_linear_map(signed=True, total_bits=bits)`, since bitsandbytes 0.36 (November 2022).
    """
    half = 2 ** (bits - 1) - 1
    points = two_ended_linspace(-1, 1, 2**bits - 1)
    return DataType.from_levels(np.sort(np.insert(points, half, 0)))


@register("binary", family="integer", source="Courbariaux et al., arXiv 1602.02830, section 1.1")
def binary() -> DataType:
    """One bit: 0 is -1 and 1 is +1; the tie at 0 takes the lower value, -1."""
    return DataType.from_levels([-1, 1])


@register("ternary", family="integer", source="BitNet b1.58, arXiv 2402.17764; ggml TQ1_0 and TQ2_0")
def ternary() -> DataType:
    """Code 0, 1, 2 is -1, 0, +1; code 3 is unused and decodes to 2. Ties go to zero, as round() does.

    Source
    ------
    BitNet's RoundClip(x, -1, 1); ggml stores the value plus one.
    """
    return DataType.from_levels([-1, 0, 1, 2], unused=[3], ties="zero")
