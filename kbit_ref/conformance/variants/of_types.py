"""Define why an implementation may differ: each named other choice, as a function that gives its codes.

A cause changes the number before it is encoded, the choices of the type, or the code afterwards.
All of them take float64, which holds every source format exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import widened
from kbit_ref.conformance.inputs.of_types import SOURCES
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode
from kbit_ref.errors import KbitError
from kbit_ref.exact import CHOICES

__all__ = [
    "Cause",
    "NanCodes",
    "causes",
    "choice",
    "flushes",
    "is_beyond",
    "is_negative",
    "through",
    "with_nan",
    "wraps",
]

Reals = NDArray[np.float64]
Codes = NDArray[Any]
NanCodes = tuple[int, int]  # for NaN without and with its sign bit


@dataclass(frozen=True)
class Cause:
    """One other choice. `before` changes x, `choices` the type, `after` the codes."""

    name: str
    why: str
    before: Callable[[DataType, Reals], Reals] | None = None
    choices: dict[str, str] = field(default_factory=dict)
    after: Callable[[DataType, Reals, Codes], Codes] | None = None

    def codes(self, dtype: DataType, x: Reals, nan: NanCodes | None) -> Codes | None:
        """Return the codes under this choice, or None if the type cannot have it."""
        with np.errstate(all="ignore"):
            y = self.before(dtype, x) if self.before else x
        try:
            changed = dtype.with_choices(**self.choices) if self.choices else dtype
            codes = with_nan(dtype, encode(changed, y), y, nan)
        except KbitError:
            return None
        with np.errstate(all="ignore"):
            return self.after(dtype, y, codes) if self.after else codes

    def then(self, other: Cause) -> Cause | None:
        """Combine two causes, this one first; None if both change the same choice or the codes."""
        if (self.after and other.after) or set(self.choices) & set(other.choices):
            return None
        first, second = self.before, other.before
        both = None if first is None or second is None else lambda d, x: second(d, first(d, x))
        return Cause(
            f"{self.name}, {other.name}",
            f"{self.why}; {other.why}",
            both or first or second,
            self.choices | other.choices,
            self.after or other.after,
        )


def with_nan(dtype: DataType, codes: Codes, x: Reals, nan: NanCodes | None) -> Codes:
    """Return the codes, with those for NaN (of NaN, or of overflow) replaced by the given ones, by the sign of x."""
    if nan is None:
        return codes
    is_nan = np.isnan(dtype.levels)[codes]
    return np.where(is_nan, np.where(np.signbit(x), nan[1], nan[0]), codes).astype(codes.dtype)


def choice(**choices: str) -> Cause:
    """Make a cause of another choice of the type: `choice(ties="away")`."""
    name = "+".join(f"{key}={value}" for key, value in sorted(choices.items()))
    return Cause(name, f"theirs is what {name} gives", choices=choices)


def through(kind: str) -> Cause:
    """x is rounded to a narrower format first, and then again to the type."""
    why = f"x is rounded to {kind} first, then to the type: two roundings"
    return Cause(f"through {kind}", why, before=lambda _, x: _rounded(x, kind))


def _rounded(x: Reals, kind: str) -> Reals:
    """Return x rounded to the format, half to even, float64 [n]."""
    if kind != "bfloat16":
        return x.astype(kind).astype(np.float64)
    from kbit_ref.datatypes.datatype import datatype

    return np.where(np.isnan(x), x, widened(encode(datatype("bf16"), x)).astype(np.float64))


def flushes(kind: str) -> Cause:
    """Numbers that are subnormal in the source are read as zero."""
    least = float(np.finfo("float32" if kind == "bfloat16" else kind).smallest_normal)
    why = f"inputs that are subnormal in {kind} are read as zero"
    return Cause("subnormal inputs flushed", why, before=lambda _, x: np.where(np.abs(x) < least, np.copysign(0, x), x))


def flushes_levels() -> Cause:
    """Subnormal levels are never emitted: they become zero."""

    def after(dtype: DataType, x: Reals, codes: Codes) -> Codes:
        levels = np.unique(np.abs(dtype.levels[np.isfinite(dtype.levels)]))
        wider = np.flatnonzero(np.diff(levels) > levels[1] - levels[0]) if levels.size > 2 else np.array([], int)
        normal = levels[wider[0]] / 2 if wider.size else 0.0
        small = np.abs(dtype.levels[codes]) < normal
        return np.where(small, encode(dtype, np.copysign(0.0, x)), codes)

    return Cause("subnormal levels flushed", "results that are subnormal in the type become zero", after=after)


def ignores_sign() -> Cause:
    """The sign bit of x is not looked at."""
    return Cause("sign ignored", "theirs is what |x| gives", before=lambda _, x: np.abs(x))


def zero_is_nan() -> Cause:
    """Zero becomes NaN, in a type without zero."""

    def after(dtype: DataType, x: Reals, codes: Codes) -> Codes:
        nan = dtype.definition.nan
        return codes if nan is None else np.where(x == 0, nan, codes).astype(codes.dtype)

    return Cause("zero gives NaN", "the type has no zero: theirs is NaN, ours the smallest level", after=after)


def wraps() -> Cause:
    """Integers beyond the range keep their low bits: 8 becomes -8 in int4; infinity becomes 0."""

    def after(dtype: DataType, x: Reals, codes: Codes) -> Codes:
        if dtype.family != "integer" or dtype.rounding not in ("nearest", "toward_zero"):
            return codes
        half_away = np.copysign(np.floor(np.abs(x) + 0.5), x)
        nearest = half_away if dtype.ties == "away" else np.rint(x)
        whole = np.trunc(x) if dtype.rounding == "toward_zero" else nearest
        whole[~(np.abs(whole) <= 2.0**31)] = 0  # what an x86 conversion to int32 leaves in the low bits
        return np.mod(whole, 2.0**dtype.bits).astype(codes.dtype)

    return Cause("wraps", "beyond the range the low bits are kept", after=after)


def is_beyond(dtype: DataType, x: Reals) -> NDArray[np.bool_]:
    """Return where x, rounded to a whole number, is no number of an integer type."""
    gap = 1.0 if dtype.rounding == "toward_zero" else 0.5
    return np.asarray((x >= dtype.levels.max() + gap) | (x <= dtype.levels.min() - gap))


def is_negative(dtype: DataType, x: Reals) -> NDArray[np.bool_]:
    """Return where the sign bit is set."""
    return np.asarray(np.signbit(x) & ~np.isnan(x))


def infinity_is_nan() -> Cause:
    """Infinity becomes NaN, whatever becomes of finite numbers that are too large."""
    why = "infinity gives NaN, finite numbers beyond the last level do not"
    return Cause("infinity gives NaN", why, before=lambda _, x: np.where(np.isinf(x), np.copysign(np.nan, x), x))


def rounds_up_lowest() -> Cause:
    """Between the two smallest levels everything goes up: the guard bit of subnormals taken for a fraction."""

    def after(dtype: DataType, x: Reals, codes: Codes) -> Codes:
        (low, _), (high, code) = dtype.definition.ladder[:2]
        return np.where((x > float(low)) & (x < float(high)), code, codes).astype(codes.dtype)

    why = "everything between the smallest level and the next goes up, however near to the smallest"
    return Cause("lowest gap rounds up", why, after=after)


def next_to_lowest() -> Cause:
    """The smallest level is never emitted from a positive number: the next one is."""

    def after(dtype: DataType, x: Reals, codes: Codes) -> Codes:
        (_, lowest), (_, code) = dtype.definition.ladder[:2]
        return np.where((x > 0) & (codes == lowest), code, codes).astype(codes.dtype)

    return Cause("lowest level skipped", "positive numbers that belong to the smallest level get the next", after=after)


def overflows_int32() -> Cause:
    """Whole numbers pass through int32, where what is too large becomes the smallest int32."""
    why = "x goes through int32, where everything from 2^31 on becomes -2^31"
    return Cause("through int32", why, before=lambda _, x: np.where(np.abs(np.rint(x)) >= 2.0**31, -(2.0**31), x))


def causes(dtype: DataType, kind: str) -> Iterator[Cause]:
    """Yield the causes to try for a type and a source format, simplest first."""
    if dtype.definition.nan is not None:
        yield infinity_is_nan()
    for name, values in CHOICES.items():
        for value in values:
            wide = dtype.bits > 8 and (name, value) not in WORTH_A_LARGE_TABLE
            if getattr(dtype, name) != value and not value.startswith("stochastic") and not wide:
                yield choice(**{name: value})
    if kind not in ("float16", "bfloat16"):
        yield from map(through, ("bfloat16", "float16") if kind == "float32" else ("float32", "bfloat16", "float16"))
    if kind in SOURCES:
        yield flushes(kind)
    if kind == "float64":
        yield flushes("float32")
    yield flushes_levels()
    yield ignores_sign()
    if dtype.definition.values[0] > 0:
        yield zero_is_nan()
        yield rounds_up_lowest()
        yield next_to_lowest()
    if dtype.family == "integer":
        yield overflows_int32()
        yield wraps()
        yield choice(rounding="toward_zero").then(wraps()) or wraps()
        yield choice(ties="away").then(wraps()) or wraps()


WORTH_A_LARGE_TABLE = (("ties", "away"), ("rounding", "toward_zero"), ("overflow", "finite"), ("overflow", "ieee"))
