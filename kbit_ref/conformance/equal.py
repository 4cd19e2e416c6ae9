"""Show that a variant cannot differ from a scheme: reasons that are checked before they are given.

Codes are monotone functions of the quotient, and scales are of the largest number: so two of them that are equal at
both ends of every interval in which neither changes are equal on all float32 numbers, and halving intervals finds a
difference if there is one. Where the stored scales are few, all of them are tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.variants import mutants
from kbit_ref.errors import KbitError
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.exact.rules import significand_bits
from kbit_ref.tensors.aligned import LARGEST, anchors, by_word, changes, in_order, stored_scales
from kbit_ref.tensors.packing import layout, pack
from kbit_ref.tensors.rules import RULES
from kbit_ref.tensors.scales import Plan, Whole, used_scale
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Steps, reference

__all__ = ["reason"]

F32 = np.float32
Why = tuple[str, str]  # equal or outside, and the reason
ENCODE = ("ties", "rounding", "zero_sign", "overflow", "encoder", "zerocode")
QUOTIENT = ("arith", "compute", "tailarith")
STORE = ("scalerange", "zeroblock", "leastscale", "leastused", "scaleuse")
READER = {"level", "effective", "times", "zeros"}
WRITES_ZEROS = ("absmax", "absmaxhalf", "absmaxfull", "signedmax", "affine")


def reason(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Return why the variant of that name cannot differ from the scheme, or None if no reason is known."""
    for argument in (_outside, _layout, _one_block, _tail, _rule, _stored, _encoder, _quotient, _reader, _flushed):
        found = argument(s, name, base, steps)
        if found is not None:
            return found
    return None


def _steps(name: str) -> set[str]:
    """Return the steps that a mutant replaces; of anything else none."""
    found = mutants().get(name.partition("(")[0])
    return set() if found is None else set(found.steps)


def _word(name: str) -> str:
    return name.partition("=")[0] if "(" not in name else ""


def _outside(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    word = _word(name)
    if word in ("nan", "inf") and s[word] == "error":
        return "outside", f"only for {'NaN' if word == 'nan' else 'infinity'}, which the scheme refuses"
    if word == "scalerange" and s[word] == "error":
        return "outside", "only for scales that cannot be stored, which the scheme refuses"
    return None


def _layout(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    for start in ("read as ", "packed as ", "layout="):
        if name.startswith(start):
            form, own = layout(name.removeprefix(start)), s.layout
            n = math.lcm(form.elements, own.elements)
            every = np.concatenate([np.eye(n, dtype=np.uint8) << bit for bit in range(form.bits)])
            if all(np.array_equal(pack(codes, form), pack(codes, own)) for codes in every):
                return "equal", "each bit of each code has the same place"
    return None


def _one_block(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    if name == "first-scale-for-all" and s.cut.size is None:
        return "equal", "a row has one block"
    alone = ("scale-of-another-block", "only-the-first-block")
    if s.cut.kind == "tensor" and name.partition("(")[0] in alone:
        return "equal", "there is one block"
    return None


def _tail(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    if s.cut.size is None and name.startswith("tail"):
        return "equal", "no block is short"
    zeros = s.rule in WRITES_ZEROS or FACTS[s.rule].power_of_two
    if name in ("tail=pad", "tail-filled-with-zeros") and zeros and s["center"] == "none":
        return "equal", "zeros change no largest magnitude, and no range that holds 0"
    return None


def _rule(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    if name == "rule=percentile" and s.rule == "absmax" and s.cut.size:
        share = Fraction("99.9") / 100
        if all(math.ceil(n * share) == n for n in range(1, s.cut.size + 1)):
            return "equal", "of so few numbers the 99.9th percentile is the largest"
    if {name, f"rule={s.rule}"} == {"rule=pow2even", "rule=pow2even1"} and significand_bits(s.dtype) == 1:
        return "equal", "the type has 1 bit of significand"
    return None


# Functions that are equal on all float32 -----------------------------------------------------------


def _alike(f: Callable[..., Any], g: Callable[..., Any], low: Any, high: Any) -> bool:
    """Return whether two monotone functions of float32 [n] and a column index are equal from low to high."""
    begin, end = in_order(np.asarray(low, F32)).copy(), in_order(np.asarray(high, F32)).copy()
    which = np.arange(begin.size)
    while begin.size:
        at = [(f(by_word(x), which), g(by_word(x), which)) for x in (begin, end)]
        if any(not _same(a, b).all() for a, b in at):
            return False
        go = ~_same(at[0][0], at[1][0]) & (end - begin > 1)
        begin, end, which = begin[go], end[go], which[go]
        middle = (begin + end) >> 1
        begin, end = np.concatenate([begin, middle]), np.concatenate([middle, end])
        which = np.concatenate([which, which])
    return True


def _same(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    a, b = np.asarray(a), np.asarray(b)
    alike = a == b
    if a.dtype.kind == "f":
        alike = alike & (np.signbit(a) == np.signbit(b)) | (a != a) & (b != b)
    return np.asarray(alike)


def _halves(bound: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the negative and the positive numbers up to a bound."""
    top = by_word(np.array([LARGEST])) if math.isinf(bound) else np.array([bound], F32)
    return np.array([-top[0], 0], F32), np.array([-0.0, top[0]], F32)


def _encoder(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Compare the codes of all quotients."""
    if _word(name) not in ENCODE and _steps(name) != {"encode"}:
        return None
    zeros: list[Any] = [None]
    if FACTS[s.rule].zero_point:
        kind = np.uint8 if s.dtype.levels.min() >= 0 else np.int8
        levels = np.unique(s.dtype.levels[s.dtype.emitted])
        zeros = [F32(0)] if FACTS[s.rule].zero_point == "real" else list(levels.astype(kind))
    for bound in (math.inf, _reach(s)):
        if math.isnan(bound):
            continue
        low, high = _halves(bound)

        def codes(of: Steps, zero: Any, used: float = 1.0) -> Callable[..., Any]:
            def function(y: NDArray[np.float32], which: Any) -> Any:
                column = y[:, None]
                z = None if zero is None else np.full(column.shape, zero)
                return of.encode(column, np.full(column.shape, used, F32), z)[:, 0]

            return function

        same = all(_alike(codes(base, zero), codes(steps, zero), low, high) for zero in zeros)
        at = np.array([0.0], F32)  # what a block of zeros is encoded from
        same = same and all((codes(base, z, 0.0)(at, 0) == codes(steps, z, 0.0)(at, 0)).all() for z in zeros)
        if same:
            so_far = "" if math.isinf(bound) else f" up to {bound:.6g}, and there is none beyond"
            return "equal", f"the same code for every float32 quotient{so_far}"
    return None


def _reach(s: Scheme) -> float:
    """Return a bound of the magnitude of quotients; NaN if there is none."""
    facts = FACTS[s.rule]
    if facts.power_of_two:
        a = reference(s).arithmetic

        def raw(x: NDArray[np.float32]) -> Any:
            return RULES[s.rule].scale(s, a, x[:, None], None)[:, 0]

        low, high = in_order(np.array([1, 2], F32)).tolist()
        jumps = in_order(changes(raw, low, high))
        m = by_word(np.unique(np.concatenate([[low, high], jumps, jumps - 1])))
        return float((m / raw(m)).max())
    if s["scalerange"] == "clamp" and s.scale_dtype not in ("f32",):
        return math.nan
    if s.scale_dtype != "f32" and s["scaleuse"] == "rounded":
        return math.nan
    if s.rule in ("affineplain", "mlx", "hqq", "rms", "clip", "percentile"):
        return math.nan
    head = anchors(s)
    if s["leastused"] == "none" and s["eps"] == "0" and s["scaleuse"] != "unrounded" and np.abs(head).max() != 1:
        return math.nan  # a subnormal scale is rounded by much
    return float(np.abs(head).max() * (1 + 2.0**-20)) if len(head) == 1 else float(np.ptp(head) * (1 + 2.0**-20))


def _columns(s: Scheme) -> NDArray[np.float32]:
    """Return the scales that can be stored, where they are few: all of them."""
    scales = stored_scales(s)
    return scales[scales >= float(s["leastscale"])] if s["leastscale"] != "none" else scales


def _quotient(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Compare the codes of numbers, at every scale that is a power of two."""
    if _word(name) not in QUOTIENT and _steps(name) != {"quotient"}:
        return None
    if s.scale_dtype != "e8m0fnu" or not FACTS[s.rule].power_of_two or name == "scale-used-unrounded":
        return None
    scales = _columns(s)

    def codes(of: Steps) -> Callable[..., Any]:
        def function(x: NDArray[np.float32], which: NDArray[np.intp]) -> Any:
            stored = scales[which % scales.size][:, None]
            column = x[:, None]
            p = Plan(column, None, column, None, False, raw=stored.astype(np.float64), stored=stored)
            used = used_scale(of.scheme, of.arithmetic, Whole(None, None), p)
            with np.errstate(all="ignore"):
                return of.encode(of.quotient(p, used, Whole(None, None)), used, None)[:, 0]

        return function

    n, most = scales.size, by_word(np.array([LARGEST]))[0]
    top = np.minimum(scales.astype(np.float64) * _reach(s), most).astype(F32)
    if _alike(codes(base), codes(steps), np.concatenate([-top, 0 * top]), np.concatenate([-0 * top, top])):
        return "equal", f"scales are powers of two: the same code for every number at all {n} of them"
    return None


def _stored(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Compare scales as they are stored and used, for every scale before that."""
    if _word(name) not in STORE and not _steps(name) <= {"store"} and name != "zero-block-divided":
        return None
    if not _steps(name) and _word(name) not in STORE and name != "zero-block-divided":
        return None
    if s["global"] != "none" and _word(name) in ("leastused", "scaleuse"):
        return None
    if _word(name) == "scaleuse" and not FACTS[s.rule].power_of_two:
        return None
    least = 0.0 if s["leastscale"] == "none" else float(s["leastscale"])
    if s.rule == "hqq":
        least = 4e-5
    zero = np.zeros((1, 1))
    with np.errstate(all="ignore"):
        if name == "zero-block-divided":
            empty = Plan(zero, None, zero, None, False, raw=zero, stored=zero, empty=np.array([[True]]))
            empty.stored = base.store(empty)
            if used_scale(s, base.arithmetic, Whole(None, None), empty).all() and _never_zero(s, base, least):
                return "equal", "no scale in use is 0"
            return None

    def function(of: Steps) -> Callable[..., Any]:
        def of_raw(raw: NDArray[np.float32], which: Any) -> Any:
            column = raw[:, None]
            if FACTS[s.rule].power_of_two:
                column = column.astype(np.float64)
            p = Plan(column, None, column, None, False, raw=column, stored=column, empty=column == 0)
            with np.errstate(all="ignore"):
                if of.scheme["leastscale"] != "none":
                    p.raw = np.maximum(p.raw, p.raw.dtype.type(float(of.scheme["leastscale"])))
                p.stored = of.store(p)
                return used_scale(of.scheme, of.arithmetic, Whole(None, None), p)[:, 0].astype(np.float64) + 0 * raw

        return of_raw

    try:
        if FACTS[s.rule].power_of_two:
            raw = np.concatenate([[0.0], np.exp2(np.arange(-149.0, 128))]).astype(F32)
            same = bool(_same(function(base)(raw, 0), function(steps)(raw, 0)).all())
        else:
            top = by_word(np.array([LARGEST]))
            same = _alike(function(base), function(steps), np.array([least], F32), top)
    except (KbitError, ValueError):  # one of them refuses
        return None
    low = f" from {least:.6g} on" if least else ""
    return ("equal", f"the same scale in use for every scale before it is stored{low}") if same else None


def _never_zero(s: Scheme, base: Steps, least: float) -> bool:
    return bool((_columns(s) > 0).all()) and (s.scale_dtype == "e8m0fnu" or least > 0 or s["zeroblock"] != "zero")


def _emitted(s: Scheme, base: Steps) -> NDArray[np.uint8]:
    """Return the codes that the encoder gives to finite quotients."""
    if FACTS[s.rule].zero_point:
        return np.arange(2**s.dtype.bits, dtype=np.uint8)
    at = changes(lambda y: base.encode(y[:, None], np.ones((y.size, 1), F32), None)[:, 0])
    y = np.concatenate([at, by_word(np.array([-LARGEST - 1, LARGEST, -1, 0]))])
    found = base.encode(y[:, None], np.ones((y.size, 1), F32), None)[:, 0]
    return np.unique(np.append(found, s.code_of_zero)).astype(np.uint8)


def _reader(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Compare the values of every code that is emitted, at every stored scale."""
    touched = _steps(name)
    if not touched or not touched <= READER or s["nan"] == "code" or FACTS[s.rule].offset_added:
        return None
    codes = _emitted(s, base)
    with np.errstate(all="ignore"):
        if touched == {"level"}:
            if _same(base.level(codes), steps.level(codes)).all():
                return "equal", "the same level for every code that is emitted"
            return None
        scales = _columns(s)
        if not scales.size or s["global"] != "none" or FACTS[s.rule].zero_point:
            return None
        if s.scale_dtype == "f16":  # every one of them
            scales = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(F32)
        scales = np.append(scales, F32(0))[:, None]
        if touched == {"effective"}:
            same = _same(base.effective(scales, None), steps.effective(scales, None)).all()
            return ("equal", f"the same number for each of {scales.size} stored scales") if same else None
        values = [
            of.times(of.level(codes)[None, :], of.effective(scales, None), None, None) for of in (base, steps)
        ]
        if _same(*values).all():
            return "equal", f"the same value for every code that is emitted at each of {scales.size} stored scales"
    return None


def _flushed(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Compare subnormal numbers, at the least scale in use."""
    if name != "subnormal-numbers-flushed":
        return None
    least = float(s["leastscale"]) if s["leastscale"] != "none" else 0.0
    if s["eps"] != "0":
        least = float(s["eps"]) / float(np.abs(anchors(s)).max()) / 2
    if s.scale_dtype in ("f16", "e4m3fn", "ue4m3", "e4m4"):
        least = max(least, float(stored_scales(s).min()))
    if s["global"] != "none" or not least:
        return None
    bound = np.array([2.0**-126 / least], F32)
    inside = base.encode(np.array([[bound[0]], [-bound[0]], [0.0], [-0.0]], F32), np.ones((4, 1), F32), None)[:, 0]
    if inside[0] == inside[2] and inside[1] == inside[3]:
        return "equal", "over the least scale a subnormal number gets the code of 0 with its sign"
    return None
