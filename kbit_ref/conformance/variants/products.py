"""Mistakes of `effective`, `zero`, `zeros` and `times`: scales, zero points and offsets as the reader uses them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.engine.codec import encode
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.tensors.scales import Plan
from kbit_ref.tensors.steps import Array, Steps

__all__: list[str] = []

# Scales -------------------------------------------------------------------------------------------


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


@mutant("values-in-bf16", "times", source="mlx-node/mlx-node/issues/101", form=("bfloat16", "float16"))
def values_in_bf16(steps: Steps, form: str = "bfloat16") -> Steps:
    """The reader computes in {form}: every value is rounded to it."""
    narrow = Arithmetic(form)
    return replace(steps, times=lambda *parts: narrow.round(steps.times(*parts)))


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


# Zero points and offsets --------------------------------------------------------------------------


def _has_zero(steps: Steps) -> bool:
    return FACTS[steps.scheme.rule].zero_point == "integer"


@mutant("zero-point-signed-clamp", "zero", source="intel/auto-round/issues/2273")
def zero_point_signed_clamp(steps: Steps) -> Steps | None:
    """An unsigned zero point is clamped to the range of signed integers."""
    if not _has_zero(steps) or not steps.scheme.dtype.name.startswith("uint"):
        return None
    most = 2 ** (steps.scheme.dtype.bits - 1) - 1

    def wrong(p: Plan, used: Array) -> Array | None:
        zero = steps.zero(p, used)
        return None if zero is None else np.minimum(zero, zero.dtype.type(most))

    return replace(steps, zero=wrong)


@mutant("zero-point-truncated", "zero", source="SonySemiconductorSolutions/mct-quantization-layers/pull/124")
def zero_point_truncated(steps: Steps) -> Steps | None:
    """The zero point is cut off to an integer instead of rounded."""
    if steps.scheme.rule != "affine":
        return None
    lowest, highest = float(steps.scheme.dtype.levels.min()), steps.scheme.dtype.top

    def wrong(p: Plan, used: Array) -> Array | None:
        zero = steps.zero(p, used)
        if zero is None:
            return None
        seen = p.seen if p.seen_finite is None else np.where(p.seen_finite, p.seen, 0)
        low = np.minimum(seen.min(axis=1, keepdims=True), 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            exactly = np.trunc(lowest - low / used)
        return np.where(used == 0, zero, np.clip(exactly, lowest, highest)).astype(zero.dtype)

    return replace(steps, zero=wrong)


@mutant("zero-point-off-by-one", "zeros", source="vllm-project/vllm/issues/26092", by=(1, -1))
def zero_point_off_by_one(steps: Steps, by: int = 1) -> Steps | None:
    """The reader subtracts the zero point {by:+d}: a GPTQ file of version 1 is taken for version 2, or the reverse."""
    return replace(steps, zeros=lambda grid: steps.zeros(grid).astype(np.float32) + by) if _has_zero(steps) else None


@mutant("zero-point-borrows", "zeros", source="AutoGPTQ/AutoGPTQ/issues/331")
def zero_point_borrows(steps: Steps) -> Steps | None:
    """Zero points are packed minus one: 0 becomes -1, whose sign bits fill the later codes of its 32-bit word."""
    if not _has_zero(steps) or not steps.scheme.dtype.name.startswith("uint"):
        return None
    per_word, most = 32 // steps.scheme.dtype.bits, 2**steps.scheme.dtype.bits - 1

    def wrong(grid: Array) -> Array:
        zero = steps.zeros(grid).astype(np.int64).reshape(-1)
        filled = np.ones(-(-zero.size // per_word) * per_word, np.int64)
        filled[: zero.size] = zero
        words = filled.reshape(-1, per_word)
        after = np.maximum.accumulate(words == 0, axis=1)
        read = np.where(after, most, words - 1) + 1
        return read.reshape(-1)[: zero.size].reshape(grid.shape).astype(np.float32)

    return replace(steps, zeros=wrong)


@mutant("zero-point-wraps", "zeros", source="ModelCloud/GPTQModel/issues/2350")
def zero_point_wraps(steps: Steps) -> Steps | None:
    """A zero point of 0 is read as the largest one."""
    if not _has_zero(steps) or not steps.scheme.dtype.name.startswith("uint"):
        return None
    most = np.float32(2**steps.scheme.dtype.bits - 1)

    def wrong(grid: Array) -> Array:
        zero = steps.zeros(grid).astype(np.float32)
        return np.where(zero == 0, most, zero)

    return replace(steps, zeros=wrong)


@mutant("zero-point-by-default", "zeros", source="microsoft/onnxruntime/issues/31692")
def zero_point_by_default(steps: Steps) -> Steps | None:
    """The stored zero points are left out, and the middle of the range is taken for all."""
    if not _has_zero(steps):
        return None
    middle = float(steps.scheme.dtype.levels.min()) + 2 ** (steps.scheme.dtype.bits - 1)
    return replace(steps, zeros=lambda grid: np.full(grid.shape, middle, np.float32))


@mutant("scale-and-zero-swapped", "times", source="OpenGVLab/InternVL/issues/1106")
def scale_and_zero_swapped(steps: Steps) -> Steps | None:
    """The reader takes scales for zero points and zero points for scales."""
    if not _has_zero(steps):
        return None

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        assert zero is not None
        return steps.times(levels, zero.astype(np.float32), scale, offset)

    return replace(steps, times=wrong)


@mutant("offset-dropped", "times", source=CONSTRUCTED)
def offset_dropped(steps: Steps) -> Steps | None:
    """The offset is not added."""
    if not FACTS[steps.scheme.rule].offset_added and steps.scheme["center"] == "none":
        return None
    return replace(steps, times=lambda levels, scale, zero, offset: steps.times(levels, scale, zero, None))


@mutant("offset-subtracted", "times", source=CONSTRUCTED)
def offset_subtracted(steps: Steps) -> Steps | None:
    """The offset is subtracted instead of added."""
    if not FACTS[steps.scheme.rule].offset_added and steps.scheme["center"] == "none":
        return None

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        return steps.times(levels, scale, zero, None if offset is None else -offset)

    return replace(steps, times=wrong)
