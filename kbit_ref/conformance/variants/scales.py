"""Mistakes of `scale`, `store`, `double` and `effective`: how a scale is found, stored and read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.conformance.variants.choices import changed
from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.engine.codec import encode
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.tensors.dequantize import dequantize
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scales import Plan, Whole
from kbit_ref.tensors.scheme import DOUBLES
from kbit_ref.tensors.steps import Array, Steps, reference

__all__ = ["as_scheme"]

SYMMETRIC = ("absmax", "absmaxhalf", "absmaxfull", "signedmax")
POWERS = tuple(name for name, facts in FACTS.items() if facts.power_of_two)


def as_scheme(steps: Steps, *words: tuple[str, str]) -> Steps | None:
    """The reference of the scheme with other words, or None if it is the same or none."""
    made = changed(steps.scheme, *words)
    return None if made is None else reference(made, steps.arithmetic.name)


def by_rule(steps: Steps, rule: str) -> Steps | None:
    """Steps that find the scale by another rule."""
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


@mutant("sign-of-the-largest-ignored", "scale", source="Xilinx/brevitas/pull/1308")
def sign_of_the_largest_ignored(steps: Steps) -> Steps | None:
    """The scale is max|x| / top, without the sign of the largest element."""
    return by_rule(steps, "absmax") if steps.scheme.rule == "signedmax" else None


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


@mutant("exponent-by-logarithm", "scale", source="tenstorrent/tt-metal/issues/52665")
def exponent_by_logarithm(steps: Steps) -> Steps | None:
    """The exponent comes from a logarithm in float32, which errs at and next to powers of two."""
    if steps.scheme.rule not in ("pow2floor", "pow2ceil"):
        return None
    whole = np.floor if steps.scheme.rule == "pow2floor" else np.ceil
    top = int(np.frexp(steps.scheme.dtype.top)[1]) - 1

    def wrong(numbers: Array, finite: Array | None, width: int, whole_: Whole) -> Plan:
        found = steps.scale(numbers, finite, width, whole_)
        seen = found.seen if found.seen_finite is None else np.where(found.seen_finite, found.seen, 0)
        largest = np.abs(seen).max(axis=1, keepdims=True).astype(np.float32)
        with np.errstate(divide="ignore"):
            exponent = whole(np.log(largest.astype(np.float64)).astype(np.float32) * np.float32(1 / np.log(2)))
        power = np.exp2(np.where(np.isfinite(exponent), exponent, 0).astype(np.float64) - top)
        return replace(found, raw=np.where(largest > 0, power, found.raw))

    return replace(steps, scale=wrong)


def _raw(steps: Steps, change: Any) -> Steps:
    """Steps whose scale is changed before it is stored."""

    def wrong(numbers: Array, finite: Array | None, width: int, whole: Whole) -> Plan:
        found = steps.scale(numbers, finite, width, whole)
        return replace(found, raw=change(found.raw))

    return replace(steps, scale=wrong)


@mutant("tail-scale-of-leftovers", "scale", source="bitsandbytes-foundation/bitsandbytes/pull/1884")
def tail_scale_of_leftovers(steps: Steps) -> Steps | None:
    """The scale of a short last block also comes from what is left in the buffer, here ones."""
    if steps.scheme.rule not in (*SYMMETRIC[:3], *POWERS):
        return None

    def wrong(numbers: Array, finite: Array | None, width: int, whole: Whole) -> Plan:
        found = steps.scale(numbers, finite, width, whole)
        if not found.short:
            return found
        more = np.ones((len(numbers), width - numbers.shape[1]), numbers.dtype)
        known = None if finite is None else np.concatenate([finite, more > 0], axis=1)
        return replace(found, raw=steps.scale(np.concatenate([numbers, more], axis=1), known, width, whole).raw)

    return replace(steps, scale=wrong)


@mutant("tail-filled-with-zeros", "scale", source="ikawrakow/ik_llama.cpp/pull/2481")
def tail_filled_with_zeros(steps: Steps) -> Steps | None:
    """The range of a short last block also holds the zeros that fill it up."""
    other = as_scheme(steps, ("tail", "pad"))
    return None if other is None else replace(steps, scale=other.scale)


@mutant("offset-through-zero", "scale", source="keras-team/keras/blob/master/keras/src/quantizers/quantizers.py")
def offset_through_zero(steps: Steps) -> Steps | None:
    """The range is not widened to hold 0 (or is, where it should not be)."""
    swap = {"affine": "affineplain", "affineplain": "affine"}
    other = as_scheme(steps, ("rule", swap.get(steps.scheme.rule, "")))
    return None if other is None else replace(steps, scale=other.scale, zero=other.zero)


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
    """The neighbours of stored scales on the side of zero."""
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
    least = {"f16": 2.0**-14, "e4m3fn": 2.0**-6, "ue4m3": 2.0**-6, "f32": 2.0**-126, "bf16": 2.0**-126}
    limit = least.get(steps.scheme.scale_dtype)
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


@mutant("double-without-offset", "double", source=CONSTRUCTED)
def double_without_offset(steps: Steps) -> Steps | None:
    """The scales that are quantized again are read without their mean."""
    inner = steps.scheme.double
    if inner is None:
        return None

    def wrong(scales: Array) -> Array:
        mean = quantize(scales, inner).offsets
        return steps.double(scales) - (np.float32(0) if mean is None else mean)

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


@mutant("scale-divides", "effective", source="modular/modular/issues/6600")
def scale_divides(steps: Steps) -> Steps | None:
    """The reader takes a multiplier for a divisor (or the reverse): it uses 1 / scale."""

    def wrong(scales: Array, whole: Any) -> Array:
        used = steps.effective(scales, whole)
        with np.errstate(divide="ignore", over="ignore"):
            return np.float32(1) / used

    return replace(steps, effective=wrong)


@mutant("global-scale-inverted", "effective", source="vllm-project/vllm/pull/41769")
def global_scale_inverted(steps: Steps) -> Steps | None:
    """The reader divides by the global scale where it should multiply, or the reverse."""
    if steps.scheme["global"] == "none":
        return None
    return replace(steps, effective=lambda scales, whole: steps.effective(scales, np.float32(1) / whole))


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
    if steps.scheme.scale_dtype in ("f32", "f16", "bf16"):
        return None
    kind = datatype(steps.scheme.scale_dtype)

    def wrong(scales: Array, whole: Any) -> Array:
        return steps.effective(encode(kind, scales, threads=1).astype(np.float32), whole)

    return replace(steps, effective=wrong)


@mutant("scale-subnormals-misread", "effective", source="1bit-MONSTER/1bit-MONSTER/issues/300")
def scale_subnormals_misread(steps: Steps) -> Steps | None:
    """A subnormal scale is read as if its significand had the leading one: (1 + m) * 2^-7 for e4m3."""
    least = {"e4m3fn": 2.0**-6, "ue4m3": 2.0**-6, "f16": 2.0**-14}.get(steps.scheme.scale_dtype)
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
