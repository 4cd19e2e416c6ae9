"""Mistakes of `zero`, `zeros` and `times`: zero points and offsets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.tensors.scales import Plan
from kbit_ref.tensors.steps import Array, Steps

__all__: list[str] = []


def _has_zero(steps: Steps) -> bool:
    return FACTS[steps.scheme.rule].zero_point == "integer"


# Zero points --------------------------------------------------------------------------------------


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


# Offsets ------------------------------------------------------------------------------------------


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
