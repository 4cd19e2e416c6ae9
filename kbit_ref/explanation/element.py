"""`explain`: one element of an array taken apart.

The truth is the definition, `exact/quantize.py`, run on the one block that the element is in (of a
large block, on the elements that the scale depends on: `seen.py`). What belongs to the whole tensor
comes from `kb.quantize`, and at the end both must have given the same code. The operations are done
again here, one by one, so that each can be shown; the last must give what the definition gave.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import widened
from kbit_ref.exact import Block, Quantized, decode, encode
from kbit_ref.exact import dequantize as dequantize_exactly
from kbit_ref.exact.arithmetic import (
    Arithmetic,
    Number,
    as_fraction,
    as_number,
    is_finite,
    largest,
    round_to,
)
from kbit_ref.exact.quantize import block as exact_block
from kbit_ref.exact.quantize import candidates
from kbit_ref.exact.rules import RULES
from kbit_ref.explanation.decision import Decision, by_encoder, by_integers
from kbit_ref.explanation.explanation import Decider, Explanation, Step
from kbit_ref.explanation.places import index_of, places_of, positions, spot_of
from kbit_ref.explanation.seen import seen
from kbit_ref.explanation.spelling import Figure, figure, of_word, stored
from kbit_ref.inputs import Reals, real_array
from kbit_ref.tensors.packing import unpack_from
from kbit_ref.tensors.qtensor import QTensor
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["explain"]


def explain(
    x: Any,
    index: int | tuple[int, ...],
    scheme_: Scheme | str,
    *,
    bfloat16: bool = False,
    random: Any = None,
    random_bits: int = 0,
) -> Explanation:
    """Trace the quantization of one element: its bits, block, scale, neighbours, code, bytes, decoded value.

    Parameters
    ----------
    x : [*shape]
        As for `kb.quantize`.
    index
        Of the element: a number for each dimension, or one for the order of memory (C); negative ones count
        from the end.
    scheme_
        A scheme, its spelling, or the name of a profile.
    bfloat16, random, random_bits
        As for `kb.quantize`.

    Returns
    -------
    Explanation
        `print` shows it line by line.

    Notes
    -----
    The definition takes about 0.1 ms for each element of a block of up to 4096. Larger blocks cost that too under
    the rules that look at every element (rms, percentile), and 5 ms under clip; under the others they cost nothing.

    Raises
    ------
    BadInput
        `explain: index = 7, x has 4 elements; use -4 to 3`
        and whatever `kb.quantize` refuses.

    Examples
    --------
    >>> import kbit_ref as kb
    >>> e = kb.explain([7.0, -3.5, 1.75, 0.0], 1, "int4-b4-absmax-f32")
    >>> e.y.value, e.decision.side, e.code, e.decoded, e.error
    (-3.5, 'tie', 12, -4.0, -0.5)
    >>> e.decision.why
    ('a tie: ties=even takes the even code, -4.0',)
    """
    s = scheme(scheme_)
    reals = real_array("explain", x, bfloat16=bfloat16)
    at = index_of(index, reals.array.shape)
    is_bfloat16 = reals.kind == "bfloat16"
    q = quantize(reals.array, s, bfloat16=is_bfloat16, random=random, random_bits=random_bits)
    drawn = None if random is None else int(np.broadcast_to(np.asarray(random), q.shape)[at])
    return _Element(s, reals, at, q, drawn, random_bits).explanation()


class _Element:
    """One element on its way."""

    def __init__(self, s: Scheme, x: Reals, at: tuple[int, ...], q: QTensor, random: int | None, random_bits: int):
        self.s, self.x, self.at, self.q, self.random, self.random_bits = s, x, at, q, random, random_bits
        self.spot = spot_of(s.cut, q.shape, at)
        width = s.cut.size or self.spot.length
        self.block, self.element = divmod(self.spot.column, width)
        self.first = self.block * width
        self.size = min(width, self.spot.length - self.first)
        mean = _one(q.offsets) if s["center"] == "tensor" and q.offsets is not None else None
        self.whole = Quantized(global_scale=_one(q.global_scale), mean=mean)
        where = self.spot.row, self.block
        again = as_number(float(q.scales[where])) if s.double is not None else None
        numbers = self._numbers()
        self.kept = seen(s, numbers, self.element)  # those of the block that go through the definition
        self.among = int(np.searchsorted(self.kept, self.element))
        if self.kept.size < self.size:  # full or short it stays: the rules of `seen` count nothing
            width = self.kept.size + (self.size < width)
        alone = [float(value) for value in numbers[self.kept]]
        self.plan, self.made = exact_block(
            *(alone, s, x.kind, self.whole, width, self.among, again, random, random_bits)
        )
        compute = s["compute"]
        wider = "float64" if x.kind == "float64" else "float32"
        self.a = Arithmetic(wider if compute == "wider" else compute)
        self._check(where)

    def _numbers(self) -> NDArray[Any]:
        """The numbers of the block."""
        columns = np.arange(self.first, self.first + self.size)
        part = np.atleast_1d(self.x.array[positions(self.s.cut, self.q.shape, self.spot.row, columns)])
        return widened(part, self.x.kind).reshape(-1)

    def _check(self, where: tuple[int, int]) -> None:
        """The definition and the engine have stored the same."""
        form, position = self.s.layout, self._position()
        group = position // form.elements * form.elements
        codes = unpack_from(self.q.packed, form, group, min(form.elements, self.q.size - group))
        assert self.made.codes == [codes[position - group]], (self.made.codes, codes[position - group])
        assert self.made.scale == self.q.scales[where]
        if self.made.offset is not None and self.q.offsets is not None:
            assert self.made.offset == self.q.offsets[where]
        if self.made.zero_point is not None and self.q.zero_points is not None:
            assert self.made.zero_point == self.q.zero_points[where]

    def _position(self) -> int:
        """Which of the packed codes it is."""
        return self.spot.row * self.spot.length + self.spot.column

    def explanation(self) -> Explanation:
        """All of it."""
        s, made = self.s, self.made
        code, y = made.codes[0], made.scaled[0]
        steps, compared = self._steps()
        zero = made.zero_point
        if made.used == 0 and s.choices.get("zerocode") == "code0" and y == y:
            decision = Decision(why=("zerocode=code0: where the scale is 0, so is the code",))
        elif zero is None:
            decision = by_encoder(s, self.a, y, code, self.random, self.random_bits)
        else:
            decision = by_integers(s, self.a, compared, zero, _added_before(s), code)
        decode_steps, decoded = self._decoded()
        x = of_word(self._word(), self.x.kind)
        bounded = is_finite(decoded) and math.isfinite(x.value)
        error = as_fraction(decoded) - Fraction(x.value) if bounded else float(decoded) - x.value
        places, digit = places_of(s.layout, self._position())
        return Explanation(
            scheme=str(s),
            index=self.at,
            x=x,
            row=self.spot.row,
            block=self.block,
            element=self.element,
            elements=self.size,
            first=self._at(self.first),
            last=self._at(self.first + self.size - 1),
            rule=s.rule,
            formula=(RULES[s.rule].__doc__ or "").strip().splitlines()[0],
            deciders=self._deciders(),
            scale_steps=self._scale_steps(),
            scale=stored(made.scale, s.scale_type),
            offset=None if made.offset is None else stored(made.offset, s.scale_type),
            zero_point=self._zero_point(),
            mean=_float32(self.whole.mean),
            global_scale=_float32(self.whole.global_scale),
            double=self._double(),
            steps=steps,
            y=figure(y, self._format(y)),
            encoder=s["encoder"],
            decision=decision,
            code=code,
            bits=format(code, f"0{s.dtype.bits}b"),
            places=places,
            digit=digit,
            decode_steps=decode_steps,
            decoded=float(decoded),
            error=float(error),
        )

    def _zero_point(self) -> Figure | None:
        zero = self.made.zero_point
        if zero is None:
            return None
        real = RULES[self.s.rule].zero_point == "real"
        return figure(zero, "float32") if real else stored(zero, self.s.dtype.name)

    def _word(self) -> int:
        value = self.x.array[self.at]
        return int(value if self.x.kind == "bfloat16" else np.asarray(value).view(f"uint{8 * value.itemsize}"))

    def _at(self, column: int) -> tuple[int, ...]:
        """The index in x of a column of the row."""
        found = positions(self.s.cut, self.q.shape, self.spot.row, np.array([column]))
        return tuple(int(np.ravel(i)[0]) for i in found)

    def _format(self, y: Number) -> str:
        return "exact" if is_finite(y) and y and round_to(y, self.a.form) != y else self.a.form

    def _step(self, what: str, value: Number) -> Step:
        return Step(what, figure(value, self._format(value)))

    def _deciders(self) -> tuple[Decider, ...]:
        """The numbers that the scale comes from."""
        rule, finite = RULES[self.s.rule], self.plan.finite
        if self.s.rule == "rms":
            return (Decider(f"all {len(finite)} numbers; the largest magnitude", float(largest(finite)), None),)
        wanted: list[tuple[str, Number]]
        if rule.offset_added or rule.zero_point:
            wanted = [("min", min(finite, default=Fraction(0))), ("max", max(finite, default=Fraction(0)))]
            return tuple(self._decider(name, value, [value]) for name, value in wanted)
        name, size = "max|x|", largest(finite)
        if self.s.rule == "percentile":
            name, size = f"the {self.s['percentile']} % point of |x|", rule.magnitude(self.s, finite)
        one_sign = self.s["signedtie"] == "negative" and -size in finite
        return (self._decider(name, size, [-size] if one_sign else [size, -size]),)

    def _decider(self, name: str, value: Number, equal: list[Number]) -> Decider:
        i = next((i for i, number in enumerate(self.plan.numbers) if number in equal), None)
        return Decider(name, float(value), None if i is None else self._at(self.first + int(self.kept[i])))

    def _scale_steps(self) -> tuple[Step, ...]:
        """The scale, from the rule to what is stored."""
        s, a, steps = self.s, self.a, []
        for scale in candidates(s, a, self.whole, self.plan.finite):
            steps = [self._step("by the rule", scale)]
            raw = scale
            if self.whole.global_scale is not None and s["globalat"] == "scale":
                multiply = s["global"] == "divisor"
                raw = (a.multiply if multiply else a.divide)(raw, self.whole.global_scale)
                steps.append(self._step("* global scale" if multiply else "/ global scale", raw))
            if s["leastscale"] != "none":
                raw = max(raw, round_to(Fraction(s["leastscale"]), a.form))
                steps.append(self._step(f"at least {s['leastscale']}", raw))
            if raw == self.plan.raw:  # of several, the one with the least error
                return (*steps, *self._replaced(raw))
        raise AssertionError("no scale of the rule is the one that was chosen")

    def _replaced(self, raw: Number) -> list[Step]:
        """What is stored where rounding would give 0 or infinity."""
        s = self.s
        if raw == 0 and RULES[s.rule].empty(s, self.a, self.plan.finite):
            if s["zeroblock"] == "zero":
                return []
            return [Step(f"a block of zeros has, zeroblock={s['zeroblock']}", stored(self.made.scale, s.scale_type))]
        if s["scalerange"] == "clamp":
            narrow = s.scale_dtype != "f32"
            near = decode(s.scale_type, encode(s.scale_type, raw)) if narrow else round_to(raw, "float32")
            if near == 0 or not is_finite(near):
                return [Step("beyond the stored type, scalerange=clamp", stored(self.made.scale, s.scale_type))]
        return []

    def _double(self) -> Explanation | None:
        """The scale as an element of the scales."""
        s = self.s
        if s.double is None:
            return None
        choices = {name: value for name, value in s.choices.items() if name != "double"}
        plain = Scheme(s.dtype, s.cut, s.rule, s.scale_dtype, choices)
        if s.dtype.rounding.startswith("stochastic"):  # random bits have no part in the scales
            plain = Scheme(s.dtype.with_choices(rounding="nearest"), s.cut, s.rule, s.scale_dtype, choices)
        bfloat16 = self.x.kind == "bfloat16"
        scales = quantize(self.x.array, plain, bfloat16=bfloat16).scales
        found = explain(scales, (self.spot.row, self.block), s.double)
        assert found.decoded == self.made.scale
        return found

    def _steps(self) -> tuple[tuple[Step, ...], Number]:
        """The operations on the element, and the number that is compared with its neighbours."""
        s, a, made, plan = self.s, self.a, self.made, self.plan
        steps = []
        x: Number = as_number(float(of_word(self._word(), self.x.kind).value))
        if a.fl(x) != x and x == x:
            steps.append(self._step(f"x in {a.form}", a.fl(x)))
        if x != x and s["nan"] == "zero":
            steps.append(self._step("NaN counts as", Fraction(0)))
        if self.whole.mean is not None and is_finite(x):
            steps.append(self._step("x - mean", a.subtract(a.fl(x), self.whole.mean)))
        value = plan.numbers[self.among]
        if s["center"] == "block":
            steps.append(self._step("x - mean of the block", value))
        used, scale_steps = self._used()
        steps += scale_steps
        if RULES[s.rule].offset_added and is_finite(value):
            offset = a.fl(plan.raw_offset or Fraction(0)) if s["scaleuse"] == "unrounded" else plan.offset
            assert offset is not None
            if s["scaleuse"] == "unrounded":
                steps.append(self._step("offset before it is stored", offset))
            value = a.subtract(value, offset)
            steps.append(self._step("x - offset", value))
        if value != value:
            return tuple(steps), value
        y = self._divided(value, used, steps)
        assert _same(y, made.scaled[0])
        zero = made.zero_point
        if zero is not None and _added_before(s):
            y = a.add(y, zero)
            steps.append(self._step("y + zero point", y))
        return tuple(steps), y

    def _used(self) -> tuple[Number, list[Step]]:
        """The scale that elements are divided by."""
        s, a, steps = self.s, self.a, []
        scale: Number = self.plan.stored
        if s["scaleuse"] == "unrounded":
            scale = a.fl(self.plan.raw)
            steps.append(self._step("scale before it is stored", scale))
        if self.whole.global_scale is not None and s["arith"] != "reciprocals":
            multiply = s["global"] == "multiplier"
            scale = (a.multiply if multiply else a.divide)(scale, self.whole.global_scale)
            steps.append(self._step(f"scale {'*' if multiply else '/'} global scale", scale))
        if s["leastused"] != "none":
            scale = max(scale, round_to(Fraction(s["leastused"]), a.form))
            steps.append(self._step(f"scale, at least {s['leastused']}", scale))
        return scale, steps

    def _divided(self, x: Number, used: Number, steps: list[Step]) -> Number:
        """x over the scale, as the scheme does it."""
        s, a, one = self.s, self.a, Fraction(1)

        def step(what: str, value: Number) -> Number:
            steps.append(self._step(what, value))
            return value

        if self.made.used == 0:
            return step("the scale is 0, so y", Fraction(0))
        tail = self.plan.short and s["tailarith"] != "same"
        arith = s["tailarith"] if tail else s["arith"]
        factor = RULES[s.rule].factor(s, a, self.plan.finite)
        if arith == "reciprocals":
            most = self.whole.global_scale
            inverse = step("1 / 1" if most is None else "1 / global scale", a.divide(one, most or one))
            scale = a.fl(self.plan.raw) if s["scaleuse"] == "unrounded" else self.plan.stored
            if s["global"] == "divisor":
                product = step("scale * that", a.multiply(scale, inverse))
                factor = step("1 / that", a.divide(one, product))
            else:
                factor = step("that / scale", a.divide(inverse, scale))
        if factor is not None:
            name = "x * that" if arith == "reciprocals" else f"x * {figure(factor, a.form).text}"
            return step(name, a.multiply(x, factor))
        if s["scaleas"] == "divisor":
            return step("x * scale", a.multiply(x, used))
        if arith == "exact" and is_finite(x):
            return step("x / scale, not rounded", self.made.scaled[0])
        if arith == "reciprocal":
            inverse = step("1 / scale", a.divide(one, used))
            return step("x * that", a.multiply(x, inverse))
        return step("x / scale", a.divide(x, used))

    def _decoded(self) -> tuple[tuple[Step, ...], Number]:
        """Back to a number, in float32."""
        s, made, f32 = self.s, self.made, Arithmetic("float32")
        steps = []

        def step(what: str, value: Number) -> Number:
            steps.append(Step(what, figure(value, "float32")))
            return value

        scale: Number = made.scale
        value = step(f"level of the code {made.codes[0]}", decode(s.dtype, made.codes[0]))
        if made.zero_point is not None:
            value = step("- zero point", f32.subtract(value, made.zero_point))
        if self.whole.global_scale is not None:
            multiply = s["global"] == "multiplier"
            scale = (f32.multiply if multiply else f32.divide)(scale, self.whole.global_scale)
            step(f"scale {'*' if multiply else '/'} global scale", scale)
        if s["scaleas"] == "divisor":
            value = step("/ scale", f32.divide(value, scale))
        else:
            value = step("* scale", f32.multiply(value, scale))
        for name, offset in (("+ offset", made.offset), ("+ mean", self.whole.mean)):
            if offset is not None and is_finite(value):
                value = step(name, f32.add(value, offset))
        alone = Quantized([[Block([made.codes[0]], made.scale, made.offset, made.zero_point)]])
        alone.global_scale, alone.mean = self.whole.global_scale, self.whole.mean
        again = dequantize_exactly(alone, s)[0][0]
        assert _same(value, again)
        return tuple(steps), value


def _added_before(s: Scheme) -> bool:
    """Is the zero point added before rounding?"""
    return s["zeroadd"] == "before" or RULES[s.rule].zero_point == "real"


def _same(a: Number, b: Number) -> bool:
    return a == b or (a != a and b != b)


def _float32(value: Number | None) -> Figure | None:
    return None if value is None else figure(value, "float32")


def _one(value: Any) -> Number | None:
    return None if value is None else as_number(float(np.ravel(value)[0]))
