"""From a piece of blocks to what it stores: offset, scale, zero point, all [n, 1].

`exact/quantize.py` says what each step means; here it is one NumPy operation on many blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import Arithmetic
from kbit_ref.datatypes.datatype import datatype
from kbit_ref.engine.codec import CHUNK, decode, encode
from kbit_ref.errors import BadInput, message
from kbit_ref.exact.arithmetic import round_to
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.tensors.rules import RULES, AbsMax, in_order
from kbit_ref.tensors.scheme import WIDE, Scheme

__all__ = ["Plan", "Whole", "centred", "effective", "plan", "scale_range", "step", "stored_as"]
__all__ += ["stored_scale", "used_scale", "whole_numbers"]

ZERO_BLOCK = {"zero": 0.0, "one": 1.0}  # other names are numbers

Array = NDArray[Any]
Finite = NDArray[np.bool_] | None


class Whole(NamedTuple):
    """What belongs to the whole tensor."""

    global_scale: Any
    mean: Any


@dataclass
class Plan:
    """A piece of blocks before it has codes."""

    numbers: Array  # [n, size] in the format of the arithmetic, centred
    finite: Finite  # which of them are, if not all
    seen: Array  # [n, size] what the rule sees: with `+tail=pad` there are zeros more
    seen_finite: Finite
    short: bool
    offset: Array | None = None  # as stored
    raw_offset: Array | None = None
    raw: Any = None
    stored: Any = None
    empty: Any = False  # [n, 1] where there is nothing to scale, and only there the scale may be 0


def whole_numbers(s: Scheme, a: Arithmetic, numbers: Callable[[Array], Array], rows: Array) -> Whole:
    """The mean and the global scale, where the scheme has them; `numbers` reads a piece of the rows."""
    mean = global_scale = None

    def pieces() -> Iterator[Array]:
        step = max(1, CHUNK // max(rows.shape[1], 1))
        for row in range(0, len(rows), step):
            for column in range(0, rows.shape[1], CHUNK):
                part = numbers(np.ascontiguousarray(rows[row : row + step, column : column + CHUNK]))
                if s["nan"] == "zero":
                    part = np.where(np.isnan(part), a.dtype(0), part)
                finite = np.isfinite(part)
                yield part.reshape(-1) if finite.all() else part[finite]

    if s["center"] == "tensor":
        total, count = np.float64(0), 0
        for part in pieces():
            total = np.cumsum(np.concatenate([[total], part.astype(np.float64)]))[-1]  # in order
            count += part.size
        mean = _float32(a.round(np.float64(total / count))) if count else None
    if s["global"] != "none":
        largest = a.dtype(0)
        for part in pieces():
            part = part if mean is None else centred(a, part, mean)
            largest = max(largest, np.abs(part).max(initial=0))
        reach = a.multiply(s.dtype.top, datatype(s.scale_dtype).top)
        global_scale = a.dtype(1)
        if largest:
            above, below = (largest, reach) if s["global"] == "multiplier" else (reach, largest)
            by_reciprocal = s["globalby"] == "reciprocal"
            global_scale = a.multiply(a.divide(1, below), above) if by_reciprocal else a.divide(above, below)
        global_scale = _float32(global_scale)
        if global_scale == 0 or not np.isfinite(global_scale):
            got, rule = f"a global scale of {global_scale}", "nothing can be divided by it"
            raise BadInput(message("quantize", got, rule, "use +compute=float32, or scale x"))
    return Whole(global_scale, mean)


def _float32(value: Any) -> np.float32:
    """The number as it is stored."""
    with np.errstate(over="ignore", under="ignore"):
        return np.float32(value)


def plan(s: Scheme, a: Arithmetic, whole: Whole, numbers: Array, finite: Finite, width: int, error: Any) -> Plan:
    """[n, size] -> what the blocks store; `error(plan)` gives the squared errors where a rule has several scales."""
    p = Plan(numbers, finite, numbers, finite, numbers.shape[1] < width)
    padding = width - numbers.shape[1] if s["tail"] == "pad" else 0
    if padding:  # the rule sees zeros; the codes are still those of the block
        p.seen, p.seen_finite = _padded(p.numbers, padding), _padded(p.finite, padding, True)
    if s["center"] == "block":
        count = np.full((len(p.seen), 1), p.seen.shape[1])
        if p.seen_finite is not None:
            count = p.seen_finite.sum(axis=1, keepdims=True)
        mean = in_order(p.seen, p.seen_finite) / np.maximum(count, 1)
        rounded = a.round(mean)
        p.offset = np.where(rounded == 0, np.float32(0), _bounded(s, mean, stored_as(s, rounded)))  # no mean of -0
        p.numbers = centred(a, p.numbers, p.offset)
        p.seen = centred(a, p.seen, p.offset) if padding else p.numbers
    rule = RULES[s.rule]
    if FACTS[s.rule].offset_added:
        p.raw_offset = rule.offset(s, a, p.seen, p.seen_finite)
        p.offset = stored_as(s, p.raw_offset)
        if s["scalerange"] != "keep":
            _bounded(s, p.raw_offset, p.offset)

    best: Any = None
    for raw in _candidates(s, a, whole, p):
        raw, stored = _with_scale(s, a, whole, p, raw)
        if p.raw is None:
            p.raw, p.stored = raw, stored
            continue
        if best is None:
            best = error(p)
        other = replace(p, raw=raw, stored=stored)
        least = error(other)
        better = least < best
        best = np.where(better, least, best)
        p.raw, p.stored = np.where(better, raw, p.raw), np.where(better, stored, p.stored)
    return p


def _padded(values: Any, padding: int, fill: Any = 0) -> Any:
    return None if values is None else np.pad(values, ((0, 0), (0, padding)), constant_values=fill)


def centred(a: Arithmetic, numbers: Array, mean: Any) -> Array:
    """Finite numbers minus a mean, which must stay finite; the others as they are."""
    finite = np.isfinite(numbers)
    result = np.where(finite, a.subtract(numbers, mean), numbers)
    if not np.isfinite(result[finite]).all():
        got, rule = "x - mean = " + str(result[finite & ~np.isfinite(result)][0]), f"it is beyond {a.name}"
        raise BadInput(message("quantize", got, rule, "leave center out"))
    return result


def _bounded(s: Scheme, offset: Array, stored: Array) -> Array:
    """Offsets as they are stored, which must be finite."""
    for at in np.flatnonzero(~np.isfinite(stored))[:1]:
        got, rule = f"an offset of {float(offset.flat[at])}", f"it becomes {float(stored.flat[at])} in {s.scale_dtype}"
        raise BadInput(message("quantize", got, rule, "use a wider scale"))
    return stored


def _candidates(s: Scheme, a: Arithmetic, whole: Whole, p: Plan) -> Iterator[Array]:
    """The scales of the rule."""
    rule = RULES[s.rule]
    if s["globalat"] == "top":
        assert isinstance(rule, AbsMax)
        yield rule.over(s, a, p.seen, p.seen_finite, a.multiply(rule.reach(s), whole.global_scale))
    else:
        yield from rule.candidates(s, a, p.seen, p.seen_finite)


def _with_scale(s: Scheme, a: Arithmetic, whole: Whole, p: Plan, raw: Array) -> tuple[Array, Array]:
    """A scale, the global one taken out, before and after it is stored."""
    if whole.global_scale is not None and s["globalat"] == "scale":
        raw = (a.multiply if s["global"] == "divisor" else a.divide)(raw, whole.global_scale)
    if s["leastscale"] != "none":
        raw = np.maximum(raw, _constant(a, s["leastscale"]))
    if (raw == 0).any():
        p.empty = RULES[s.rule].empty(s, a, p.seen, p.seen_finite)
    return raw, stored_scale(s, raw, p.empty)


def _constant(a: Arithmetic, text: str) -> Any:
    """A number of a spelling, in the format."""
    return a.dtype(float(round_to(Fraction(text), a.name)))


def effective(s: Scheme, a: Arithmetic, global_scale: Any, stored: Array) -> Array:
    """The scale that decode multiplies by: the stored one, times or over the global one if there is one."""
    if global_scale is None:
        return stored
    return a.multiply(stored, global_scale) if s["global"] == "multiplier" else a.divide(stored, global_scale)


def used_scale(s: Scheme, a: Arithmetic, whole: Whole, p: Plan) -> Array:
    """The scale that elements are divided by."""
    scale = a.round(p.raw) if s["scaleuse"] == "unrounded" else p.stored
    used = np.asarray(effective(s, a, whole.global_scale, scale), a.dtype)
    if s["leastused"] != "none":
        used = np.maximum(used, _constant(a, s["leastused"]))
    return used


def step(s: Scheme, a: Arithmetic, whole: Whole, p: Plan, used: Array) -> tuple[str, Array]:
    """What is done to the elements, `divide`, `multiply` or `exact` (an unrounded division), and by what: [n, 1]."""
    one = a.dtype(1)
    divisor = np.where(used == 0, one, used) if (used == 0).any() else used
    factor = RULES[s.rule].factor(s, a, p.seen, p.seen_finite)
    arith = "divide" if p.short and s["tailarith"] == "divide" else s["arith"]
    if s["scaleas"] == "divisor":
        factor = divisor
    elif arith == "reciprocal":
        factor = a.divide(one, divisor)
    elif arith == "reciprocals":
        stored = a.round(p.raw) if s["scaleuse"] == "unrounded" else p.stored
        stored = np.where(used == 0, one, stored)
        inverse = one if whole.global_scale is None else a.divide(one, whole.global_scale)
        by_divisor = s["global"] == "divisor"
        factor = a.divide(one, a.multiply(stored, inverse)) if by_divisor else a.divide(inverse, stored)
    if factor is not None:
        return "multiply", factor
    return ("exact" if arith == "exact" else "divide"), divisor


def stored_as(s: Scheme, values: Array) -> Array:
    """Rounded to the stored scale's type."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = np.asarray(values).astype(np.float32)
    if s.scale_dtype == "f32":
        return narrow
    kind = datatype(s.scale_type)
    if s.scale_dtype == "e8m0fnu" and _is_power_of_two(narrow) and (narrow == values).all():
        return narrow  # which the type has
    return decode(kind, encode(kind, values, threads=1), threads=1)


def _is_power_of_two(values: NDArray[np.float32]) -> bool:
    """Are all of them positive powers of two, and normal?"""
    words = values.view(np.uint32)  # sign, 8 bits of exponent, 23 of significand
    exponent = words >> np.uint32(23)
    return bool((exponent << np.uint32(23) == words).all() and (exponent - np.uint32(1) < np.uint32(254)).all())


def stored_scale(s: Scheme, raw: Array, empty: Any = True) -> Array:
    """The scales as they are stored; `empty` says where a block has nothing to scale."""
    stored = stored_as(s, raw)
    none = (raw == 0) | (stored == 0)
    empty = (raw == 0) & empty
    beyond = ~np.isfinite(stored)
    if s.scale_dtype not in WIDE:
        beyond |= np.abs(raw) > _beyond(s)
    wrong = (none | beyond) & ~empty
    if wrong.any() and s["scalerange"] == "error":
        at = int(np.flatnonzero(wrong)[0])
        got = f"a block scale of {float(raw.ravel()[at])}"
        becomes = float(stored.ravel()[at]) if none.ravel()[at] else np.copysign(np.inf, raw.ravel()[at])
        rule = f"it becomes {becomes} in {s.scale_dtype}" if raw.ravel()[at] else "only a block of zeros has that"
        raise BadInput(message("quantize", got, rule, "use a wider scale, or +scalerange=clamp"))
    if wrong.any() and s["scalerange"] != "keep":
        smallest, largest = scale_range(s)
        limit = np.copysign(np.where(none, smallest, largest), raw).astype(np.float32)
        stored = np.where(wrong, limit, stored)
        if s["scalerange"] == "zeroblock":
            empty = empty | none
    if empty.any() and s["zeroblock"] != "quotient":
        name = s["zeroblock"]
        value = ZERO_BLOCK[name] if name in ZERO_BLOCK else _constant(Arithmetic("float32"), name)
        stored = np.where(empty, stored_as(s, np.array([value], np.float32)), stored)
    elif s["zeroblock"] == "quotient":
        stored = np.where(empty, stored_as(s, raw), stored)
    return stored


def _beyond(s: Scheme) -> float:
    """Half a step above the largest stored scale: what lies beyond overflows."""
    kind = datatype(s.scale_dtype)
    levels = np.unique(kind.levels[kind.emitted])
    below, most = levels[np.isfinite(levels)][-2:]
    return float(most + (most - below) / 2)


def scale_range(s: Scheme) -> tuple[float, float]:
    """The smallest and the largest positive stored scale."""
    if s.scale_dtype == "f32":
        return float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)
    kind = datatype(s.scale_dtype)
    positive = kind.levels[kind.emitted]
    positive = positive[np.isfinite(positive) & (positive > 0)]
    return float(positive.min()), float(positive.max())
