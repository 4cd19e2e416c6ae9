"""One counterexample, taken apart: neighbouring levels, midpoint, distances, the rule that decides.

Everything is computed in rationals from the type's `exact.Definition`, never from the engine.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref import exact
from kbit_ref.conformance.inputs.of_types import to_float64
from kbit_ref.conformance.verdict import Counterexample
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.explanation.spelling import exactly

__all__ = ["counterexample", "simplest", "spell_code"]


def simplest(x: NDArray[np.float64], where: NDArray[np.bool_]) -> int:
    """The index of the simplest number among those marked.

    The fewest significand bits, then the magnitude nearest to 1, then positive before negative;
    infinities after finite numbers, NaN last.

    Examples
    --------
    >>> numbers = np.array([1.0, -0.75, 0.75, np.inf, 3.5])
    >>> simplest(numbers, np.array([False, True, True, True, True]))
    2
    """
    index = np.flatnonzero(where)
    y = x[index]
    finite = np.isfinite(y)
    fraction, exponent = np.frexp(np.where(finite, y, 0.0))
    whole = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    low_bit = np.where(whole == 0, 1, whole & -whole)
    length = np.where(whole == 0, 0, 54 - np.frexp(low_bit)[1]).astype(int)
    rank = np.where(finite, 0, np.where(np.isinf(y), 1, 2))
    order = np.lexsort((np.signbit(y), np.abs(y), np.abs(exponent), length, rank))
    return int(index[order[0]])


def spell_code(dtype: DataType, code: int, raw: Any = None) -> str:
    """`0x7e = 448`: a code and its level; for no code the integer that came, `-1` for one that was cast to uint64."""
    if not 0 <= code < 2**dtype.bits:
        if raw is None:
            return "no level of the type"
        number = int(raw) - 2**64 if int(raw) >= 2**63 else int(raw)
        return f"{number}, which is no code of {dtype.bits} bits"
    return f"{_hex(code, dtype.bits)} = {_level(exact.decode(dtype, code))}"


def _hex(code: int, bits: int) -> str:
    return f"0x{code:0{-(-bits // 4)}x}"


def _level(level: Any) -> str:
    if not isinstance(level, Fraction):
        return str(level)
    exact_value = exactly(level)
    return exact_value if len(exact_value) <= 14 else f"{float(level):.9g}"


def counterexample(dtype: DataType, kind: str, word: int, theirs: str, ours: int, more: str = "") -> Counterexample:
    """The counterexample at one word of a source format.

    Parameters
    ----------
    dtype, kind, word
        The type; the source format and the bits of the input.
    theirs
        Their answer, spelled.
    ours
        The code by the definition.
    more
        A last line: how their answer comes about.
    """
    size = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}[kind]
    x = float(to_float64(np.array([word], f"uint{size}"), kind)[0])
    steps = _steps(dtype.definition, dtype.bits, x)
    return Counterexample(
        source=kind,
        bits=f"0x{word:0{size // 4}x}",
        value=_spell_input(x),
        theirs=theirs,
        ours=spell_code(dtype, ours),
        steps=(*steps, more) if more else steps,
    )


def _spell_input(x: float) -> str:
    if not math.isfinite(x):
        return ("-nan" if math.copysign(1, x) < 0 else "nan") if x != x else str(x)
    shown = repr(int(x)) if x == int(x) and 0 < abs(x) < 1e15 else repr(x)
    if x and not 1e-3 <= abs(x) < 1e15:
        exact_value = exactly(Fraction(x))
        return shown if len(exact_value) > 30 or exact_value == shown else f"{shown} = {exact_value}"
    return shown


def _steps(d: exact.Definition, bits: int, x: float) -> tuple[str, ...]:
    """Why the definition gives the code it gives."""

    def level(value: Fraction) -> str:
        return f"{_level(value)} ({_hex(dict(d.ladder)[value], bits)})"

    if x != x:
        return ("x is NaN; the canonical NaN of the type is " + _hex(d.nan or 0, bits),)
    if math.isinf(x):
        sign = 1 if x > 0 else -1
        has = "has" if d.infinity[sign] is not None else "has no"
        return (f"x is infinite, the type {has} {'' if sign > 0 else '-'}infinity; overflow={d.overflow} decides",)
    value = Fraction(x)
    if value < 0 <= d.values[0]:
        return (f"x is negative, the smallest level is {level(d.values[0])}; negative={d.negative} decides",)
    i = bisect_right(d.values, value) - 1
    if i >= 0 and d.values[i] == value:
        step = f"x is a level: {level(value)}"
        if value == 0 and d.minus_zero is not None:
            step += f"; its sign bit is {int(math.copysign(1, x) < 0)}, zero_sign={d.zero_sign}"
        return (step,)
    if i == len(d.values) - 1:
        return _beyond(d, value, level(d.values[-1]), d.values[-1], 1)
    if i < 0:
        return _beyond(d, value, level(d.values[0]), d.values[0], -1)
    return _between(d, value, d.values[i], d.values[i + 1], level)


def _between(d: exact.Definition, x: Fraction, below: Fraction, above: Fraction, level: Any) -> tuple[str, ...]:
    steps = [f"neighbouring levels are {level(below)} and {level(above)}"]
    if d.rounding != "nearest":
        steps.append(f"rounding={d.rounding} decides")
    else:
        midpoint = (below + above) / 2
        side = "on it" if x == midpoint else f"{exactly(abs(x - midpoint))} {'above' if x > midpoint else 'below'} it"
        steps.append(f"their midpoint is {exactly(midpoint)}: x lies {side}")
        if x == midpoint:
            steps.append(f"a tie, distance {exactly(x - below)} to both: ties={d.ties} decides")
        else:
            to = [f"{exactly(abs(x - v))} to {_level(v)}" for v in (below, above)]
            nearest = below if x < midpoint else above
            steps.append(f"distances: {to[0]}, {to[1]}; nearest is {_level(nearest)}")
    if 0 in (below, above) and d.minus_zero is not None and x < 0:
        steps.append(f"if it is zero, x < 0 has zero_sign={d.zero_sign}: -0 is {_hex(d.minus_zero, 8)}")
    return tuple(steps)


def _beyond(d: exact.Definition, x: Fraction, last: str, value: Fraction, sign: int) -> tuple[str, ...]:
    if sign < 0 <= value:
        return (f"x lies below the smallest level {last}, which stands for everything from there to 0",)
    steps = [f"x is beyond the last level {last}, by {exactly(abs(x - value))}"]
    if d.overflow in ("saturate", "finite") or d.beyond is None:
        steps.append(f"overflow={d.overflow}: the last level stands for every finite number beyond it")
    else:
        after = sign * Fraction(d.beyond)
        midpoint = (value + after) / 2
        where = "on" if x == midpoint else "past" if abs(x) > abs(midpoint) else "before"
        steps.append(f"the next would be {exactly(after)}, the midpoint is {exactly(midpoint)}: x lies {where} it")
        steps.append(f"overflow={d.overflow} rounds first" + (f", ties={d.ties}" if where == "on" else ""))
    return tuple(steps)
