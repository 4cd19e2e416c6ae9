"""What a scheme means: how an array becomes blocks, scales and codes, and back.

`code.py` says which code a number gets. This file says which number is given to it: how a block
finds its scale, and what is divided by what, with every rounding on the way written down. A scheme
is any object with `dtype`, `cut`, `rule`, `scale_dtype`, `double` and the choices as items
(`kbit_ref.tensors.scheme.Scheme` is one).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from kbit_ref.errors import BadInput, BadType, message
from kbit_ref.exact.arithmetic import (
    Arithmetic,
    Number,
    as_fraction,
    as_number,
    is_finite,
    is_negative,
    round_to,
    round_to_integer,
    signed_zero,
)
from kbit_ref.exact.code import decode, encode
from kbit_ref.exact.encoders import ENCODERS
from kbit_ref.exact.rules import RULES, AbsMax, bottom, top
from kbit_ref.exact.scales import effective, global_scale, stored_as, stored_scale

__all__ = ["Block", "Quantized", "block", "candidates", "dequantize", "quantize", "schemes"]

INFINITE_SCALE = "scale x, or use +arith=divide, or +scalerange=clamp"

schemes: list[Callable[[Any], Any]] = []  # look-ups from a spelling to a scheme; `scheme.py` adds its own


@dataclass
class Block:
    """One block: its codes, what decode needs, and the numbers that were given to the encoder."""

    codes: list[int]
    scale: Number  # as stored
    offset: Number | None = None
    zero_point: Number | None = None
    used: Number = Fraction(0)  # the scale that elements were divided by
    scaled: list[Number] = field(default_factory=list)


@dataclass
class Quantized:
    """All blocks of all rows, and what belongs to the whole tensor."""

    rows: list[list[Block]] = field(default_factory=list)
    global_scale: Number | None = None
    mean: Number | None = None
    double: Quantized | None = None  # the scales, quantized again

    @property
    def codes(self) -> list[list[int]]:
        """The codes, row by row."""
        return [[code for block in row for code in block.codes] for row in self.rows]


def quantize(x: Any, scheme: Any, form: str = "", random: Any = None, random_bits: int = 0) -> Quantized:
    """The blocks of x: the meaning of `kbit_ref.tensors.quantize`.

    Parameters
    ----------
    x
        Nested sequences of numbers, or anything with `tolist` and `shape`.
    scheme
        A scheme or its spelling.
    form
        The format of the numbers: float16, bfloat16, float32 or float64. Arithmetic is in the wider
        of it and float32. By default the dtype of x, float64 for sequences.
    random, random_bits
        For stochastic rounding: an integer below 2**random_bits for each number, shaped like x.

    Raises
    ------
    BadInput
        as `kbit_ref.tensors.quantize`, without the position.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> q = kb.exact.quantize([0.5, -1.0, 3.0, 6.0], "e2m1fn-b2-absmax-f32")
    >>> q.codes, [float(block.scale) for block in q.rows[0]]
    ([[5, 15, 5, 7]], [0.1666666716337204, 1.0])
    """
    try:
        return _quantized(x, _scheme(scheme), form, random, random_bits)
    except OverflowError:  # an infinity where a number is needed: of a sum of squares, a span
        rule = "a step of the scale is beyond the arithmetic"
        raise BadInput(message("exact.quantize", "x", rule, "scale x, or use +compute=float64")) from None


def _quantized(x: Any, s: Any, form: str, random: Any, random_bits: int) -> Quantized:
    form = form or str(getattr(x, "dtype", "float64"))
    a = _arithmetic(s, form)
    flat, shape = _flat(x)
    numbers = _rows(s.cut, [_special(s, a.fl(as_number(value))) for value in flat], shape)
    bits = _rows(s.cut, _flat(random)[0], shape) if random is not None else None

    result = Quantized()
    finite = [value for row in numbers for value in row if is_finite(value)]
    if s["center"] == "tensor" and finite:
        result.mean = round_to(a.fl(_mean(finite)), "float32")  # as it is stored
        numbers = [[_centred(a, value, result.mean) for value in row] for row in numbers]
        finite = [_centred(a, value, result.mean) for value in finite]
    if s["global"] != "none":
        result.global_scale = round_to(global_scale(s, a, finite), "float32")  # as it is stored
        if result.global_scale == 0 or not is_finite(result.global_scale):
            got, rule = f"a global scale of {float(result.global_scale)}", "nothing can be divided by it"
            raise BadInput(message("exact.quantize", got, rule, "use +compute=float32, or scale x"))

    plans = []
    for row in numbers:
        width = s.cut.size or max(len(row), 1)
        plans.append([_plan(s, a, result, row[i : i + width], width) for i in range(0, len(row), width)])
    if s.double is not None:
        result.double = quantize([[plan.stored for plan in row] for row in plans], s.double, "float32")
        again = [value for row in dequantize(result.double, s.double) for value in row]
        for plan, value in zip([plan for row in plans for plan in row], again, strict=True):
            plan.stored = value
    for index, row_of_plans in enumerate(plans):
        at = 0
        blocks = []
        for plan in row_of_plans:
            drawn = None if bits is None else bits[index][at : at + len(plan.numbers)]
            blocks.append(_finish(s, a, result, plan, drawn, random_bits))
            at += len(plan.numbers)
        result.rows.append(blocks)
    return result


def dequantize(quantized: Quantized, scheme: Any) -> list[list[Number]]:
    """The numbers that the codes stand for, row by row, float32: one product, one addition, each rounded."""
    s = _scheme(scheme)
    return [
        [_value(s, quantized, block, code) for block in row for code in block.codes] for row in quantized.rows
    ]


def block(
    x: Sequence[Any],
    scheme: Any,
    form: str,
    whole: Quantized,
    width: int,
    at: int,
    stored: Number | None = None,
    random: int | None = None,
    random_bits: int = 0,
) -> tuple[_Plan, Block]:
    """One block x of a tensor that is too large to go through `quantize`: its plan, and the code of element `at`.

    Parameters
    ----------
    x, scheme, form, random_bits
        As for `quantize`; x holds the numbers of the block, `random` is that of the element.
    whole
        What belongs to the whole tensor: its mean and global scale, where the scheme has them.
    width
        Elements of a full block.
    stored
        The scale, where the scales were quantized again.
    """
    s = _scheme(scheme)
    a = _arithmetic(s, form)
    numbers = [_special(s, a.fl(as_number(value))) for value in x]
    if whole.mean is not None:
        numbers = [_centred(a, value, whole.mean) for value in numbers]
    plan = _plan(s, a, whole, numbers, width)
    if stored is not None:
        plan.stored = stored
    alone = replace(plan, numbers=plan.numbers[at : at + 1])
    return plan, _finish(s, a, whole, alone, None if random is None else [random], random_bits)


def _arithmetic(s: Any, form: str) -> Arithmetic:
    """What operations on numbers of that format are rounded to."""
    compute = s["compute"]
    if compute == "wider":
        compute = "float64" if form == "float64" else "float32"
    return Arithmetic(compute)


def _scheme(scheme: Any) -> Any:
    for look_up in schemes:
        scheme = look_up(scheme)
    return scheme


def _flat(x: Any) -> tuple[list[Any], tuple[int, ...]]:
    """The elements in C order, and the shape."""
    if hasattr(x, "tolist") and hasattr(x, "shape"):
        flat = x.reshape(-1)
        # elements one by one: a dtype that Python has no number for converts by float()
        return [flat[i] for i in range(len(flat))], tuple(x.shape)
    if not isinstance(x, Sequence):
        return [x], ()
    parts = [_flat(part) for part in x]
    if len({shape for _, shape in parts}) > 1:
        raise BadType(message("exact.quantize", "x", "its rows have different lengths", "pass a regular array"))
    return [value for values, _ in parts for value in values], (len(parts), *(parts[0][1] if parts else ()))


def _rows(cut: Any, flat: Sequence[Any], shape: tuple[int, ...]) -> list[list[Any]]:
    """The elements as rows: one of all; one for each index along the axis; or those that run along it."""
    if cut.axis is None:
        return [list(flat)]
    if not -len(shape) <= cut.axis < len(shape):
        got, rule = f"cut = {cut} for x of {len(shape)} dimensions", "there is no such axis"
        raise BadInput(message("exact.quantize", got, rule, "choose another axis, or a flat cut such as b64"))
    axis = cut.axis % len(shape)
    inner = math.prod(shape[axis + 1 :])
    rows: dict[int, list[Any]] = {}
    for i, value in enumerate(flat):
        along, rest = i // inner % shape[axis], (i // (inner * shape[axis]), i % inner)
        key = along if cut.kind == "channel" else rest[0] * inner + rest[1]
        rows.setdefault(key, []).append(value)
    return [rows[key] for key in sorted(rows)]


def _special(s: Any, x: Number) -> Number:
    """NaN and infinity, as the scheme wants them."""
    if x != x:
        if s["nan"] == "error":
            rule = "a block with NaN has no scale"
            raise BadInput(message("exact.quantize", "x = nan", rule, "use +nan=code or zero"))
        return x if s["nan"] == "code" else Fraction(0)
    if not is_finite(x) and s["inf"] == "error":
        rule = "a block with infinity has no scale"
        raise BadInput(message("exact.quantize", f"x = {x}", rule, "use +inf=saturate"))
    return x


def _centred(a: Arithmetic, x: Number, mean: Number) -> Number:
    if not is_finite(x):
        return x
    if not is_finite(centred := a.subtract(x, mean)):
        got, rule = f"x - mean = {centred}", f"it is beyond {a.form}"
        raise BadInput(message("exact.quantize", got, rule, "leave center out"))
    return centred


def _bounded(s: Any, offset: Number, stored: Number) -> Number:
    """An offset as it is stored, which must be finite."""
    if is_finite(stored):
        return stored
    got, rule = f"an offset of {float(offset)}", f"it becomes {stored} in {s.scale_dtype}"
    raise BadInput(message("exact.quantize", got, rule, "use a wider scale"))


def _mean(values: Sequence[Number]) -> Number:
    f64 = Arithmetic("float64")
    return f64.divide(f64.sum(values), Fraction(len(values)))


@dataclass
class _Plan:
    """A block before it has codes: its numbers (centred), what the rule sees of them, and its scale."""

    numbers: list[Number]
    finite: list[Number]
    short: bool
    raw: Number = Fraction(0)
    stored: Number = Fraction(0)
    offset: Number | None = None
    raw_offset: Number | None = None


def _plan(s: Any, a: Arithmetic, whole: Quantized, block: Sequence[Number], width: int) -> _Plan:
    """One block of at most `width` numbers: its offset and its scale."""
    short = len(block) < width
    if short and s["tail"] == "error":
        rule = f"blocks are of {width}"
        raise BadInput(message("exact.quantize", f"a tail of {len(block)}", rule, "pad x, or use +tail=own"))
    padded = [*block, *[Fraction(0)] * (width - len(block))] if short and s["tail"] == "pad" else list(block)
    plan = _Plan(list(block), [x for x in padded if is_finite(x)], short)
    rule_ = RULES[s.rule]
    if s["center"] == "block":
        offset = round_to(_mean(plan.finite), a.form) if plan.finite else Fraction(0)
        plan.offset = _bounded(s, offset, stored_as(s, offset)) if offset else Fraction(0)
        plan.numbers = [_centred(a, x, plan.offset) for x in plan.numbers]
        plan.finite = [_centred(a, x, plan.offset) for x in plan.finite]
    if rule_.offset_added:
        plan.raw_offset = rule_.offset(s, a, plan.finite)
        plan.offset = stored_as(s, plan.raw_offset)
        if s["scalerange"] != "keep":
            _bounded(s, plan.raw_offset, plan.offset)

    empty = rule_.empty(s, a, plan.finite)
    found = [_with_scale(s, a, whole, raw, empty) for raw in candidates(s, a, whole, plan.finite)]
    if len(found) == 1:
        plan.raw, plan.stored = found[0]
        return plan
    best: Number | None = None
    for raw, stored in found:
        plan.raw, plan.stored, error = raw, stored, _error(s, a, whole, plan, raw, stored)
        if best is None or error < best:
            best, chosen = error, (raw, stored)
    plan.raw, plan.stored = chosen
    return plan


def candidates(s: Any, a: Arithmetic, whole: Quantized, finite: Sequence[Number]) -> list[Number]:
    """The scales that the rule gives the finite numbers of a block."""
    rule_ = RULES[s.rule]
    if s["globalat"] == "scale":
        return rule_.candidates(s, a, finite)
    assert isinstance(rule_, AbsMax)
    assert whole.global_scale is not None
    return [rule_.over(s, a, finite, a.multiply(rule_.reach(s), whole.global_scale))]


def _with_scale(s: Any, a: Arithmetic, whole: Quantized, raw: Number, empty: bool) -> tuple[Number, Number]:
    """A scale, the global one taken out, before and after it is stored."""
    if s["global"] != "none" and s["globalat"] == "scale":
        assert whole.global_scale is not None
        multiply = s["global"] == "divisor"
        raw = a.multiply(raw, whole.global_scale) if multiply else a.divide(raw, whole.global_scale)
    if s["leastscale"] != "none":
        raw = max(raw, round_to(Fraction(s["leastscale"]), a.form))
    return raw, stored_scale(s, raw, empty)


def _error(s: Any, a: Arithmetic, whole: Quantized, plan: _Plan, raw: Number, stored: Number) -> Number:
    """The sum of squared errors of a block with this scale, in order, each operation in float64."""
    f64 = Arithmetic("float64")
    trial = _Plan([x for x in plan.numbers if is_finite(x)], plan.finite, plan.short, raw, stored, plan.offset)
    block = _finish(s, a, whole, trial, None, 0)
    bare = Quantized(global_scale=whole.global_scale)
    block.offset = None
    errors = [f64.subtract(x, _value(s, bare, block, c)) for x, c in zip(trial.numbers, block.codes, strict=True)]
    return f64.sum([f64.multiply(error, error) for error in errors])


def _finish(s: Any, a: Arithmetic, whole: Quantized, plan: _Plan, random: Any, random_bits: int) -> Block:
    """The codes of a block whose scale is known."""
    unrounded = s["scaleuse"] == "unrounded"
    scale = a.fl(plan.raw) if unrounded else plan.stored
    used = effective(s, a, whole.global_scale, scale)
    if s["leastused"] != "none" and used < (least := round_to(Fraction(s["leastused"]), a.form)):
        used = least
    block = Block([], plan.stored, plan.offset, used=used)
    rule_ = RULES[s.rule]
    if rule_.zero_point:
        zero = rule_.zero(s, a, plan.finite, used)
        block.zero_point = round_to(zero, "float32") if rule_.zero_point == "real" else zero
    offset = None
    if rule_.offset_added:
        offset = a.fl(plan.raw_offset or Fraction(0)) if unrounded else plan.offset
    arith = s["tailarith"] if plan.short and s["tailarith"] != "same" else s["arith"]
    if used == 0 and s["zerocode"] == "code0":
        block.scaled = [x if x != x else Fraction(0) for x in plan.numbers]
        block.codes = [int(encode(s.dtype, x)) if x != x else 0 for x in plan.numbers]
        return block
    factor = rule_.factor(s, a, plan.finite)
    if arith == "reciprocals" and used:
        one = Fraction(1)
        inverse = a.divide(one, whole.global_scale or one)
        factor = a.divide(one, a.multiply(scale, inverse)) if s["global"] == "divisor" else a.divide(inverse, scale)
    for i, x in enumerate(plan.numbers):
        y = _scaled(s, a, x, used, offset, arith, factor)
        block.scaled.append(y)
        drawn = None if random is None else int(random[i])
        try:
            block.codes.append(_code(s, a, y, block.zero_point, drawn, random_bits))
        except BadInput:
            if y == y or x != x:
                raise
            rule = f"the scale or its reciprocal is infinite in {a.form}"
            raise BadInput(message("exact.quantize", "x / scale = nan", rule, INFINITE_SCALE)) from None
    return block


def _scaled(
    s: Any, a: Arithmetic, x: Number, used: Number, offset: Number | None, arith: str, factor: Number | None
) -> Number:
    """The number that is encoded."""
    if x != x:
        return x
    if offset is not None and is_finite(x):
        x = a.subtract(x, offset)
    if used == 0:
        return Fraction(0)
    if factor is not None:
        return a.multiply(x, factor)
    if s["scaleas"] == "divisor":
        return a.multiply(x, used)
    if arith == "exact" and is_finite(x) and is_finite(used):
        ratio = as_fraction(x) / as_fraction(used)
        return ratio if ratio else signed_zero(is_negative(x) != is_negative(used))
    if arith == "reciprocal":
        return a.multiply(x, a.divide(Fraction(1), used))
    return a.divide(x, used)


def _code(s: Any, a: Arithmetic, y: Number, zero: Number | None, random: int | None, random_bits: int) -> int:
    """The code of a scaled number."""
    if zero is None:
        if random is not None:
            return int(encode(s.dtype, y, random, random_bits))
        return ENCODERS[s["encoder"]](s, a, y)
    if y != y:
        raise BadInput(message("exact.quantize", "x / scale = nan", "the type has no NaN level", "use +nan=zero"))
    before = s["zeroadd"] == "before" or RULES[s.rule].zero_point == "real"
    lowest, ties = int(bottom(s.dtype)), s.dtype.ties
    steps = round_to_integer(a.add(y, zero), ties) if before else round_to_integer(y, ties) + int(zero)
    return int(encode(s.dtype, Fraction(max(lowest, min(int(top(s.dtype)), steps)))))


def _value(s: Any, whole: Quantized, block: Block, code: int) -> Number:
    """The number that a code of a block stands for."""
    f32 = Arithmetic("float32")
    scale = effective(s, f32, whole.global_scale, block.scale)
    level: Number = decode(s.dtype, code)
    if block.zero_point is not None:
        level = f32.subtract(level, block.zero_point)
    if level != level:
        return math.nan
    value = f32.divide(level, scale) if s["scaleas"] == "divisor" else f32.multiply(level, scale)
    for offset in (block.offset, whole.mean):
        if offset is not None and value == value and is_finite(value):
            value = f32.add(value, offset)
    return value
