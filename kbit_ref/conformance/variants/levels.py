"""Mistakes of `level`: what number a code is. Where writer and reader share the mistake, `encode` has it too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Array, Codes, Steps, reference

__all__ = ["least_normal", "table"]


def table(steps: Steps) -> Array:
    """Return what the steps read every code as, float32 [2**bits]."""
    return steps.level(np.arange(2**steps.scheme.dtype.bits, dtype=np.uint8))


def reads_table(steps: Steps, levels: Array) -> Steps:
    """Return steps that read codes by another table."""
    narrow = np.asarray(levels, np.float32)
    return replace(steps, level=lambda codes: narrow[codes])


def shares_table(steps: Steps, change: Callable[[Array], Array]) -> Steps | None:
    """Return steps of a writer and a reader that share another table."""
    s = steps.scheme
    levels = change(table(steps).astype(np.float64)).astype(np.float32).astype(np.float64)
    if np.array_equal(levels, table(steps), equal_nan=True) or s["encoder"].startswith("bnb"):
        return None
    d = s.dtype
    wrong = DataType(d.name, d.bits, levels, d.unused, d.ties, d.overflow, d.zero_sign)
    other = reference(Scheme(wrong, s.cut, s.rule, s.scale_dtype, s.choices), steps.arithmetic.name)
    return replace(steps, encode=other.encode, level=other.level)


def least_normal(d: DataType) -> float | None:
    """Return the least normal number of a float type that has subnormals."""
    if d.family != "float":
        return None
    levels = np.unique(np.abs(d.levels[np.isfinite(d.levels)]))
    longer = np.flatnonzero(np.diff(levels) > levels[1] - levels[0])
    return float(levels[longer[0]]) / 2 if levels[0] == 0 and longer.size and longer[0] > 2 else None


def _kind(steps: Steps) -> str:
    """Return the name of the type without its bits: int (also of the symmetric ones), oint, uint, ..."""
    return steps.scheme.dtype.name.partition("+")[0].removesuffix("sym").rstrip("0123456789")


def _codebook(steps: Steps) -> bool:
    """Return whether the type is a list of numbers that somebody typed or computed."""
    return steps.scheme.dtype.family not in ("integer", "float", "p3109")


# Whole numbers ------------------------------------------------------------------------------------


@mutant("sign-not-extended", "level", source="jax-ml/jax/issues/17672")
def sign_not_extended(steps: Steps) -> Steps | None:
    """The sign bit of a two's complement code is not extended: negative codes are read as large positive ones."""
    return reads_table(steps, np.arange(2**steps.scheme.dtype.bits)) if _kind(steps) == "int" else None


@mutant("excess-as-twos-complement", "level", source="1bit-MONSTER/1bit-MONSTER/pull/572")
def excess_as_twos_complement(steps: Steps) -> Steps | None:
    """A code that counts from the lowest level (excess 2^(bits-1)) is read as two's complement."""
    bits = steps.scheme.dtype.bits
    return reads_table(steps, datatype(f"int{bits}").levels) if _kind(steps) == "oint" else None


@mutant("twos-complement-as-excess", "level", source="1bit-MONSTER/1bit-MONSTER/pull/572")
def twos_complement_as_excess(steps: Steps) -> Steps | None:
    """A two's complement code is read as if it counted from the lowest level (excess 2^(bits-1))."""
    bits = steps.scheme.dtype.bits
    return reads_table(steps, datatype(f"oint{bits}").levels) if _kind(steps) == "int" else None


@mutant("read-as-sign-and-magnitude", "level", source="Samsung/ONE/pull/12801")
def read_as_sign_and_magnitude(steps: Steps) -> Steps | None:
    """Codes are read as sign and magnitude: the highest bit negates the others, whatever the code means."""
    if _kind(steps) not in ("int", "oint", "mxint"):
        return None
    return reads_table(steps, _signed_magnitudes(steps) * _unit(steps))


@mutant("float-read-as-integer", "level", source=CONSTRUCTED, signed=(True, False))
def float_read_as_integer(steps: Steps, signed: bool = True) -> Steps | None:
    """The code itself is used as a number (signed: {signed}); no table or exponent is looked up."""
    if _kind(steps) in ("int", "oint", "uint", "mxint"):
        return None
    bits = steps.scheme.dtype.bits
    codes = np.arange(2**bits)
    return reads_table(steps, np.where(signed & (codes >= 2 ** (bits - 1)), codes - 2**bits, codes))


def _unit(steps: Steps) -> float:
    """Return the least step of levels that are whole numbers of it."""
    return float(np.diff(np.unique(steps.scheme.dtype.levels)).min())


def _signed_magnitudes(steps: Steps) -> Array:
    """Return every code read as sign and magnitude, int [2**bits]."""
    half = 2 ** (steps.scheme.dtype.bits - 1)
    codes = np.arange(2 * half)
    return np.where(codes >= half, half - codes, codes)


@mutant(
    "written-in-another-form",
    "encode",
    source="microsoft/microxcaling/issues/3",
    form=("sign and magnitude", "two's complement", "an excess"),
)
def written_in_another_form(steps: Steps, form: str = "sign and magnitude") -> Steps | None:
    """The right whole number is written as {form}, which is not what the reader expects."""
    now = {"int": "two's complement", "mxint": "two's complement", "oint": "an excess"}.get(_kind(steps))
    if now in (None, form):
        return None
    half = 2 ** (steps.scheme.dtype.bits - 1)
    numbers = np.rint(steps.scheme.dtype.levels / _unit(steps)).astype(np.int64)
    written = {
        "sign and magnitude": np.where(numbers < 0, half + np.minimum(-numbers, half - 1), numbers),
        "two's complement": numbers % (2 * half),
        "an excess": numbers + half,
    }[form].astype(np.uint8)
    return replace(steps, encode=lambda y, used, zero: written[steps.encode(y, used, zero)])


@mutant("excess-wraps", "level", source="tile-ai/tilelang/issues/2947", bits=(8, 32, 16))
def excess_wraps(steps: Steps, bits: int = 8) -> Steps | None:
    """What a code counts from is subtracted in unsigned integers of {bits} bits: negative numbers are very large."""
    if _kind(steps) != "oint" or bits < steps.scheme.dtype.bits:
        return None
    levels = table(steps).astype(np.float64)
    return reads_table(steps, np.where(levels < 0, levels + 2.0**bits, levels))


@mutant("excess-one-less", "level", source="tile-ai/tilelang/issues/2477")
def excess_one_less(steps: Steps) -> Steps | None:
    """Code - (2^(bits-1) - 1) is read, excess 7 for 4 bits, whatever the code means."""
    bits = steps.scheme.dtype.bits
    if _kind(steps) not in ("int", "oint"):
        return None
    return reads_table(steps, np.arange(2**bits) - (2 ** (bits - 1) - 1))


@mutant("excess-one-more", "level", source=CONSTRUCTED)
def excess_one_more(steps: Steps) -> Steps | None:
    """Code - (2^(bits-1) + 1) is read, excess 9 for 4 bits."""
    bits = steps.scheme.dtype.bits
    if _kind(steps) not in ("int", "oint"):
        return None
    return reads_table(steps, np.arange(2**bits) - (2 ** (bits - 1) + 1))


@mutant("borrow-across-bytes", "level", source="gittensor-ai-lab/sparkinfer/pull/723")
def borrow_across_bytes(steps: Steps) -> Steps | None:
    """The nibbles of a word become numbers by one subtraction of 32 bits: a negative one borrows from the next byte."""
    if _kind(steps) not in ("int", "oint") or steps.scheme.dtype.bits != 4:
        return None
    flip = np.uint32(0x08080808 if _kind(steps) == "int" else 0)

    def wrong(codes: Codes) -> Array:
        flat = codes.reshape(-1)
        lanes = np.zeros(-(-flat.size // 8) * 8, np.uint8)
        lanes[: flat.size] = flat
        pairs = np.ascontiguousarray(lanes.reshape(-1, 4, 2).transpose(0, 2, 1))  # low nibbles, high nibbles
        words = (pairs.view(np.uint32)[..., 0] ^ flip) - np.uint32(0x08080808)
        numbers = words[..., None].view(np.int8).transpose(0, 2, 1).reshape(-1)
        return numbers[: flat.size].astype(np.float32).reshape(codes.shape)

    return replace(steps, level=wrong)


# Tables -------------------------------------------------------------------------------------------


@mutant("table-rounded", "encode", "level", source="pytorch/ao/blob/main/torchao/dtypes/nf4tensor.py", digits=(4, 2, 3))
def table_rounded(steps: Steps, digits: int = 4) -> Steps | None:
    """The table has only {digits} decimals."""
    return shares_table(steps, lambda levels: np.round(levels, digits)) if _codebook(steps) else None


@mutant(
    "table-in-bf16",
    "encode",
    "level",
    source="NVIDIA/Model-Optimizer/blob/main/modelopt/torch/quantization/qtensor/nf4_tensor.py",
)
def table_in_bf16(steps: Steps) -> Steps | None:
    """The table is kept in bfloat16."""
    return shares_table(steps, Arithmetic("bfloat16").round) if _codebook(steps) else None


@mutant("table-entry-off", "level", source=CONSTRUCTED, code=(5,), by=(0.9375,))
def table_entry_off(steps: Steps, code: int = 5, by: float = 0.9375) -> Steps | None:
    """Entry {code} of the table is {by} of what it should be."""
    if not _codebook(steps) or code >= 2**steps.scheme.dtype.bits:
        return None
    levels = table(steps).copy()
    levels[code] *= np.float32(by)
    return reads_table(steps, levels)


@mutant("e2m1-entry-0.0625", "encode", "level", source="intel/neural-compressor/issues/1891")
def e2m1_entry_0625(steps: Steps) -> Steps | None:
    """The table of E2M1 has 0.0625 where it should have 0.5."""
    if not steps.scheme.dtype.name.startswith("e2m1fn"):
        return None
    return shares_table(steps, lambda levels: np.where(np.abs(levels) == 0.5, np.copysign(0.0625, levels), levels))


@mutant("nf4-symmetric", "encode", "level", source="artidoro/qlora/issues/299")
def nf4_symmetric(steps: Steps) -> Steps | None:
    """The positive levels of NF4 mirror the negative ones."""
    if steps.scheme.dtype.name != "nf4":
        return None
    return shares_table(steps, lambda levels: np.concatenate([levels[:8], -levels[6::-1], levels[15:]]))


@mutant("nf4-read-as-fp4", "level", source="bitsandbytes-foundation/bitsandbytes/issues/1566")
def nf4_read_as_fp4(steps: Steps) -> Steps | None:
    """NF4 codes are read by the table of bitsandbytes' FP4."""
    return reads_table(steps, datatype("fp4_bnb").levels) if steps.scheme.dtype.name.startswith("nf4") else None


@mutant("fp4-confused", "level", source="intel/neural-compressor/issues/1891", to_the_same_top=(True, False))
def fp4_confused(steps: Steps, to_the_same_top: bool = True) -> Steps | None:
    """Codes of bitsandbytes' FP4 are read as E2M1, or codes of E2M1 as bitsandbytes' FP4."""
    name = steps.scheme.dtype.name.partition("+")[0]
    other = {"e2m1fn": "fp4_bnb", "fp4_bnb": "e2m1fn"}.get(name)
    if other is None:
        return None
    levels = datatype(other).levels
    same = steps.scheme.dtype.top / levels[np.isfinite(levels)].max()
    return reads_table(steps, levels * same if to_the_same_top else levels)


@mutant("fnuz-confused", "level", source="uccl-project/uccl/pull/804")
def fnuz_confused(steps: Steps) -> Steps | None:
    """An 8-bit float with infinity or NaN as in OCP is read with the bias of its fnuz twin, or the reverse."""
    pairs = {"e4m3fn": "e4m3fnuz", "e4m3fnuz": "e4m3fn", "e5m2": "e5m2fnuz", "e5m2fnuz": "e5m2"}
    other = pairs.get(steps.scheme.dtype.name.partition("+")[0])
    return None if other is None else reads_table(steps, datatype(other).levels)


@mutant("e4m3-read-as-e5m2", "level", source="zxypro1/algolocal/pull/86")
def e4m3_read_as_e5m2(steps: Steps) -> Steps | None:
    """E4M3 codes are read as E5M2, or the reverse."""
    other = {"e4m3fn": "e5m2", "e5m2": "e4m3fn"}.get(steps.scheme.dtype.name.partition("+")[0])
    return None if other is None else reads_table(steps, datatype(other).levels)


@mutant("subnormals-read-as-normal", "level", source="tile-ai/tilelang/issues/2704")
def subnormals_read_as_normal(steps: Steps) -> Steps | None:
    """Exponent 0 is read as any other: zero and the subnormals get the leading one."""
    d = steps.scheme.dtype
    least = least_normal(d)
    if least is None:
        return None
    levels = table(steps).copy()
    small = np.abs(levels) < least
    # value = m / 2^M * least -> (1 + m / 2^M) * least / 2
    levels[small] = np.copysign((np.abs(levels[small]) + least) / 2, levels[small])
    return reads_table(steps, levels)


@mutant("subnormals-read-as-zero", "level", source="iree-org/iree/pull/20242")
def subnormals_read_as_zero(steps: Steps) -> Steps | None:
    """Subnormal codes are read as zero."""
    least = least_normal(steps.scheme.dtype)
    if least is None:
        return None
    levels = table(steps)
    return reads_table(steps, np.where(np.abs(levels) < least, np.copysign(np.float32(0), levels), levels))


@mutant("negative-subnormals-misread", "level", source="llvm/llvm-project/pull/160121")
def negative_subnormals_misread(steps: Steps) -> Steps | None:
    """E2M1's -0.5 is read as -3: the sign bit takes part in a comparison of magnitudes."""
    if not steps.scheme.dtype.name.startswith("e2m1fn"):
        return None
    levels = table(steps)
    return reads_table(steps, np.where(levels == -0.5, np.float32(-3), levels))


@mutant("negative-zero-read-as-zero", "level", source="tenstorrent/tt-metal/issues/13953")
def negative_zero_read_as_zero(steps: Steps) -> Steps | None:
    """The code of -0 is read as +0."""
    levels = table(steps)
    if not (np.signbit(levels) & (levels == 0)).any():
        return None
    return reads_table(steps, levels + np.float32(0))


@mutant("nan-read-as-number", "level", source="ml-explore/mlx/issues/4135")
def nan_read_as_number(steps: Steps) -> Steps | None:
    """The code of NaN is read as the number that would come next, 480 for e4m3fn."""
    d = steps.scheme.dtype
    if not d.has_nan or d.family != "float":
        return None
    levels = table(steps).copy()
    nan = np.flatnonzero(np.isnan(levels))
    step = d.top - np.unique(levels[np.isfinite(levels)])[-2]
    levels[nan] = np.where(nan < 2 ** (d.bits - 1), d.top + step, -(d.top + step))
    return reads_table(steps, levels)
