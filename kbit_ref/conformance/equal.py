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
from kbit_ref.conformance.variants.choices import changed
from kbit_ref.errors import KbitError
from kbit_ref.exact.rules import RULES as FACTS
from kbit_ref.exact.rules import significand_bits
from kbit_ref.tensors.aligned import LARGEST, anchors, by_word, changes, edges, in_order, stored_scales
from kbit_ref.tensors.packing import layout, pack
from kbit_ref.tensors.rules import RULES
from kbit_ref.tensors.scales import Plan, Whole, used_scale
from kbit_ref.tensors.scheme import WIDE, Scheme
from kbit_ref.tensors.steps import Steps, reference

__all__ = ["reason"]

F32 = np.float32
MOST = 2**20  # intervals at a time: a function with more steps than that is not compared
Why = tuple[str, str]  # equal or outside, and the reason
ENCODE = ("ties", "rounding", "zero_sign", "overflow", "encoder", "zerocode")
QUOTIENT = ("arith", "compute", "tailarith")
STORE = ("scalerange", "zeroblock", "leastscale", "leastused", "scaleuse")
NOT_A_NUMBER = ("nan-cut-to-infinity", "signalling-nan-as-infinity")
READER = {"level", "effective", "times", "zeros"}
GLOBAL = tuple(F32(share) for share in (1, 1 / 3, 2.0**-140, 2.0**-100, 2.0**100))
WRITES_ZEROS = ("absmax", "absmaxhalf", "absmaxfull", "signedmax", "affine")


def reason(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Return why the variant of that name cannot differ from the scheme, or None if no reason is known."""
    for argument in ARGUMENTS:
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
    if name in NOT_A_NUMBER and s["nan"] == "error":
        return "outside", "only for NaN, which the scheme refuses"
    if word == "scalerange" and s[word] == "error":
        return "outside", "only for scales that cannot be stored, which the scheme refuses"
    if name == "scales-along-another-axis(away=2)":  # of two axes it is the same one
        return "outside", "only for arrays of three axes, and `check` asks about two"
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
    alone = ("scale-of-another-block", "only-the-first-block", "first-scale-for-all")
    if s.cut.kind == "tensor" and name.partition("(")[0] in alone:
        return "equal", "there is one block"
    if s.cut.axis is None and name.startswith("blocks-in-tiles") and "columns" not in name:
        return "equal", "the array is one row"
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


def _one_bit(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Compare the codes of two numbers that are neighbours, or nearly: only such quotients have few bits left."""
    if name != "wraps" or s.rule != "hqq" or s.dtype.bits != 1:
        return None
    low = by_word(np.arange(2**23) + int(in_order(np.array([2.0**20], F32))[0]))
    for away in (1, 2, 3):  # beyond, quotients are below 2**22, and each is rounded by 1/8 at most
        for part in np.split(low, 16):
            x = np.stack([part, by_word(in_order(part) + away)], 1)
            p = Plan(x, None, x, None, False)
            p.stored = RULES[s.rule].scale(s, base.arithmetic, x, None)
            zero = base.zero(p, p.stored)
            y = base.quotient(p, p.stored, Whole(None, None))
            if not np.array_equal(base.encode(y, p.stored, zero), steps.encode(y, p.stored, zero)):
                return None
    return "equal", "no quotient is rounded beyond the codes, of two numbers of any significand up to 3 steps apart"


# Functions that are equal on all float32 -----------------------------------------------------------


def _alike(f: Callable[..., Any], g: Callable[..., Any], low: Any, high: Any) -> bool:
    """Return whether two monotone functions of float32 [n] and a column index are equal from low to high."""
    begin, end = in_order(np.asarray(low, F32)).copy(), in_order(np.asarray(high, F32)).copy()
    which = np.arange(begin.size)
    while begin.size:
        if begin.size > MOST:
            return False
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
            def function(x: NDArray[np.float32], which: Any) -> Any:
                column = x[:, None]
                z = None if zero is None else np.full(column.shape, zero)
                return of.encode(column, np.full(column.shape, used, F32), z)[:, 0]

            return function

        same = all(_alike(codes(base, zero), codes(steps, zero), low, high) for zero in zeros)
        at = np.array([0.0], F32)  # what a block of zeros is encoded from
        lowest = FACTS[s.rule].zero_point == "integer" and s["flatzero"] == "low"  # the zero point of a scale of 0
        ends = [] if _never_used(s) else [(at, 0.0, zeros[:1] if lowest else zeros)]
        if _infinite(s):
            ends.append((np.array([np.inf, -np.inf, np.nan], F32), 1.0, zeros))
        pairs = [(codes(base, z, used)(y, 0), codes(steps, z, used)(y, 0)) for y, used, some in ends for z in some]
        same = same and all((a == b).all() for a, b in pairs)
        if same:
            so_far = "" if math.isinf(bound) else f" up to {bound:.6g}, and there is none beyond"
            return "equal", f"the same code for every float32 quotient{so_far}"
    return None


def _never_used(s: Scheme) -> bool:
    """Return whether no scale in use is 0."""
    filled = s["scalerange"] in ("error", "clamp", "zeroblock") and s["zeroblock"] not in ("zero", "quotient")
    stored = filled and s["scaleuse"] == "rounded" and s["global"] == "none"
    return stored or s["leastused"] != "none"


def _tiny(s: Scheme) -> bool:
    """Return whether scales in use may be subnormal."""
    float32 = s.scale_dtype in ("f32", "bf16") or s["scaleuse"] == "unrounded"
    return float32 and s["leastused"] == "none" and s["leastscale"] == "none" and s["eps"] == "0"


def _infinite(s: Scheme) -> bool:
    """Return whether a reciprocal may be infinite; the lowest number, less itself, has no product with it."""
    return s["arith"] != "divide" and _tiny(s) and not FACTS[s.rule].offset_added


def _reach(s: Scheme) -> float:
    """Return a bound of the magnitude of quotients, unless infinite reciprocals make them so; NaN if there is none."""
    facts = FACTS[s.rule]
    if facts.power_of_two:
        a = reference(s).arithmetic

        def raw(x: NDArray[np.float32]) -> Any:
            return RULES[s.rule].scale(s, a, x[:, None], None)[:, 0]

        low, high = in_order(np.array([1, 2], F32)).tolist()
        jumps = in_order(changes(raw, low, high))
        m = by_word(np.unique(np.concatenate([[low, high], jumps, jumps - 1])))
        return float((m / raw(m)).max())
    if s["scalerange"] in ("clamp", "zeroblock", *["keep"] * (s.scale_dtype not in WIDE)) and s.scale_dtype != "f32":
        return math.nan  # a scale in use may be far less than it should be
    if s.rule == "affineplain" and s.scale_dtype == "f32" and s["eps"] == "0" and s["flat"] == "asis":
        return float(1.5 * 2.0**24 * np.ptp(anchors(s)))  # of two numbers that differ by their last bit
    if s.rule in ("affineplain", "hqq", "rms", "clip", "percentile") or s["global"] != "none":
        return math.nan
    as_stored = s["scaleuse"] == "rounded" and s.scale_dtype != "f32"
    if (facts.offset_added and as_stored) or s["compute"] not in ("wider", "float32", "float64"):
        return math.nan  # a rounded offset may lie far from the block
    head = anchors(s)
    if s.rule == "mlx":  # the steps from 0 to an edge, of at least half a step, are rounded to a whole number
        return float(2 * np.ptp(head) * (1 + 2.0**-10))
    divides = not s["arith"].startswith("reciprocal")  # what has a finite reciprocal is hardly rounded
    rounded = as_stored or (_tiny(s) and divides and np.abs(head).max() != 1)
    slack = 1.5 * (1 + 2.0**-10) if rounded else 1 + 2.0**-20  # 1.5 steps are rounded to 1
    return float((np.abs(head).max() if len(head) == 1 else np.ptp(head)) * slack)


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
    """Compare scales as they are stored and used, for every scale before that, of those that are not refused."""
    word, touched, unrounded = _word(name), _steps(name), name == "scale-used-unrounded"
    if word not in STORE and touched != {"store"} and not unrounded and name != "zero-block-divided":
        return None
    if s["global"] != "none" and (word in ("leastused", "scaleuse") or unrounded):
        return None
    if FACTS[s.rule].offset_added and s.scale_dtype != "f32" and (word == "scaleuse" or unrounded):
        return None  # the offset is rounded too
    least = _least(s)
    zero = np.zeros((1, 1))
    if name == "zero-block-divided":
        empty = Plan(zero, None, zero, None, False, raw=zero, stored=zero, empty=np.array([[True]]))
        empty.stored = base.store(empty)
        if used_scale(s, base.arithmetic, Whole(None, None), empty).all() and _never_zero(s, base, least):
            return "equal", "no scale in use is 0"
        return None
    user = changed(s, ("scaleuse", "unrounded")) if unrounded else steps.scheme
    if user is None:
        return None
    power = FACTS[s.rule].power_of_two

    def function(of: Steps, user: Scheme, stored: bool, empty: bool = False) -> Callable[..., Any]:
        def of_raw(raw: NDArray[Any], which: Any = None) -> Any:
            column = raw[:, None]
            p = Plan(column, None, column, None, False, raw=column, stored=column, empty=(column == 0) & empty)
            with np.errstate(all="ignore"):
                if of.scheme["leastscale"] != "none":
                    p.raw = np.maximum(p.raw, p.raw.dtype.type(float(of.scheme["leastscale"])))
                p.stored = of.store(p)
                found = p.stored if stored else used_scale(user, of.arithmetic, Whole(None, None), p)
            found = found[:, 0].astype(np.float64)
            return found if power else np.where(found == raw, 0, found)  # as it was before it is stored

        return of_raw

    def takes(raw: NDArray[Any], empty: bool = False) -> bool:
        try:
            function(base, s, True, empty)(raw)
        except KbitError:
            return False
        return True

    def zeros_alike(*used: NDArray[np.float64]) -> bool:
        """Return whether zeros get the same codes, whatever they are divided by."""
        x, codes = np.array([[0.0, -0.0]], F32), []
        if FACTS[s.rule].zero_point or FACTS[s.rule].offset_added:
            return False
        for of, scale in zip((base, steps), used, strict=True):
            column = scale[:, None].astype(F32)
            p = Plan(x, None, x, None, False, raw=column, stored=column)
            codes.append(of.encode(of.quotient(p, column, Whole(None, None)), column, None))
        return np.array_equal(codes[0], codes[1])

    def alike(stored: bool) -> bool:
        f, g = function(base, s, stored), function(steps, user, stored)
        for empty in _zeros(s) if not least else ():
            none = np.zeros(1, np.float64 if power else F32)
            args = (none, empty)
            if takes(*args):
                both = [function(of, who, stored, empty)(none) for of, who in ((base, s), (steps, user))]
                if not _same(*both).all() and (stored or word != "leastused" or not zeros_alike(*both)):
                    return False
        if power:
            most = RULES[s.rule].scale(s, base.arithmetic, by_word(np.array([[LARGEST]])), None)
            raw = np.exp2(np.arange(-180.0, 129))
            raw = raw[[one <= most[0, 0] and takes(one[None]) for one in raw]]
            return bool(_same(f(raw), g(raw)).all())
        ends = _accepted(takes)
        if ends is None:
            return False
        low, high = max(ends[0], int(in_order(np.array([least], F32))[0])), ends[1]
        signs = (1, -1) if FACTS[s.rule].negative else (1,)
        pairs = [(low, high) if sign > 0 else (-high - 1, -low - 1) for sign in signs]
        return all(_alike(f, g, by_word(np.array([x])), by_word(np.array([y]))) for x, y in pairs)

    try:
        same = alike(True) and alike(False)
    except (KbitError, ValueError):  # the variant refuses what the scheme takes
        return None
    low = f" from {least:.6g} on" if least else ""
    return ("equal", f"the same scale is stored and used for every scale before that{low}") if same else None


def _zeros(s: Scheme) -> tuple[bool, ...]:
    """Return what a scale of 0 may come from: always a block of zeros; one that is none if the quotient underflows."""
    head = anchors(s)
    reach = np.abs(head).max() if len(head) == 1 else np.ptp(head)
    if FACTS[s.rule].power_of_two:
        return (True,)
    known = s.rule in WRITES_ZEROS and s["center"] == "none"
    return (True,) if known and F32(2.0**-149 / reach) > 0 else (False, True)


def _least(s: Scheme) -> float:
    """Return a bound that no scale lies below before it is stored; 0 if there is none."""
    head = anchors(s)
    reach = float(np.abs(head).max() if len(head) == 1 else np.ptp(head))
    eps = float(s["eps"]) / reach / 2
    if s["scaleas"] == "divisor":
        eps = reach / float(by_word(np.array([LARGEST]))[0]) * (1 - 2.0**-10)
    least = 0.0 if s["leastscale"] == "none" else float(s["leastscale"])
    return {"hqq": 4e-5, "mlx": 5e-8}.get(s.rule, max(least, eps))


def _accepted(takes: Callable[[NDArray[np.float32]], bool]) -> tuple[int, int] | None:
    """Return the places of the least and the largest positive float32 that are accepted, as 1.0 is."""
    one = int(in_order(np.array([1], F32))[0])
    if not takes(np.array([1], F32)):
        return None
    ends = []
    for end in (1, LARGEST):
        good, bad = one, end
        if takes(by_word(np.array([end]))):
            good = bad = end
        while abs(bad - good) > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if takes(by_word(np.array([middle]))) else (good, middle)
        ends.append(good)
    return ends[0], ends[1]


def _never_zero(s: Scheme, base: Steps, least: float) -> bool:
    return bool((_columns(s) > 0).all()) and (s.scale_dtype == "e8m0fnu" or least > 0 or s["zeroblock"] != "zero")


def _exactly(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Show that no quotient is rounded to an edge but one that lies on it.

    If the edge times the scale is a float32, its neighbours are at least as far from it, relatively, as half a step.
    """
    ordinary = s["encoder"] == "nearest" and s.dtype.rounding == "nearest" and s["arith"] == "divide"
    own = s["center"] == "none" and s["global"] == "none" and s["scaleuse"] == "rounded" and s.rule == "absmax"
    if name not in ("arith=exact", "compute=float64") or not ordinary or not own or s.scale_dtype == "bf16":
        return None
    scales, at, (head,) = stored_scales(s).astype(np.float64), edges(s), anchors(s)
    middles = (scales + np.append(0, scales[:-1])) / 2
    if s.scale_dtype == "f32":  # powers of two times any scale, and the scale is the largest number
        at = at[np.abs(at) <= _reach(s)]
        exact = bool((np.abs(np.frexp(at)[0]) == 0.5).all()) and head == 1
    else:
        exact = all((x.astype(F32) == x).all() for x in (at[:, None] * scales, head * middles))
    return ("equal", "an edge times a scale is a float32: no other quotient is rounded to it") if exact else None


def _emitted(s: Scheme, base: Steps) -> NDArray[np.uint8]:
    """Return the codes that the encoder gives to finite quotients."""
    if FACTS[s.rule].zero_point:
        return np.arange(2**s.dtype.bits, dtype=np.uint8)
    reach = _reach(s)
    low, high = _halves(math.inf if math.isnan(reach) or _infinite(s) else reach)
    ends = in_order(np.array([low[0], high[1]], F32)).tolist()
    at = changes(lambda y: base.encode(y[:, None], np.ones((y.size, 1), F32), None)[:, 0], *ends)
    y = np.concatenate([at, by_word(np.array([*ends, -1, 0]))])
    found = base.encode(y[:, None], np.ones((y.size, 1), F32), None)[:, 0]
    return np.unique(np.append(found, s.code_of_zero)).astype(np.uint8)


def _reader(s: Scheme, name: str, base: Steps, steps: Steps) -> Why | None:
    """Compare the values of every code that is emitted, at every stored scale."""
    touched = _steps(name)
    if not touched or not touched <= READER:
        return None
    with np.errstate(all="ignore"):
        if touched == {"zeros"} and s.cut.kind == "tensor" and FACTS[s.rule].zero_point == "integer":
            levels = np.unique(s.dtype.levels[s.dtype.emitted]).astype(F32)
            pairs = [(base.zeros(np.full((1, 1), z)), steps.zeros(np.full((1, 1), z))) for z in levels]
            same = all(_same(np.asarray(a, F32), b).all() for a, b in pairs)
            return ("equal", f"there is one zero point, and each of {levels.size} is read alike") if same else None
        scales = _columns(s)
        if s.scale_dtype == "f16":  # every one of them
            scales = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(F32)
        if touched == {"effective"} and s.scale_dtype == "f32" and s["global"] == "none" and _least(s):

            def changed_to(of: Steps) -> Callable[..., Any]:
                def function(x: NDArray[np.float32], which: Any) -> Any:
                    found = of.effective(x[:, None], None)[:, 0]
                    return np.where(found == x, F32(0), found)

                return function

            top = by_word(np.array([LARGEST]))
            same = _alike(changed_to(base), changed_to(steps), np.array([_least(s)], F32), top)
            return ("equal", f"the same number for each scale from {_least(s):.6g} on") if same else None
        if touched == {"effective"} and scales.size:
            scales = np.append(scales, F32(0))[:, None]
            whole = (None,) if s["global"] == "none" else GLOBAL
            same = all(_same(base.effective(scales, g), steps.effective(scales, g)).all() for g in whole)
            at = "" if whole == (None,) else f", at {len(whole)} global scales"
            return ("equal", f"the same number for each of {scales.size} stored scales{at}") if same else None
        if s["nan"] == "code" or FACTS[s.rule].offset_added:
            return None
        codes = _emitted(s, base)
        if touched == {"level"}:
            if _same(base.level(codes), steps.level(codes)).all():
                return "equal", "the same level for every code that is emitted"
            return None
        if not scales.size or s["global"] != "none" or FACTS[s.rule].zero_point:
            return None
        scales = np.append(scales, F32(0))[:, None]
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


ARGUMENTS = (
    *(_outside, _layout, _one_block, _tail, _rule, _stored, _encoder, _quotient, _reader, _flushed, _exactly),
    _one_bit,
)
