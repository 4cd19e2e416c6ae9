"""Mistakes of `read`, `quotient` and `encode`: from a number to its code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kbit_ref.arithmetic import Arithmetic, round_to_integer
from kbit_ref.conformance.variants.levels import least_normal
from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.conformance.variants.scales import as_scheme
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.tensors.scales import Plan, Whole, used_scale
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Array, Codes, Steps

__all__: list[str] = []


def encodes_as(steps: Steps, *words: tuple[str, str]) -> Steps | None:
    """Return steps that encode as the scheme with other words does."""
    other = as_scheme(steps, *words)
    return None if other is None else replace(steps, encode=other.encode)


def divides_as(steps: Steps, *words: tuple[str, str]) -> Steps | None:
    """Return steps that divide as the scheme with other words does."""
    other = as_scheme(steps, *words)
    return None if other is None else replace(steps, quotient=other.quotient)


def before_encoding(steps: Steps, change: Callable[[Array], Array]) -> Steps:
    """Return steps that change the scaled numbers before they are encoded."""

    def wrong(y: Array, used: Array, zero: Array | None) -> Codes:
        with np.errstate(all="ignore"):
            return steps.encode(change(y).astype(y.dtype), used, zero)

    return replace(steps, encode=wrong)


def _is_integer(steps: Steps) -> bool:
    """Return whether the levels are consecutive whole numbers."""
    levels = np.unique(steps.scheme.dtype.levels[steps.scheme.dtype.emitted])
    return bool((np.diff(levels) == 1).all()) and steps.scheme.dtype.family == "integer"


# The numbers --------------------------------------------------------------------------------------


@mutant(
    "numbers-through-bf16",
    "read",
    source="vllm-project/compressed-tensors/issues/824",
    form=("bfloat16", "float16", "float32"),
)
def numbers_through_bf16(steps: Steps, form: str = "bfloat16") -> Steps:
    """The numbers are rounded to {form} before anything else, and then again."""
    narrow = Arithmetic(form)
    return replace(steps, read=lambda rows: steps.read(narrow.round(rows)))


@mutant("subnormal-numbers-flushed", "read", source="iree-org/iree/pull/20242")
def subnormal_numbers_flushed(steps: Steps) -> Steps:
    """Subnormal float32 numbers are taken for 0."""
    return replace(steps, read=lambda rows: steps.read(np.where(np.abs(rows) < 2.0**-126, np.copysign(0, rows), rows)))


@mutant("numbers-cut-to-bf16", "read", source="tenstorrent/tt-metal/pull/26123")
def numbers_cut_to_bf16(steps: Steps) -> Steps:
    """Of each float32 number only the upper 16 bits are kept: it is cut to bfloat16, not rounded."""
    return replace(steps, read=lambda rows: steps.read(_upper_half(rows)))


def _upper_half(numbers: Array) -> Array:
    """Clear the lower 16 bits of float32; a NaN of which only these are set becomes an infinity."""
    words = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    return (words & np.uint32(0xFFFF0000)).view(np.float32)


# NaN and infinity ---------------------------------------------------------------------------------


@mutant("nan-cut-to-infinity", "read", source="dotnet/runtime/pull/130583")
def nan_cut_to_infinity(steps: Steps) -> Steps | None:
    """A NaN of which only the lower half of the bits is set becomes an infinity, since its upper half is one."""
    return _nan_as_infinity(steps, lambda bits: 2**bits - 2 ** (bits // 2))


@mutant("signalling-nan-as-infinity", "read", source="stillwater-sc/universal/issues/1303")
def signalling_nan_as_infinity(steps: Steps) -> Steps | None:
    """A NaN without the quiet bit is not taken for a NaN but for an infinity."""
    return _nan_as_infinity(steps, lambda bits: 2 ** (SIGNIFICAND[bits] - 1))


SIGNIFICAND = {16: 10, 32: 23, 64: 52}  # stored bits of it, by the bits of a format


def _nan_as_infinity(steps: Steps, kept: Callable[[int], int]) -> Steps | None:
    """Return steps that read only masked bits of the significand of a NaN, and an infinity if those are all 0."""
    if steps.scheme["nan"] == "error" and not steps.scheme.dtype.has_nan:
        return None

    def wrong(rows: Array) -> Array:
        bits = 8 * rows.dtype.itemsize
        word = np.ascontiguousarray(rows).view(f"u{rows.dtype.itemsize}")
        mask = word.dtype.type(kept(bits) & 2 ** SIGNIFICAND[bits] - 1)
        infinite = np.isnan(rows) & (word & mask == 0)
        return steps.read(np.where(infinite, np.copysign(rows.dtype.type(np.inf), rows), rows))

    return replace(steps, read=wrong)


@mutant("nan-to-zero", "admit", source="vllm-project/compressed-tensors/issues/781")
def nan_to_zero(steps: Steps) -> Steps | None:
    """NaN is taken for 0."""
    other = as_scheme(steps, ("nan", "zero")) if steps.scheme["nan"] == "code" else None
    return None if other is None else replace(steps, admit=other.admit)


@mutant("nan-to-the-largest", "encode", source="tenstorrent/tt-metal/issues/56826")
def nan_to_the_largest(steps: Steps) -> Steps | None:
    """NaN gets the code of the largest number."""
    if steps.scheme["nan"] != "code":
        return None
    return before_encoding(steps, lambda y: np.where(np.isnan(y), steps.scheme.dtype.top, y))


@mutant("infinity-becomes-nan", "encode", source="flashinfer-ai/flashinfer/pull/4023")
def infinity_becomes_nan(steps: Steps) -> Steps | None:
    """An infinity becomes NaN, since its reciprocal scale is 0."""
    if steps.scheme["inf"] == "error" or not steps.scheme.dtype.has_nan:
        return None
    return before_encoding(steps, lambda y: np.where(np.isinf(y), np.nan, y))


# The quotient -------------------------------------------------------------------------------------


@mutant("multiplies-by-reciprocal", "quotient", source="tenstorrent/tt-metal/issues/56525")
def multiplies_by_reciprocal(steps: Steps) -> Steps | None:
    """Numbers are multiplied by fl(1 / scale) instead of divided by the scale."""
    return divides_as(steps, ("arith", "reciprocal")) if steps.scheme["arith"] == "divide" else None


@mutant(
    "divides", "quotient", source="bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/backends/triton/ops.py"
)
def divides(steps: Steps) -> Steps | None:
    """Numbers are divided by the scale instead of multiplied by its reciprocal."""
    return divides_as(steps, ("arith", "divide")) if steps.scheme["arith"].startswith("reciprocal") else None


@mutant("tail-divides", "quotient", source="pytorch/pytorch/issues/107030")
def tail_divides(steps: Steps) -> Steps | None:
    """Full blocks and short last ones differ: one is multiplied by the reciprocal, the other divided."""
    tail = "same" if steps.scheme["tailarith"] == "divide" else "divide"
    return divides_as(steps, ("tailarith", tail)) if steps.scheme["arith"] == "reciprocal" else None


@mutant("scale-used-unrounded", "quotient", source="huggingface/transformers/pull/46763")
def scale_used_unrounded(steps: Steps) -> Steps | None:
    """Numbers are divided by the scale as it was before it was stored."""
    s = steps.scheme
    if s["scaleuse"] == "unrounded":
        return None

    other = Scheme(s.dtype, s.cut, s.rule, s.scale_dtype, {**s.choices, "scaleuse": "unrounded"})

    def wrong(p: Plan, used: Array, whole: Whole) -> Array:
        exactly = used_scale(other, steps.arithmetic, whole, p)
        exactly = np.where(np.isfinite(exactly) & (used != 0), exactly, used.dtype.type(0))
        return steps.quotient(replace(p, stored=steps.arithmetic.round(p.raw)), exactly, whole)

    return replace(steps, quotient=wrong)


@mutant("scale-used-rounded", "quotient", source="ml-explore/mlx/blob/main/mlx/backend/metal/kernels/quantized.h")
def scale_used_rounded(steps: Steps) -> Steps | None:
    """Numbers are divided by the scale as it is stored, where it should be the one before rounding."""
    if steps.scheme["scaleuse"] != "unrounded" or steps.scheme["global"] != "none":
        return None
    other = as_scheme(steps, ("scaleuse", "rounded"))
    if other is None:
        return None
    return replace(steps, quotient=lambda p, used, whole: other.quotient(p, p.stored.astype(used.dtype), whole))


@mutant("quotient-through-half", "quotient", source="triton-lang/triton/pull/2583", form=("float16", "bfloat16"))
def quotient_through_half(steps: Steps, form: str = "float16") -> Steps:
    """The quotient is rounded to {form} before it is rounded to a level: twice."""
    narrow = Arithmetic(form)
    return replace(steps, quotient=lambda p, used, whole: narrow.round(steps.quotient(p, used, whole)))


@mutant("zero-block-divided", "quotient", source="huggingface/kernels-community/issues/681")
def zero_block_divided(steps: Steps) -> Steps | None:
    """A block of zeros is divided by its scale 0: its elements are NaN."""
    if not steps.scheme.dtype.has_nan:
        return None

    def wrong(p: Plan, used: Array, whole: Whole) -> Array:
        y = steps.quotient(p, used, whole)
        return np.where(used == 0, y.dtype.type(np.nan), y)

    return replace(steps, quotient=wrong)


# Rounding to a level ------------------------------------------------------------------------------


@mutant("ties-away", "encode", source="sonos/tract/pull/2850")
def ties_away(steps: Steps) -> Steps | None:
    """Ties are rounded away from zero."""
    return encodes_as(steps, ("ties", "away"), ("encoder", "nearest"))


@mutant("ties-up", "encode", source="onnx/onnx/blob/v1.14.0/onnx/helper.py")
def ties_up(steps: Steps) -> Steps | None:
    """Ties are rounded up."""
    return encodes_as(steps, ("ties", "upper"), ("encoder", "nearest"))


@mutant("ties-down", "encode", source="bitsandbytes-foundation/bitsandbytes/blob/main/csrc/kernels.cu")
def ties_down(steps: Steps) -> Steps | None:
    """Ties are rounded down."""
    return encodes_as(steps, ("ties", "lower"), ("encoder", "nearest"))


@mutant("ties-to-zero", "encode", source="ggml-org/llama.cpp/blob/master/gguf-py/gguf/quants.py")
def ties_to_zero(steps: Steps) -> Steps | None:
    """Ties are rounded toward zero."""
    return encodes_as(steps, ("ties", "zero"), ("encoder", "nearest"))


@mutant("ties-to-even", "encode", source="imazen/archmage/issues/20")
def ties_to_even(steps: Steps) -> Steps | None:
    """Ties are rounded to the even code."""
    return encodes_as(steps, ("ties", "even"), ("encoder", "nearest"))


@mutant("half-added-in-float32", "encode", source="ModelCloud/GPTQModel/pull/3058")
def half_added_in_float32(steps: Steps) -> Steps | None:
    """Integers are floor(y + 0.5) in float32, so that 0.49999997 becomes 1."""
    if not _is_integer(steps):
        return None
    return before_encoding(steps, lambda y: np.floor(y.astype(np.float32) + np.float32(0.5)))


@mutant("truncates", "encode", source="sgl-project/sglang-jax/pull/1598")
def truncates(steps: Steps) -> Steps | None:
    """Numbers are cut off toward zero instead of rounded."""
    if _is_integer(steps):
        return before_encoding(steps, np.trunc)
    return encodes_as(steps, ("rounding", "toward_zero"), ("encoder", "nearest"))


@mutant("rounds-down", "encode", source="pytorch/glow/pull/3707")
def rounds_down(steps: Steps) -> Steps | None:
    """Numbers are rounded down, to the level below."""
    if _is_integer(steps):
        return before_encoding(steps, np.floor)
    return encodes_as(steps, ("rounding", "toward_negative"), ("encoder", "nearest"))


@mutant("sticky-bits-lost", "encode", source="numpy/numpy/issues/12721")
def sticky_bits_lost(steps: Steps) -> Steps:
    """Only the upper half of a float32 decides, so that what is just above a tie is taken for one."""

    return before_encoding(steps, _upper_half)


@mutant("fewer-significand-bits", "encode", source=CONSTRUCTED, lost=(1, 2))
def fewer_significand_bits(steps: Steps, lost: int = 1) -> Steps | None:
    """Numbers are rounded to {lost} bits of significand fewer than the type has."""
    s = steps.scheme
    least = least_normal(s.dtype)
    if least is None or s["encoder"] != "nearest" or s.dtype.rounding != "nearest":
        return None
    n_subnormal = int((np.unique(np.abs(s.dtype.levels)) < least).sum())
    if n_subnormal < 2**lost:
        return None
    d = s.dtype
    shorter = DataType(d.name, d.bits - lost, d.levels[:: 2**lost], (), d.ties, "saturate", d.zero_sign)

    def wrong(y: Array, used: Array, zero: Array | None) -> Codes:
        finite = np.isfinite(y)
        codes = encode(shorter, np.where(finite, y, 0), threads=1).astype(np.uint8) << np.uint8(lost)
        return codes if finite.all() else np.where(finite, codes, steps.encode(y, used, zero))

    return replace(steps, encode=wrong)


@mutant("low-bits-dropped", "encode", source=CONSTRUCTED, n=(1, 2, 3, 4))
def low_bits_dropped(steps: Steps, n: int = 1) -> Steps | None:
    """The lowest {n} bits of every code are 0."""
    if steps.scheme.dtype.bits <= n:
        return None
    mask = np.uint8(256 - 2**n)
    return replace(steps, encode=lambda y, used, zero: steps.encode(y, used, zero) & mask)


@mutant("overflows-int32", "encode", source="onnx/onnx/blob/main/onnx/reference/ops/op_quantize_linear.py")
def overflows_int32(steps: Steps) -> Steps | None:
    """Whole numbers pass through int32 before they are clamped: from 2^31 on, and infinite ones, become -2^31."""
    if not _is_integer(steps):
        return None
    return before_encoding(steps, lambda y: np.where(np.abs(np.rint(y)) >= 2.0**31, -(2.0**31), y))


@mutant("wraps", "encode", source="google/XNNPACK/pull/10460")
def wraps(steps: Steps) -> Steps | None:
    """Integers beyond the last level wrap around instead of saturating."""
    s = steps.scheme
    if not _is_integer(steps) or s["encoder"] != "nearest":
        return None
    lowest, n = float(s.dtype.levels.min()), 2**s.dtype.bits

    def wrong(y: Array, used: Array, zero: Array | None) -> Codes:
        right = steps.encode(y, used, zero)
        before = zero is not None and (s["zeroadd"] == "before" or FACTS[s.rule].zero_point == "real")
        with np.errstate(invalid="ignore", over="ignore"):
            whole = round_to_integer(steps.arithmetic.add(y, zero) if before else y, s.dtype.ties).astype(np.float64)
            whole = whole if before or zero is None else whole + zero
            wrapped = np.where(np.isfinite(whole), np.mod(whole - lowest, n) + lowest, 0)
            beyond = np.isfinite(whole) & ((whole < lowest) | (whole > s.dtype.top))
        return np.where(beyond, encode(s.dtype, wrapped, threads=1), right)

    return replace(steps, encode=wrong)


@mutant("lowest-level-unused", "encode", source="keras-team/keras/blob/master/keras/src/quantizers/quantizers.py")
def lowest_level_unused(steps: Steps) -> Steps | None:
    """The lowest level, which has no positive twin, is never used: numbers are clamped to the symmetric range."""
    s = steps.scheme
    if -s.dtype.levels.min() <= s.dtype.top:
        return None
    return before_encoding(steps, lambda y: np.maximum(y, -s.dtype.top))


POSITIVE, NEGATIVE = "positive ", "negative "


@mutant("largest-level-unused", "encode", source=CONSTRUCTED, sign=("", POSITIVE, NEGATIVE))
def largest_level_unused(steps: Steps, sign: str = "") -> Steps | None:
    """The {sign}level of largest magnitude is never used."""
    s = steps.scheme
    levels = np.unique(s.dtype.levels[s.dtype.emitted])
    levels = levels[np.isfinite(levels)]
    if s["encoder"].startswith("add") or levels.size < 4:
        return None
    low = {NEGATIVE: levels[1], POSITIVE: -np.inf}.get(sign, -levels[-2])
    high = np.inf if sign == NEGATIVE else levels[-2]
    return before_encoding(steps, lambda y: np.where(np.isfinite(y), np.clip(y, low, high), y))


@mutant("last-binade-saturates", "encode", source="sgl-project/sglang/pull/40581")
def last_binade_saturates(steps: Steps) -> Steps | None:
    """All numbers of the last binade (256 and above for e4m3fn) become the largest one."""
    s = steps.scheme
    if s.dtype.family != "float":
        return None
    binade = 2.0 ** (int(np.frexp(s.dtype.top)[1]) - 1)

    def early(y: Array) -> Array:
        return np.where((np.abs(y) >= binade) & np.isfinite(y), np.copysign(s.dtype.top, y), y)

    return before_encoding(steps, early)


@mutant("overflow-to-nan", "encode", source="pytorch/pytorch/pull/178817")
def overflow_to_nan(steps: Steps) -> Steps | None:
    """What rounds beyond the largest number becomes NaN (or infinity) instead of that number."""
    return encodes_as(steps, ("overflow", "ieee")) if steps.scheme.dtype.has_nan else None


@mutant("above-the-top-is-nan", "encode", source="ucb-bar/saturn-vectors/pull/101")
def above_the_top_is_nan(steps: Steps) -> Steps | None:
    """Every number above the largest level becomes NaN, though it would round down to it."""
    s = steps.scheme
    if s.dtype.nan_code is None:
        return None
    return before_encoding(steps, lambda y: np.where(np.abs(y) > s.dtype.top, np.nan, y))


@mutant("subnormals-flushed", "encode", source="apache/tvm/issues/20315")
def subnormals_flushed(steps: Steps) -> Steps | None:
    """What lies below the least normal number of the type becomes 0."""
    least = least_normal(steps.scheme.dtype)
    if least is None:
        return None
    return before_encoding(steps, lambda y: np.where(np.abs(y) < least, np.copysign(0.0, y), y))


@mutant("negative-zero-lost", "encode", source="scott-griffiths/bitstring/issues/333")
def negative_zero_lost(steps: Steps) -> Steps | None:
    """Negative numbers that round to zero, and -0, become +0."""
    return encodes_as(steps, ("zero_sign", "positive"))


@mutant("negative-zero-made", "encode", source="almide/almide/issues/1358")
def negative_zero_made(steps: Steps) -> Steps | None:
    """Negative numbers that round to zero become -0, where the scheme has +0 (or +0 for -0 itself)."""
    return encodes_as(steps, ("zero_sign", "negative"))


@mutant("negative-zero-is-nan", "encode", source="microsoft/onnxruntime/pull/18473")
def negative_zero_is_nan(steps: Steps) -> Steps | None:
    """Negative numbers that round to zero keep the sign bit, which is NaN in this type."""
    s = steps.scheme
    if "fnuz" not in s.dtype.name:
        return None
    sign = np.uint8(2 ** (s.dtype.bits - 1))

    def wrong(y: Array, used: Array, zero: Array | None) -> Codes:
        right = steps.encode(y, used, zero)
        return np.where((right == 0) & np.signbit(y), sign, right)

    return replace(steps, encode=wrong)


@mutant(
    "zero-point-before-rounding",
    "encode",
    source="pytorch/pytorch/blob/main/aten/src/ATen/native/quantized/AffineQuantizerBase.cpp",
)
def zero_point_before_rounding(steps: Steps) -> Steps | None:
    """The zero point is added before rounding instead of after (or the reverse)."""
    return encodes_as(steps, ("zeroadd", "after" if steps.scheme["zeroadd"] == "before" else "before"))
