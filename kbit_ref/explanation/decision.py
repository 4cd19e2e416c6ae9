"""Why a scaled number gets its code: the neighbouring levels, their midpoint, and the rule that decides."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from kbit_ref.exact import Definition, decode, encode
from kbit_ref.exact.arithmetic import Arithmetic, Number, as_fraction, is_finite, is_negative
from kbit_ref.exact.encoders import BINS, ENCODERS, FP4_TREE, NF4_TREE, constant
from kbit_ref.explanation.spelling import exactly, figure, in_ulps, text_of
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Decision", "Neighbour", "by_encoder", "by_integers"]

TIES = {  # what a tie goes to
    "even": "the even {}",
    "lower": "the lower {}",
    "upper": "the upper {}",
    "zero": "the {} nearer to zero",
    "away": "the {} further from zero",
}


@dataclass(frozen=True)
class Neighbour:
    """A level next to a number, and its code; None if the type has no code for it."""

    code: int | None
    level: float


@dataclass(frozen=True)
class Decision:
    """Where a number lies between two levels (or integers), and what was made of it.

    Parameters
    ----------
    below, above
        The largest level not above the number, and the next one; None beyond the last.
    midpoint
        Halfway between them.
    side
        Where the number lies: `below` or `above` the midpoint, or `tie`; empty without a midpoint.
    ulps
        How far from the midpoint, in units of the number's last place.
    why
        The reasons, in words.
    """

    below: Neighbour | None = None
    above: Neighbour | None = None
    midpoint: float | None = None
    side: str = ""
    ulps: int | float | None = None
    why: tuple[str, ...] = ()


def by_integers(s: Scheme, a: Arithmetic, y: Number, zero: Number, before: bool, code: int) -> Decision:
    """For integers that count from a zero point; `y` has the zero point added already if it is `before` rounding."""
    levels = s.dtype.definition.values
    lowest, top = int(levels[0]), int(levels[-1])
    shift = 0 if before else int(zero)
    where = "rounded" if before else f"rounded, and the zero point {shift} is added"
    if not is_finite(y):
        return Decision(why=(f"{text_of(y)} is cut to the code {code}",))
    value = as_fraction(y)
    whole = math.floor(value)

    def neighbour(n: int) -> Neighbour:
        return Neighbour(int(encode(s.dtype, Fraction(max(lowest, min(top, n + shift))))), float(n))

    side, ulps = _side(a, value, whole + Fraction(1, 2))
    why = [f"{text_of(y)} is {where}"]
    if side == "tie":
        why.append(f"a tie: ties={s.dtype.ties} takes {TIES[s.dtype.ties].format('integer')}")
    if not lowest - Fraction(1, 2) <= value + shift <= top + Fraction(1, 2):
        why.append(f"beyond {lowest} ... {top}: cut to {text_of(decode(s.dtype, code))}")
    return Decision(neighbour(whole), neighbour(whole + 1), whole + 0.5, side, ulps, tuple(why))


def by_encoder(s: Scheme, a: Arithmetic, y: Number, code: int, random: int | None, random_bits: int) -> Decision:
    """For codes of levels."""
    d = s.dtype.definition
    below, above, next_level = _neighbours(d, y)
    midpoint: Fraction | None = None
    side, ulps = "", None
    if is_finite(y) and below is not None and above is not None:
        midpoint = (Fraction(below.level) + Fraction(above.level)) / 2
        side, ulps = _side(a, as_fraction(y), midpoint)
    tell = REASONS.get(s["encoder"], _named)
    why = tell(s, a, y, code) if s["encoder"] != "nearest" else _nearest(d, y, code, side, random, random_bits)
    if next_level and s["encoder"] == "nearest":
        why = [next_level, *why]
    return Decision(below, above, None if midpoint is None else float(midpoint), side, ulps, tuple(why))


def _side(a: Arithmetic, y: Fraction, midpoint: Fraction) -> tuple[str, int | float]:
    side = "tie" if y == midpoint else "above" if y > midpoint else "below"
    return side, in_ulps(abs(y - midpoint), y, a.form)


def _neighbours(d: Definition, y: Number) -> tuple[Neighbour | None, Neighbour | None, str]:
    """The levels on both sides, and a word if one of them is only thought of."""
    ladder = [Neighbour(code, float(value)) for value, code in d.ladder]
    if not is_finite(y):
        return None, None, ""
    value = as_fraction(y)
    i = bisect_right(d.values, value) - 1
    if 0 <= i < len(ladder) - 1:
        return ladder[i], ladder[i + 1], ""
    if i == len(ladder) - 1 and value == d.values[-1] and i:
        return ladder[i - 1], ladder[i], ""  # the last level itself
    beyond = None
    if d.overflow in ("infinity", "ieee") and d.beyond is not None and (i >= 0 or d.values[0] < 0):
        beyond = Neighbour(None, float(d.beyond) if i >= 0 else -float(d.beyond))
    thought = f"the next level would be {beyond.level:g}" if beyond else ""
    return (ladder[-1], beyond, thought) if i >= 0 else (beyond, ladder[0], thought)


def _nearest(d: Definition, y: Number, code: int, side: str, random: int | None, bits: int) -> list[str]:
    """`exact.encode`, told."""
    got = text_of(decode(d, code))
    if y != y:
        return [f"NaN has the code {code}"]
    if not is_finite(y):
        return [f"an infinity with overflow={d.overflow}: {got}"]
    value = as_fraction(y)
    why = []
    if value in d.values:
        why.append("it is a level")
    elif value < 0 <= d.values[0]:
        why.append(f"below all levels: negative={d.negative} gives {got}")
    elif not d.values[0] < value < d.values[-1]:
        why.append(f"beyond the last level: overflow={d.overflow} gives {got}")
    elif d.rounding.startswith("stochastic"):
        why += _stochastic(d, value, random or 0, bits)
    elif d.rounding != "nearest":
        why.append(f"rounding={d.rounding} takes {got}")
    elif side == "tie":
        why.append(f"a tie: ties={d.ties} takes {TIES[d.ties].format('code' if d.ties == 'even' else 'level')}, {got}")
    else:
        why.append(f"{side} the midpoint: the nearer level is {got}")
    if d.minus_zero is not None and d.levels[code] == 0:
        sign = "set" if is_negative(y) else "not set"
        why.append(f"a zero, the sign bit of the number is {sign}: zero_sign={d.zero_sign} gives the code {code}")
    return why


def _stochastic(d: Definition, y: Fraction, r: int, n: int) -> list[str]:
    """The sum that the random bits decide, as IEEE P3109 has it."""
    i = bisect_right(d.values, y) - 1
    near, far = sorted((abs(d.values[i]), abs(d.values[i + 1])))
    v = (abs(y) - near) / (far - near)
    one = 1 << n
    sums = {
        "stochastic_a": (f"floor(v * 2^{n}) + R", math.floor(v * one) + r, one),
        "stochastic_b": (f"floor(v * 2^{n + 1}) + 2 R + 1", math.floor(v * 2 * one) + 2 * r + 1, 2 * one),
        "stochastic_c": (f"v * 2^{n} rounded, + R", round(v * one) + r, one),
    }
    formula, total, limit = sums[d.rounding]
    verdict = f">= {limit}: away from zero" if total >= limit else f"< {limit}: toward zero"
    share = f"v = {exactly(v)} of the gap from the level nearer to zero; R = {r} of {n} bits"
    return [share, f"{d.rounding}: {formula} = {total} {verdict}"]


# Encoders that are not `nearest`: what they compute, told; each ends at the code of the definition ---


def _named(s: Scheme, a: Arithmetic, y: Number, code: int) -> list[str]:
    return [f"{s['encoder']}: {(ENCODERS[s['encoder']].__doc__ or '').strip().splitlines()[0]}"]


def _argmin(s: Scheme, a: Arithmetic, y: Number, code: int) -> list[str]:
    if not is_finite(y):
        return _nearest(s.dtype.definition, y, code, "", None, 0)
    ladder = s.dtype.definition.ladder
    distances = sorted((abs(as_fraction(a.subtract(y, value))), c, value) for value, c in ladder)
    told = [f"fl(|y - {text_of(value)}|) = {text_of(d)}, code {c}" for d, c, value in distances[:2]]
    return ["argmin: differences are rounded before they are compared", *told, f"the least is that of code {code}"]


def _midpoints32(s: Scheme, a: Arithmetic, y: Number, code: int) -> list[str]:
    if y != y:
        return _nearest(s.dtype.definition, y, code, "", None, 0)
    f32 = Arithmetic("float32")
    levels = s.dtype.definition.levels
    order = sorted((as_fraction(level), c) for c, level in enumerate(levels) if is_finite(level))
    middles = [f32.multiply(f32.add(low, high), Fraction(1, 2)) for (low, _), (high, _) in pairwise(order)]
    at = [c for _, c in order].index(code)
    parts = [f"y > {text_of(middles[at - 1])}"] if at else []
    parts += [f"y <= {text_of(middles[at])}"] if at < len(middles) else []
    return [f"midpoints32: {', '.join(parts)} (midpoints, in float32): code {code}"]


def _bnb_fp4(s: Scheme, a: Arithmetic, y: Number, code: int) -> list[str]:
    if y != y:
        return ["bnb_fp4: every comparison with NaN fails, code 0"]
    size = abs(as_fraction(y)) if is_finite(y) else Fraction(1)
    limits = [(as_fraction(constant(text)), text) for text, _ in FP4_TREE]
    over = [text for limit, text in limits if size > limit]
    not_over = [text for limit, text in limits if size <= limit]
    parts = [f"|y| > {over[0]}"] if over else []
    parts += [f"|y| <= {not_over[-1]}"] if not_over else []
    sign = ", and y < 0 sets the sign bit" if y < 0 else ""
    return [f"bnb_fp4: {', '.join(parts)} (constants of the tree, in float32){sign}: code {code}"]


def _bnb_nf4(s: Scheme, a: Arithmetic, y: Number, code: int) -> list[str]:
    parts = [f"y > {NF4_TREE[code - 1]}"] if code else []
    parts += [f"not y > {NF4_TREE[code]}"] if code < len(NF4_TREE) else []
    return [f"bnb_nf4: {', '.join(parts)} (constants of the tree, in float32): code {code}"]


def _bnb_bins(s: Scheme, a: Arithmetic, y: Number, code: int) -> list[str]:
    if y != y:
        return _nearest(s.dtype.definition, y, code, "", None, 0)
    f32 = Arithmetic("float32")
    inside = max(Fraction(-1), min(Fraction(1), as_fraction(f32.fl(y)) if is_finite(y) else Fraction(2 * (y > 0) - 1)))
    half = as_fraction(f32.multiply(f32.add(inside, Fraction(1)), Fraction(1, 2)))
    number = math.floor(as_fraction(f32.fl(half * (BINS - 1) + Fraction(1, 2))))
    centre = f32.add(Fraction(-1), f32.divide(Fraction(2 * number), Fraction(BINS - 1)))
    why = [f"bnb_bins: y falls in bin {number} of {BINS}, whose centre is {text_of(centre)}"]
    for (low, _), (high, above) in pairwise(s.dtype.definition.ladder):
        if above == code:
            edge = f32.multiply(f32.add(low, high), Fraction(1, 2))
            why.append(f"the centre is above the midpoint {text_of(edge)} and not above the next: code {code}")
    return why if len(why) > 1 else [*why, f"the centre is not above the first midpoint: code {code}"]


def _counted(half_before: Fraction, how: str) -> Callable[[Scheme, Arithmetic, Number, int], list[str]]:
    def tell(s: Scheme, a: Arithmetic, y: Number, code: int) -> list[str]:
        if y != y:
            return _nearest(s.dtype.definition, y, code, "", None, 0)
        lowest = s.dtype.definition.values[0]
        added = half_before - lowest
        total = a.add(y, added)
        exact_total = is_finite(y) and as_fraction(y) + added == total
        rounded = "" if exact_total else ", rounded"
        steps = int(decode(s.dtype, code) - lowest)
        kept = f"{how} to {steps}, counted from {exactly(lowest)}"
        return [f"{s['encoder']}: y + {exactly(added)} = {figure(total, a.form).text}{rounded}; {kept}: code {code}"]

    return tell


REASONS: dict[str, Callable[[Any, Arithmetic, Number, int], list[str]]] = {
    "argmin": _argmin,
    "midpoints32": _midpoints32,
    "bnb_nf4": _bnb_nf4,
    "bnb_fp4": _bnb_fp4,
    "bnb_bins": _bnb_bins,
    "addhalf": _counted(Fraction(1, 2), "cut"),
    "addround": _counted(Fraction(0), "rounded, half away from zero,"),
}
