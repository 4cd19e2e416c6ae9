"""Mistakes of `scale`, `store`, `double` and `effective`: how a scale is found, stored and read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.conformance.variants.choices import changed
from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.engine.codec import decode, encode
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scales import Plan, Whole
from kbit_ref.tensors.scheme import DOUBLES, WIDE
from kbit_ref.tensors.steps import Array, Steps, reference

__all__ = ["as_scheme"]

SMALLEST_NORMAL = {"f16": 2.0**-14, "e4m3fn": 2.0**-6, "ue4m3": 2.0**-6, "f32": 2.0**-126, "bf16": 2.0**-126}
SYMMETRIC = ("absmax", "absmaxhalf", "absmaxfull", "signedmax")
POWERS = tuple(name for name, facts in FACTS.items() if facts.power_of_two)


def as_scheme(steps: Steps, *words: tuple[str, str]) -> Steps | None:
    """Return the reference of the scheme with other words, or None if it is the same or none."""
    made = changed(steps.scheme, *words)
    return None if made is None else reference(made, steps.arithmetic.name)


def by_rule(steps: Steps, rule: str) -> Steps | None:
    """Return steps that compute the scale by another rule."""
    other = as_scheme(steps, ("rule", rule))
    return None if other is None else replace(steps, scale=other.scale)


# Finding it ---------------------------------------------------------------------------------------


@mutant("scale-over-half-the-range", "scale", source="pytorch/ao/blob/main/torchao/quantization/quant_primitives.py")
def scale_over_half_the_range(steps: Steps) -> Steps | None:
    """The largest magnitude is divided by (2^bits - 1) / 2, 7.5 for 4 bits."""
    return by_rule(steps, "absmaxhalf") if steps.scheme.rule in SYMMETRIC else None


@mutant("scale-over-the-negative-end", "scale", source="Xilinx/brevitas/pull/1308")
def scale_over_the_negative_end(steps: Steps) -> Steps | None:
    """The largest magnitude is divided by 2^(bits - 1), 8 for 4 bits, the magnitude of the lowest level."""
    return by_rule(steps, "absmaxfull") if steps.scheme.rule in SYMMETRIC else None


@mutant("sign-of-the-largest-ignored", "scale", source="Xilinx/brevitas/pull/1308", over=("top", "the lowest level"))
def sign_of_the_largest_ignored(steps: Steps, over: str = "top") -> Steps | None:
    """The scale is max|x| / {over}, without the sign of the largest element."""
    if steps.scheme.rule != "signedmax":
        return None
    if over == "top":
        return by_rule(steps, "absmax")
    lowest = float(steps.scheme.dtype.levels.min())
    return _raw(steps, lambda raw: np.copysign(raw, lowest)) if lowest < 0 else None


@mutant("max-without-abs", "scale", source="kit-cel/lecture-examples/pull/15")
def max_without_abs(steps: Steps) -> Steps | None:
    """The scale comes from max(x) instead of max|x|."""
    if steps.scheme.rule not in (*SYMMETRIC[:3], *POWERS) or steps.scheme["center"] != "none":
        return None

    def wrong(numbers: Array, finite: Array | None, width: int, whole: Whole) -> Plan:
        found = steps.scale(np.maximum(numbers, 0), finite, width, whole)
        return replace(found, numbers=numbers)

    return replace(steps, scale=wrong)


@mutant("exponent-rounded-down", "scale", source="ROCm/aiter/pull/3212")
def exponent_rounded_down(steps: Steps) -> Steps | None:
    """The exponent of the scale is rounded down (OCP's floor)."""
    return by_rule(steps, "pow2floor") if steps.scheme.rule in POWERS else None


@mutant("exponent-rounded-up", "scale", source="tile-ai/tilelang-metax/pull/101")
def exponent_rounded_up(steps: Steps) -> Steps | None:
    """The exponent of the scale is rounded up."""
    return by_rule(steps, "pow2ceil") if steps.scheme.rule in POWERS else None


@mutant("exponent-rounded-to-even", "scale", source="ROCm/FlyDSL/pull/590")
def exponent_rounded_to_even(steps: Steps) -> Steps | None:
    """The exponent of the scale is that of max|x| rounded to the significand of the type."""
    return by_rule(steps, "pow2even") if steps.scheme.rule in POWERS else None


@mutant("exponent-by-quotient", "scale", source="gHashTag/trinity/pull/694")
def exponent_by_quotient(steps: Steps) -> Steps | None:
    """The scale is the power of two at or above max|x| / top."""
    return by_rule(steps, "pow2rceil") if steps.scheme.rule in POWERS else None


@mutant("scale-a-step-off", "scale", source="ROCm/FlyDSL/pull/590", by=(-1, 1, -2, 2))
def scale_a_step_off(steps: Steps, by: int = -1) -> Steps | None:
    """The exponent of the scale is {by:+d} of what it should be."""
    return _raw(steps, lambda raw: raw * 2.0**by) if steps.scheme.rule in POWERS else None


@mutant("exponent-by-logarithm", "scale", source="tenstorrent/tt-metal/issues/52665", by=("log", "log2"))
def exponent_by_logarithm(steps: Steps, by: str = "log") -> Steps | None:
    """The exponent comes from {by} in float32, which errs at and next to powers of two."""
    if steps.scheme.rule not in ("pow2floor", "pow2ceil"):
        return None
    whole = np.floor if steps.scheme.rule == "pow2floor" else np.ceil
    top = int(np.frexp(steps.scheme.dtype.top)[1]) - 1

    def wrong(numbers: Array, finite: Array | None, width: int, whole_: Whole) -> Plan:
        found = steps.scale(numbers, finite, width, whole_)
        seen = found.seen if found.seen_finite is None else np.where(found.seen_finite, found.seen, 0)
        largest = np.abs(seen).max(axis=1, keepdims=True).astype(np.float32)
        with np.errstate(divide="ignore"):
            found_by = (np.log if by == "log" else np.log2)(largest.astype(np.float64)).astype(np.float32)
            exponent = whole(found_by * np.float32(1 / np.log(2)) if by == "log" else found_by)
        power = np.exp2(np.where(np.isfinite(exponent), exponent, 0).astype(np.float64) - top)
        return replace(found, raw=np.where(largest > 0, power, found.raw))

    return replace(steps, scale=wrong)


def _raw(steps: Steps, change: Any) -> Steps:
    """Return steps whose scale is changed before it is stored."""

    def wrong(numbers: Array, finite: Array | None, width: int, whole: Whole) -> Plan:
        found = steps.scale(numbers, finite, width, whole)
        return replace(found, raw=change(found.raw))

    return replace(steps, scale=wrong)


LEFT, BEFORE = "also comes from what is left in the buffer, here ones", "is that of the block before it"


@mutant("tail-scale-of-leftovers", "scale", source="bitsandbytes-foundation/bitsandbytes/pull/1884", it=(LEFT, BEFORE))
def tail_scale_of_leftovers(steps: Steps, it: str = LEFT) -> Steps | None:
    """The scale of a short last block {it}."""
    if steps.scheme.rule not in (*SYMMETRIC[:3], *POWERS):
        return None
    full: list[tuple[Whole, Plan]] = []  # of the blocks before, which come first, and whose array is `whole`

    def wrong(numbers: Array, finite: Array | None, width: int, whole: Whole) -> Plan:
        found = steps.scale(numbers, finite, width, whole)
        if not found.short:
            full[:] = [(whole, found)]
            return found
        if it == BEFORE:
            if not full or full[0][0] is not whole:
                return found
            return replace(found, raw=full[0][1].raw.reshape(len(numbers), -1)[:, -1:])
        more = np.ones((len(numbers), width - numbers.shape[1]), numbers.dtype)
        known = None if finite is None else np.concatenate([finite, more > 0], axis=1)
        return replace(found, raw=steps.scale(np.concatenate([numbers, more], axis=1), known, width, whole).raw)

    return replace(steps, scale=wrong)


@mutant("tail-filled-with-zeros", "scale", source="ikawrakow/ik_llama.cpp/pull/2481")
def tail_filled_with_zeros(steps: Steps) -> Steps | None:
    """The range of a short last block also holds the zeros that fill it up."""
    other = as_scheme(steps, ("tail", "pad"))
    return None if other is None else replace(steps, scale=other.scale)


@mutant("offset-through-zero", "scale", "zero", source="InternLM/lmdeploy/issues/4849")
def offset_through_zero(steps: Steps) -> Steps | None:
    """The range is widened to hold 0, as zeros of padding would do (or is not, where it should be)."""
    swap = {"affine": "affineplain", "affineplain": "affine"}
    other = as_scheme(steps, ("rule", swap.get(steps.scheme.rule, "")))
    if other is not None:
        return replace(steps, scale=other.scale, zero=other.zero)
    if steps.scheme.rule not in ("minmax", "mlx", "hqq"):
        return None

    def wrong(numbers: Array, finite: Array | None, width: int, whole: Whole) -> Plan:
        zero = np.zeros((len(numbers), 1), numbers.dtype)
        known = None if finite is None else np.concatenate([finite, zero == 0], axis=1)
        found = steps.scale(np.concatenate([numbers, zero], axis=1), known, width + 1, whole)
        return replace(found, numbers=numbers, finite=finite)

    return replace(steps, scale=wrong)


@mutant("scale-some-percent-off", "scale", source=CONSTRUCTED, by=(1.08, 0.97, 1.01, 0.92))
def scale_some_percent_off(steps: Steps, by: float = 1.08) -> Steps | None:
    """The scale is found as {by} times what it should be."""
    a = steps.arithmetic
    return None if steps.scheme.rule in POWERS else _raw(steps, lambda raw: a.multiply(raw, a.dtype(by)))


# Storing it ---------------------------------------------------------------------------------------


@mutant("scale-through-half", "store", source="apple/coremltools/issues/2851", form=("float16", "bfloat16"))
def scale_through_half(steps: Steps, form: str = "float16") -> Steps | None:
    """The scale is rounded to {form} before it is stored and used."""
    if steps.scheme.scale_dtype != "f32":
        return None
    narrow = Arithmetic(form)
    return replace(steps, store=lambda p: narrow.round(steps.store(p)))


@mutant("scale-truncated", "store", source="1bit-MONSTER/1bit-MONSTER/issues/304")
def scale_truncated(steps: Steps) -> Steps | None:
    """The stored scale is cut off below instead of rounded to nearest."""
    if steps.scheme.scale_dtype in ("f32", "e8m0fnu"):
        return None
    name = steps.scheme.scale_dtype

    def wrong(p: Plan) -> Array:
        stored = steps.store(p)
        rounded_up = (np.abs(stored) > np.abs(p.raw)) & (p.raw != 0)
        return np.where(rounded_up, _a_step_smaller(stored, name), stored)

    return replace(steps, store=wrong)


def _a_step_smaller(scales: Array, name: str) -> Array:
    """Return the neighbours of stored scales on the side of zero."""
    if name == "f16":
        return np.asarray(np.nextafter(scales.astype(np.float16), np.float16(0)), np.float32)
    if name == "bf16":
        words = scales.astype(np.float32).view(np.uint32) - np.uint32(0x10000)
        return np.asarray(words.view(np.float32))
    levels = np.unique(np.abs(datatype(name).levels))
    below = levels[np.maximum(np.searchsorted(levels, np.abs(scales)) - 1, 0)]
    return np.asarray(np.copysign(below, scales), np.float32)


@mutant("small-scale-flushed", "store", source="invergent-ai/surogate/issues/162")
def small_scale_flushed(steps: Steps) -> Steps | None:
    """Scales below the normal numbers of the stored type become 0."""
    limit = SMALLEST_NORMAL.get(steps.scheme.scale_dtype)
    if limit is None:
        return None

    def wrong(p: Plan) -> Array:
        stored = steps.store(p)
        return np.where(np.abs(stored) < limit, np.float32(0), stored)

    return replace(steps, store=wrong)


@mutant("small-scale-raised", "store", source="pytorch/ao/blob/main/torchao/prototype/mx_formats/nvfp4_tensor.py")
def small_scale_raised(steps: Steps) -> Steps | None:
    """Scales below 2^-6, the least normal number of e4m3, are raised to it."""
    if steps.scheme.scale_dtype not in ("e4m3fn", "ue4m3"):
        return None
    return replace(steps, store=lambda p: np.maximum(steps.store(p), np.float32(2.0**-6)))


@mutant("least-exponent-lost", "store", source="onnx/onnx/blob/v1.19.0/onnx/numpy_helper.py")
def least_exponent_lost(steps: Steps) -> Steps | None:
    """The power of two 2^-127, a subnormal of float32, is stored as 2^-126."""
    if steps.scheme.scale_dtype != "e8m0fnu":
        return None
    return replace(steps, store=lambda p: np.maximum(steps.store(p), np.float32(2.0**-126)))


@mutant("scale-exponent-wraps", "store", source=CONSTRUCTED)
def scale_exponent_wraps(steps: Steps) -> Steps | None:
    """An exponent of the scale beyond those that a byte has wraps around: 2^-128 is stored as NaN, 2^-129 as 2^127."""
    if steps.scheme.scale_dtype != "e8m0fnu" or steps.scheme["scalerange"] == "error":
        return None

    def wrong(p: Plan) -> Array:
        _, exponent = np.frexp(np.asarray(p.raw, np.float64))
        byte = (exponent.astype(np.int64) + 126) % 256
        power = np.where(byte == 255, np.nan, np.ldexp(1.0, byte - 127)).astype(np.float32)
        beyond = (p.raw != 0) & np.isfinite(p.raw) & ((exponent < -126) | (exponent > 128))
        return np.where(beyond, power, steps.store(p))

    return replace(steps, store=wrong)


@mutant("zero-block-nan", "store", source="intel/auto-round/issues/1908")
def zero_block_nan(steps: Steps) -> Steps | None:
    """The scale of a block of zeros is 0 / 0, NaN."""

    def wrong(p: Plan) -> Array:
        return np.where(p.raw == 0, np.float32(np.nan), steps.store(p))

    return replace(steps, store=wrong)


@mutant("infinity-in-the-scale", "store", source="pytorch/pytorch/issues/106780")
def infinity_in_the_scale(steps: Steps) -> Steps | None:
    """An infinity is taken for the largest element: the scale of its block is infinite."""
    if steps.scheme["inf"] == "error":
        return None

    def wrong(p: Plan) -> Array:
        infinite = np.isinf(p.numbers).any(axis=1, keepdims=True)
        return np.where(infinite, np.float32(np.inf), steps.store(p))

    return replace(steps, store=wrong)


@mutant("nan-in-the-scale", "store", source=CONSTRUCTED)
def nan_in_the_scale(steps: Steps) -> Steps | None:
    """A NaN is taken for the largest element: the scale of its block is NaN."""
    if steps.scheme["nan"] != "code":
        return None

    def wrong(p: Plan) -> Array:
        return np.where(np.isnan(p.numbers).any(axis=1, keepdims=True), np.float32(np.nan), steps.store(p))

    return replace(steps, store=wrong)


# The scales again ---------------------------------------------------------------------------------


@mutant(
    "double-without-offset",
    "double",
    source="bitsandbytes-foundation/bitsandbytes/pull/1971",
    read_as=("0", "float32"),
)
def double_without_offset(steps: Steps, read_as: str = "0") -> Steps | None:
    """The scales that are quantized again are read without their mean, whose bytes are read as {read_as}."""
    inner = steps.scheme.double
    if inner is None:
        return None

    def wrong(scales: Array) -> Array:
        q = quantize(scales, inner)
        if q.offsets is None:
            return dequantize(q)
        word = np.asarray(q.offsets, np.float32).view(np.uint32) >> np.uint32(16)  # those of bfloat16, then zeros
        offset = np.zeros_like(q.offsets) if read_as == "0" else word.view(np.float32)
        return dequantize(replace(q, offsets=offset))

    return replace(steps, double=wrong)


@mutant("double-read-raw", "double", source="bitsandbytes-foundation/bitsandbytes/pull/1549")
def double_read_raw(steps: Steps) -> Steps | None:
    """The codes of the scales that are quantized again are used as if they were the scales."""
    inner = steps.scheme.double
    if inner is None:
        return None

    return replace(steps, double=lambda scales: quantize(scales, inner).codes.astype(np.float32))


@mutant("double-by-another-map", "double", source="pytorch/ao/blob/main/torchao/dtypes/nf4tensor.py")
def double_by_another_map(steps: Steps) -> Steps | None:
    """The scales are quantized again as another library does: integers for the dynamic map, or the reverse."""
    inner = steps.scheme.double
    if inner is None:
        return None
    other = "bnb" if steps.scheme["double"] == "torchao" else "torchao"
    return replace(steps, double=lambda scales: dequantize(quantize(scales, DOUBLES[other])))


# Reading it ---------------------------------------------------------------------------------------


@mutant("scale-dropped", "effective", source="wuwangzhang1216/abliterix/pull/93", left_out=("every", "the block's"))
def scale_dropped(steps: Steps, left_out: str = "every") -> Steps | None:
    """The scales are not applied: {left_out} scale is read as 1."""
    if left_out != "every" and steps.scheme["global"] == "none":
        return None

    def wrong(scales: Array, whole: Any) -> Array:
        ones = np.ones_like(scales, np.float32)
        return ones if left_out == "every" else steps.effective(ones, whole)

    return replace(steps, effective=wrong)


@mutant("scale-without-bias", "effective", source="tile-ai/tilelang/issues/2748")
def scale_without_bias(steps: Steps) -> Steps | None:
    """The exponent of the scale is read without its bias of 127: 2^127 times too large, or infinite."""
    return with_bias(steps, 0)


@mutant("scale-with-another-bias", "effective", source=CONSTRUCTED, bias=(128, 126, 15, 7))
def scale_with_another_bias(steps: Steps, bias: int = 128) -> Steps | None:
    """The exponent of the scale is read with a bias of {bias} instead of 127."""
    return with_bias(steps, bias)


def with_bias(steps: Steps, bias: int) -> Steps | None:
    """Return steps that read a byte b of e8m0 as 2^(b - bias), in float32."""
    if steps.scheme.scale_dtype != "e8m0fnu":
        return None

    def wrong(scales: Array, whole: Any) -> Array:
        with np.errstate(all="ignore"):
            powers = np.ldexp(1.0, _bytes(steps, scales).astype(np.int32) - bias).astype(np.float32)
            return steps.effective(powers, whole)

    return replace(steps, effective=wrong)


@mutant("scale-byte-shifted", "effective", source="NVIDIA/TransformerEngine/pull/3262")
def scale_byte_shifted(steps: Steps) -> Steps | None:
    """The byte of a scale is shifted into the exponent of a float32: byte 0 is read as 0, byte 255 as infinity."""
    if steps.scheme.scale_dtype != "e8m0fnu":
        return None

    def wrong(scales: Array, whole: Any) -> Array:
        with np.errstate(invalid="ignore"):
            words = _bytes(steps, scales).astype(np.uint32) << np.uint32(23)
            return steps.effective(words.view(np.float32), whole)

    return replace(steps, effective=wrong)


@mutant("scale-byte-signed", "effective", source=CONSTRUCTED)
def scale_byte_signed(steps: Steps) -> Steps | None:
    """The byte of a scale is read as a signed one: from 128 on the exponent is 256 too small."""
    if steps.scheme.scale_dtype != "e8m0fnu":
        return None

    def wrong(scales: Array, whole: Any) -> Array:
        with np.errstate(under="ignore"):
            exponents = _bytes(steps, scales).view(np.int8).astype(np.int32) - 127
            return steps.effective(np.ldexp(1.0, exponents).astype(np.float32), whole)

    return replace(steps, effective=wrong)


def _bytes(steps: Steps, scales: Array) -> Array:
    """Return the codes of stored scales, uint8 or uint16."""
    return np.ascontiguousarray(encode(steps.scheme.scale_type, scales, threads=1))


@mutant(
    "scale-read-as-another-type",
    "effective",
    source="ROCm/rocm-libraries/pull/7439",
    other=("e8m0fnu", "e4m3fn", "e4m3fnuz", "e5m2", "ue4m3", "ue5m3", "e4m4"),
)
def scale_read_as_another_type(steps: Steps, other: str = "e8m0fnu") -> Steps | None:
    """The byte of a scale is read as {other}, which it is not."""
    stored = steps.scheme.scale_dtype
    if stored in (*WIDE, other):
        return None
    kind = datatype(other)

    def wrong(scales: Array, whole: Any) -> Array:
        with np.errstate(all="ignore"):
            return steps.effective(decode(kind, _bytes(steps, scales), threads=1), whole)

    return replace(steps, effective=wrong)


@mutant(
    "scale-cut-to-a-power-of-two", "effective", source="sgl-project/sglang/pull/39193", way=("down", "up", "or nearest")
)
def scale_cut_to_a_power_of_two(steps: Steps, way: str = "down") -> Steps | None:
    """The reader makes the scale a power of two, the next one {way}."""
    if steps.scheme.scale_dtype == "e8m0fnu":
        return None

    def wrong(scales: Array, whole: Any) -> Array:
        fraction, exponent = np.frexp(scales)  # scale = fraction * 2**exponent, 1/2 <= |fraction| < 1
        higher = {"down": False, "up": np.abs(fraction) > 0.5, "or nearest": np.abs(fraction) >= 0.75}[way]
        with np.errstate(all="ignore"):
            power = np.ldexp(np.copysign(np.float32(0.5), fraction), exponent + higher)
            kept = np.where((scales == 0) | ~np.isfinite(scales), scales, power)
            return steps.effective(kept.astype(np.float32), whole)

    return replace(steps, effective=wrong)


@mutant("least-scale-halved", "effective", source=CONSTRUCTED)
def least_scale_halved(steps: Steps) -> Steps | None:
    """Scales below the normal numbers of their type (2^-127 for e8m0) are read as half of what they are."""
    least = {"e8m0fnu": 2.0**-126} | SMALLEST_NORMAL
    limit = least.get(steps.scheme.scale_dtype)
    if limit is None:
        return None

    def wrong(scales: Array, whole: Any) -> Array:
        with np.errstate(under="ignore"):
            halved = np.where(np.abs(scales) < limit, scales * np.float32(0.5), scales)
            return steps.effective(halved, whole)

    return replace(steps, effective=wrong)


@mutant(
    "global-scale-uninitialised", "effective", source="vllm-project/vllm/issues/54444", holds=("0", "0xa5a5a5a5", "NaN")
)
def global_scale_uninitialised(steps: Steps, holds: str = "0") -> Steps | None:
    """The global scale is memory that nobody wrote, {holds}."""
    if steps.scheme["global"] == "none":
        return None
    word = np.array({"0": 0, "0xa5a5a5a5": 0xA5A5A5A5, "NaN": 0x7FC00000}[holds], np.uint32).view(np.float32)[()]

    def wrong(scales: Array, whole: Any) -> Array:
        with np.errstate(all="ignore"):
            return steps.effective(scales, word)

    return replace(steps, effective=wrong)


@mutant("scale-divides", "times", source="modular/modular/issues/6600")
def scale_divides(steps: Steps) -> Steps:
    """The reader takes a multiplier for a divisor (or the reverse): it divides by the scale."""
    multiplies = steps.scheme["scaleas"] == "divisor"

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        with np.errstate(all="ignore"):
            left = levels if zero is None else np.asarray(levels - zero, np.float32)
            scaled = left * scale if multiplies else left / scale
        return steps.times(scaled, np.ones_like(scale), None, offset)

    return replace(steps, times=wrong)


@mutant("global-scale-inverted", "effective", source="vllm-project/vllm/pull/41769")
def global_scale_inverted(steps: Steps) -> Steps | None:
    """The reader divides by the global scale where it should multiply, or the reverse."""
    if steps.scheme["global"] == "none":
        return None
    divides = steps.scheme["global"] == "multiplier"

    def wrong(scales: Array, whole: Any) -> Array:
        with np.errstate(all="ignore"):
            return steps.effective(scales / whole if divides else scales * whole, np.float32(1))

    return replace(steps, effective=wrong)


@mutant("global-scale-ignored", "effective", source="jax-ml/jax/pull/30467")
def global_scale_ignored(steps: Steps) -> Steps | None:
    """The reader leaves the global scale out."""
    if steps.scheme["global"] == "none":
        return None
    return replace(steps, effective=lambda scales, whole: steps.effective(scales, np.float32(1)))


@mutant("scale-in-bf16", "effective", source="vllm-project/vllm/pull/37464", form=("bfloat16", "float16"))
def scale_in_bf16(steps: Steps, form: str = "bfloat16") -> Steps:
    """The reader rounds the scale to {form} before it multiplies."""
    narrow = Arithmetic(form)
    return replace(steps, effective=lambda scales, whole: narrow.round(steps.effective(scales, whole)))


@mutant("scale-byte-as-number", "effective", source="ml-explore/mlx/issues/3762")
def scale_byte_as_number(steps: Steps) -> Steps | None:
    """The byte of a stored scale is used as a number, not decoded."""
    if steps.scheme.scale_dtype == "f32":
        return None

    def wrong(scales: Array, whole: Any) -> Array:
        return steps.effective(_bytes(steps, scales).astype(np.float32), whole)

    return replace(steps, effective=wrong)


@mutant("scale-subnormals-misread", "effective", source="1bit-MONSTER/1bit-MONSTER/issues/300")
def scale_subnormals_misread(steps: Steps) -> Steps | None:
    """A subnormal scale is read as if its significand had the leading one: (1 + m) * 2^-7 for e4m3."""
    least = None if steps.scheme.scale_dtype in ("f32", "bf16") else SMALLEST_NORMAL.get(steps.scheme.scale_dtype)
    if least is None:
        return None

    def wrong(scales: Array, whole: Any) -> Array:
        small = (np.abs(scales) < least) & (scales != 0)
        misread = (scales / 2 + np.copysign(np.float32(least / 2), scales)).astype(np.float32)
        return steps.effective(np.where(small, misread, scales), whole)

    return replace(steps, effective=wrong)


@mutant("table-doubled", "effective", source="ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h")
def table_doubled(steps: Steps) -> Steps | None:
    """A doubled table (0 1 2 3 4 6 8 12 for E2M1) is used without halving the scale."""
    if not steps.scheme.dtype.name.startswith("e2m1fn"):
        return None

    def wrong(scales: Array, whole: Any) -> Array:
        with np.errstate(over="ignore"):
            return steps.effective(scales, whole) * np.float32(2)

    return replace(steps, effective=wrong)
