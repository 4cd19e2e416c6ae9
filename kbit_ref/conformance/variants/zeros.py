"""Mistakes of `zero`, `zeros` and `times`: zero points and offsets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from kbit_ref.conformance.variants.registry import CONSTRUCTED, mutant
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.tensors.rules import RULES, Affine
from kbit_ref.tensors.scales import Plan
from kbit_ref.tensors.steps import Array, Codes, Steps

__all__: list[str] = []


def _has_zero(steps: Steps) -> bool:
    """Return whether there are zero points, and whole numbers."""
    return FACTS[steps.scheme.rule].zero_point == "integer"


def _any_zero(steps: Steps) -> bool:
    """Return whether there are zero points."""
    return bool(FACTS[steps.scheme.rule].zero_point)


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
    rule, a = RULES[steps.scheme.rule], steps.arithmetic
    if not isinstance(rule, Affine):
        return None
    lowest, highest = float(steps.scheme.dtype.levels.min()), steps.scheme.dtype.top

    def wrong(p: Plan, used: Array) -> Array | None:
        zero = steps.zero(p, used)
        if zero is None:
            return None
        low, _ = rule.ends(steps.scheme, a, p.seen, p.seen_finite)
        divided = a.divide(low, np.where(used == 0, a.dtype(1), used))
        plain = steps.scheme.rule == "affineplain"
        cut = lowest + np.trunc(-divided) if plain else np.trunc(a.subtract(a.dtype(lowest), divided))
        return np.where(used == 0, zero, np.clip(cut, lowest, highest)).astype(zero.dtype)

    return replace(steps, zero=wrong)


@mutant("zero-point-off-by-one", "zeros", source="vllm-project/vllm/issues/26092", by=(1, -1))
def zero_point_off_by_one(steps: Steps, by: int = 1) -> Steps | None:
    """The reader subtracts the zero point {by:+d}: a GPTQ file of version 1 is taken for version 2, or the reverse."""
    return replace(steps, zeros=lambda grid: steps.zeros(grid).astype(np.float32) + by) if _has_zero(steps) else None


@mutant(
    "zero-point-borrows",
    "zeros",
    source="AutoGPTQ/AutoGPTQ/issues/331",
    by=("or", "sum"),
    along=("row", "column"),
    masked=(False, True),
)
def zero_point_borrows(steps: Steps, by: str = "or", along: str = "row", masked: bool = False) -> Steps | None:
    """Zero points are packed minus one, in words along a {along}, by {by}: 0 becomes -1 and spoils its neighbours.

    By `or` the sign bits of -1 fill the later codes of its 32-bit word, by a sum 1 is borrowed from the next one.
    The reader adds 1 again, and masks what it has or does not.
    """
    if not _has_zero(steps) or not steps.scheme.dtype.name.startswith("uint"):
        return None
    bits = steps.scheme.dtype.bits
    per_word, most = 32 // bits, 2**bits - 1
    shifts = np.arange(per_word, dtype=np.int64) * bits

    def wrong(grid: Array) -> Array:
        zero = steps.zeros(grid).astype(np.int64)
        lines = zero if along == "row" else zero.T
        flat = lines.reshape(-1)
        filled = np.ones(-(-flat.size // per_word) * per_word, np.int64)
        filled[: flat.size] = flat
        parts = (filled.reshape(-1, per_word) - 1) << shifts
        words = np.bitwise_or.reduce(parts, axis=1) if by == "or" else parts.sum(axis=1)
        read = (words[:, None] >> shifts & most) + 1
        found = (read & most if masked else read).reshape(-1)[: flat.size].reshape(lines.shape)
        return np.asarray(found if along == "row" else found.T, np.float32)

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
        if zero is None:
            return steps.times(levels, scale, zero, offset)
        return steps.times(levels, zero.astype(np.float32), scale, offset)

    return replace(steps, times=wrong)


@mutant("zero-point-dropped", "zeros", source="ROCm/hip-ep/issues/134")
def zero_point_dropped(steps: Steps) -> Steps | None:
    """The reader subtracts no zero point: all are read as 0."""
    return replace(steps, zeros=lambda grid: np.zeros(grid.shape, np.float32)) if _any_zero(steps) else None


@mutant("zero-point-subtracted-twice", "zeros", source=CONSTRUCTED)
def zero_point_subtracted_twice(steps: Steps) -> Steps | None:
    """The reader subtracts the zero point twice."""
    if not _any_zero(steps):
        return None
    return replace(steps, zeros=lambda grid: steps.zeros(grid).astype(np.float32) * np.float32(2))


@mutant("zero-point-added-on-reading", "zeros", source="ARM-software/ComputeLibrary/issues/1033")
def zero_point_added_on_reading(steps: Steps) -> Steps | None:
    """The reader adds the zero point instead of subtracting it."""
    return replace(steps, zeros=lambda grid: -steps.zeros(grid).astype(np.float32)) if _any_zero(steps) else None


@mutant("zero-points-read-in-pairs", "zeros", source="pytorch/executorch/pull/21773")
def zero_points_read_in_pairs(steps: Steps) -> Steps | None:
    """Zero points of 32 bits are read as 64 bits: two become one, and past the last there are zeros."""
    if not _has_zero(steps):
        return None

    def wrong(grid: Array) -> Array:
        words = np.zeros(2 * grid.size, np.int32)
        words[: grid.size] = steps.zeros(grid).reshape(-1)
        return words.view(np.int64).reshape(grid.shape).astype(np.float32)

    return replace(steps, zeros=wrong)


@mutant("code-minus-zero-wraps", "times", source="tile-ai/tilelang/issues/2947", bits=(8, 32, 16, 4))
def code_minus_zero_wraps(steps: Steps, bits: int = 8) -> Steps | None:
    """Code - zero point is computed in unsigned integers of {bits} bits: what is below 0 wraps to the largest ones."""
    if not _has_zero(steps) or steps.scheme.dtype.levels.min() < 0 or bits < steps.scheme.dtype.bits:
        return None

    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        if zero is None:
            return steps.times(levels, scale, zero, offset)
        wrapped = np.mod(levels.astype(np.float64) - zero, 2.0**bits).astype(np.float32)
        return steps.times(wrapped, scale, None, offset)

    return replace(steps, times=wrong)


def _adds(steps: Steps, change: Callable[[Array], Array]) -> Steps | None:
    """Return steps whose writer adds something else than the zero point, which is stored as it should be."""
    if not _any_zero(steps):
        return None
    real = not _has_zero(steps)

    def wrong(y: Array, used: Array, zero: Array | None) -> Codes:
        if zero is None:
            return steps.encode(y, used, zero)
        return steps.encode(y, used, change(zero if real else zero.astype(np.int64)))

    return replace(steps, encode=wrong)


@mutant("zero-point-not-added", "encode", source="hatchetProject/QuEST/issues/18")
def zero_point_not_added(steps: Steps) -> Steps | None:
    """The writer does not add the zero point before it clamps, and the reader subtracts it."""
    return _adds(steps, lambda zero: zero * 0)


@mutant("zero-point-added-twice", "encode", source=CONSTRUCTED)
def zero_point_added_twice(steps: Steps) -> Steps | None:
    """The writer adds the zero point twice."""
    return _adds(steps, lambda zero: zero * 2)


@mutant("zero-point-subtracted-on-writing", "encode", source=CONSTRUCTED)
def zero_point_subtracted_on_writing(steps: Steps) -> Steps | None:
    """The writer subtracts the zero point instead of adding it."""
    return _adds(steps, lambda zero: -zero)


@mutant("zero-point-added-off-by-one", "encode", source=CONSTRUCTED, by=(1, -1))
def zero_point_added_off_by_one(steps: Steps, by: int = 1) -> Steps | None:
    """The writer adds the zero point {by:+d}."""
    return _adds(steps, lambda zero: zero + by) if _has_zero(steps) else None


@mutant("zero-point-overflows", "zero", source=CONSTRUCTED)
def zero_point_overflows(steps: Steps) -> Steps | None:
    """A zero point out of range, of numbers on one side of 0, wraps around instead of saturating."""
    rule, s, a = RULES[steps.scheme.rule], steps.scheme, steps.arithmetic
    if s.rule != "affineplain" or not isinstance(rule, Affine):
        return None
    lowest, n = float(s.dtype.levels.min()), 2**s.dtype.bits

    def wrong(p: Plan, used: Array) -> Array | None:
        right = steps.zero(p, used)
        if right is None:
            return None
        low, _ = rule.ends(s, a, p.seen, p.seen_finite)
        exactly = rule.steps(s, a, low, np.where(used == 0, a.dtype(1), used)).astype(np.float64)
        beyond = (used != 0) & np.isfinite(exactly) & ((exactly < lowest) | (exactly > s.dtype.top))
        wrapped = np.mod(np.where(beyond, exactly, 0) - lowest, n) + lowest
        return np.where(beyond, wrapped, right).astype(right.dtype)

    return replace(steps, zero=wrong)


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
