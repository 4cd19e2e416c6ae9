"""Mistakes with a parameter that the answers tell: another table, a factor, a shift, a limit, blocks lost.

A fit only proposes; like every other hypothesis it is run, and judged by what it explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.diagnosis.evidence import Evidence, Piece
from kbit_ref.conformance.diagnosis.hypotheses import Hypothesis
from kbit_ref.conformance.variants.blocks import places, reordered
from kbit_ref.conformance.variants.levels import reads_table, shares_table, table
from kbit_ref.conformance.variants.output import HELD
from kbit_ref.conformance.variants.rounding import before_encoding
from kbit_ref.engine.codec import encode
from kbit_ref.errors import KbitError
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.cut import Cut
from kbit_ref.tensors.scales import Plan, Whole
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Runner, Steps, Stored

__all__ = ["fits"]

Array = NDArray[Any]
MOST_GROUPS = 64  # that a column is looked for in
NEARLY_ALL = 0.9  # of the columns are all of one group, or it is a coincidence
FEW = 4  # entries of a table are told one by one
PIECES = 3  # that are looked at
NEAR = 1e-4  # of a number that somebody may have typed


@dataclass(frozen=True, eq=False)
class _Rows:
    """Ours and theirs in the order of the rows, one an element."""

    piece: Piece
    stored: Stored
    theirs: Array  # float32 [n_rows, length]: values

    @cached_property
    def codes(self) -> Array:
        """Return our codes, or those that they were given."""
        given = self.piece.theirs.get("codes")
        if given is not None:
            return np.asarray(self.piece.base.cut.rows(np.maximum(given, 0)), np.uint8)
        n_rows, length = self.theirs.shape
        return self.piece.base.unpack(self.stored.packed, (n_rows, length))

    @cached_property
    def scales(self) -> Array:
        """Return what levels are multiplied by; their scales if they gave them."""
        steps = self.piece.base
        grid = self.piece.theirs.get("scales", self.stored.scales).reshape(self.stored.scales.shape)
        scales = np.asarray(grid, np.float32)
        return steps.spread(steps.effective(scales, self.stored.global_scale), self.stored.shape)

    @cached_property
    def zeros(self) -> Array:
        """Return the zero points, 0 where there are none."""
        zero = self.stored.zero_points
        return np.zeros((1, 1)) if zero is None else self.piece.base.spread(zero, self.stored.shape)

    @cached_property
    def offsets(self) -> Array:
        """Return the offsets, 0 where there are none."""
        offset = self.stored.offsets
        if offset is None or offset.shape == (1, 1):
            return np.zeros((1, 1)) if offset is None else offset
        return self.piece.base.spread(offset, self.stored.shape)

    @cached_property
    def ours(self) -> Array:
        """Return our values."""
        steps = self.piece.base
        zero, offset = self.stored.zero_points, self.stored.offsets
        return steps.times(
            *(steps.level(self.codes), self.scales),
            *(None if zero is None else self.zeros, None if offset is None else self.offsets),
        )

    @cached_property
    def levels(self) -> Array:
        """Return their values in units of the scale, float64; NaN where that is no number."""
        divisor = self.piece.base.scheme["scaleas"] == "divisor"
        centred = self.theirs.astype(np.float64) - self.offsets
        found = (centred * self.scales if divisor else centred / self.scales) + self.zeros
        return np.where(np.isfinite(found), found, np.nan)


def fits(e: Evidence, left: NDArray[np.bool_]) -> list[Hypothesis]:
    """Return what the answers that are left propose: those of the largest pieces that have any, each proposal once."""
    differ = e.where(left)
    found: dict[str, Hypothesis] = {}
    for piece in sorted(differ, key=lambda piece: -piece.size)[:PIECES]:
        with np.errstate(all="ignore"):
            for fit in _of_piece(piece):
                found.setdefault(fit.name + fit.why, fit)
    return list(found.values())


def _of_piece(piece: Piece) -> Iterator[Hypothesis]:
    try:
        stored = piece.given if isinstance(piece.given, Stored) else Runner(piece.given).write(piece.base).stored
    except KbitError:
        return
    if stored is not piece.given and "scales" in piece.theirs:
        yield from _of_scales(piece, stored)
    if "values" in piece.theirs:
        rows = _Rows(piece, stored, np.asarray(piece.base.cut.rows(piece.theirs["values"]), np.float32))
        for fit in (_factor, _shift, _table, _reach, _limit, _lost, _groups):
            yield from fit(rows)


def _fit(name: str, why: str, make: Callable[[Steps], Steps | None], cost: int = 1) -> Hypothesis:
    return Hypothesis(name, "fit", why, "fitted to the answers", make, cost)


def _typed(number: float) -> float:
    """Return a number of few digits next to it, which is more likely to have been typed; else itself."""
    for digits in range(1, 5):
        near = float(f"{number:.{digits}g}")
        if abs(near - number) <= NEAR * abs(number) / 10 ** max(0, digits - 2):
            return near
    return number


# Of the reader ------------------------------------------------------------------------------------


def _factor(rows: _Rows) -> Iterator[Hypothesis]:
    """Propose one number by which all values are multiplied."""
    middle = _ratio(rows.theirs, rows.ours)
    for factor in () if middle is None else dict.fromkeys((_typed(middle), float(np.float32(middle)))):
        why = f"the scale is read as {_spelled(factor)} times what it is"
        yield _fit(f"factor {_spelled(factor)}", why, partial(_scaled, factor=factor))


def _ratio(theirs: Array, ours: Array) -> float | None:
    """Return what theirs are in units of ours, in the middle; None if that says nothing."""
    good = np.isfinite(ours) & np.isfinite(theirs) & (ours != 0)
    middle = float(np.median(theirs[good].astype(np.float64) / ours[good])) if good.any() else 0.0
    return None if middle in (0, 1) or not np.isfinite(middle) else middle


def _spelled(number: float) -> str:
    """Spell a factor, `1.3`; a power of two, which is an exponent that is off, as `2^-3`."""
    fraction, exponent = np.frexp(number)
    return f"2^{int(exponent) - 1}" if fraction == 0.5 else f"{number:g}"


def _scaled(steps: Steps, factor: float) -> Steps:
    def wrong(scales: Array, whole: Any) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(steps.effective(scales, whole) * np.float32(factor))

    return replace(steps, effective=wrong)


def _shift(rows: _Rows) -> Iterator[Hypothesis]:
    """Propose one whole number by which all levels, or zero points, are off."""
    steps, good = rows.piece.base, np.isfinite(rows.levels)
    if not good.any():
        return
    away = rows.levels[good] - np.broadcast_to(steps.level(rows.codes), rows.levels.shape)[good]
    by = float(np.rint(np.median(away) * 2) / 2)
    if by == 0 or not np.isfinite(by):
        return
    if rows.stored.zero_points is not None:
        why = f"the zero point is subtracted {-by:+g}"
        make = lambda steps: replace(steps, zeros=lambda grid: steps.zeros(grid).astype(np.float32) - by)  # noqa: E731
        yield _fit(f"zero points {-by:+g}", why, make)
    why = f"every level is read as {by:+g} of what it is"
    yield _fit(f"levels {by:+g}", why, lambda steps: reads_table(steps, table(steps) + np.float32(by)))


def _table(rows: _Rows) -> Iterator[Hypothesis]:
    """Propose other numbers for some codes: where most elements of a code agree on one."""
    right = table(rows.piece.base)
    found = right.copy()
    for code in range(len(right)):
        here = (rows.codes == code) & np.isfinite(rows.levels)
        if not here.any() or not np.isfinite(right[code]):
            continue
        level = _agreed(rows, here)
        if level is not None:
            found[code] = level
    other = np.flatnonzero((found != right) & ~np.isnan(right))
    if not other.size:
        return
    told = [f"code {code} as {found[code]:g} instead of {right[code]:g}" for code in other[:FEW]]
    more = f" and {other.size - FEW} more" if other.size > FEW else ""
    why = "the table is another one: it reads " + ", ".join(told) + more
    cost = int(other.size)
    yield _fit("another table", why, lambda steps: reads_table(steps, found), cost)
    yield _fit("another shared table", why + " (and writes so)", lambda steps: _shares(steps, found), cost)


def _shares(steps: Steps, levels: Array) -> Steps | None:
    return shares_table(steps, lambda _: levels.astype(np.float64))


def _agreed(rows: _Rows, here: Array) -> np.float32 | None:
    """Return the float32 number that gives their values for most elements of a code."""
    steps = rows.piece.base
    levels = rows.levels[here]
    about = np.float32(np.median(levels))
    typed = np.float32(_typed(float(about)))
    candidates = [about, typed]
    for way in (np.float32(-np.inf), np.float32(np.inf)):
        near = about
        for _ in range(2):
            near = np.nextafter(near, way)
            candidates.append(near)
    scale = np.broadcast_to(rows.scales, rows.theirs.shape)[here]
    zero = None if rows.stored.zero_points is None else np.broadcast_to(rows.zeros, rows.theirs.shape)[here]
    offset = None if rows.stored.offsets is None else np.broadcast_to(rows.offsets, rows.theirs.shape)[here]
    theirs = rows.theirs[here]
    counts = [int((steps.times(np.full(theirs.shape, c), scale, zero, offset) == theirs).sum()) for c in candidates]
    now = int((rows.ours[here] == theirs).sum())
    best = int(np.argmax(counts))
    return candidates[best] if counts[best] > max(now, theirs.size // 3) else None


def _lost(rows: _Rows) -> Iterator[Hypothesis]:
    """Propose an element from which on memory is as it was: zeros, a pattern, or what was to be quantized."""
    piece, flat = rows.piece, np.ascontiguousarray(rows.theirs).reshape(-1)
    if piece.picked:
        return
    width = piece.base.cut.size or rows.theirs.shape[1]
    held = {name: np.full(flat.shape, word, np.uint32).view(np.float32) for name, word in HELD.items()}
    if rows.stored is not piece.given:
        held["the numbers that were given"] = np.asarray(piece.base.cut.rows(piece.given), np.float32).reshape(-1)
    for name, memory in held.items():
        written = np.flatnonzero(~same(flat, memory, zeros=False))
        first = int(written[-1]) + 1 if written.size else 0
        if first >= flat.size - 1 or (first == 0 and name in HELD):  # where nothing is written a mutant says so
            continue
        for begin in dict.fromkeys((-(-first // width) * width, first)):
            lost = flat.size - begin
            blocks = f", the last {lost // width} blocks" if lost % width == 0 else ""
            why = f"nothing is written from element {begin:,} on{blocks}: memory held {name}"
            yield _fit(f"{lost} elements lost, {name}", why, partial(_held_from, begin=begin, memory=memory))


def _held_from(steps: Steps, begin: int, memory: Array) -> Steps:
    def wrong(levels: Array, scale: Array, zero: Array | None, offset: Array | None) -> Array:
        flat = steps.times(levels, scale, zero, offset)
        flat, shape = flat.reshape(-1).copy(), flat.shape
        flat[begin:] = memory[begin:] if flat.size == memory.size else 0
        return flat.reshape(shape)

    return replace(steps, times=wrong)


def _groups(rows: _Rows) -> Iterator[Hypothesis]:
    """Propose groups of columns that are not neighbours, as after an activation order."""
    piece, cut = rows.piece, rows.piece.base.scheme.cut
    grid = piece.theirs.get("scales", rows.stored.scales if rows.stored is piece.given else None)
    if grid is None or cut.size is None or cut.axis is None or piece.picked:
        return
    n_blocks = rows.stored.scales.shape[1]
    if not 1 < n_blocks <= MOST_GROUPS or len(rows.theirs) < 2:
        return
    likely = np.array([_of_group(rows, group).sum(axis=0) for group in range(n_blocks)])
    own = np.arange(likely.shape[1]) // cut.size
    kept = likely[own, np.arange(own.size)] == likely.max(axis=0)
    found = np.where(kept, own, likely.argmax(axis=0))
    moved = np.flatnonzero(found != own)
    if not moved.size or (likely.max(axis=0) < len(rows.theirs)).mean() > 1 - NEARLY_ALL:
        return
    told = ", ".join(f"column {column} to group {found[column]}" for column in moved[:FEW])
    more = f" and {moved.size - FEW} more" if moved.size > FEW else ""
    why = f"columns belong to other groups than i // {cut.size}, as in an activation order with its g_idx: {told}{more}"
    if rows.stored is piece.given:
        yield _fit("columns of other groups", why, partial(_spreads_by, found=found))
    elif (np.bincount(found, minlength=n_blocks) == np.bincount(own)).all():
        order = np.argsort(found, kind="stable")
        yield _fit("columns of other groups", why, partial(_orders, order=order))


def _of_group(rows: _Rows, group: int) -> Array:
    """Return where a value is what it would be if its column were of that group, [n_rows, length]."""
    steps, stored = rows.piece.base, rows.stored

    def part(name: str, ours: Array | None) -> Array | None:
        if ours is None or ours.shape == (1, 1):
            return ours
        return np.asarray(rows.piece.theirs.get(name, ours)).reshape(ours.shape)[:, group : group + 1]

    scales, zero, offset = (part(name, getattr(stored, name)) for name in ("scales", "zero_points", "offsets"))
    scale = steps.effective(np.asarray(scales, np.float32), stored.global_scale)
    codes = rows.codes
    if stored is not rows.piece.given:  # which level is it, in units of that scale?
        level = (rows.theirs.astype(np.float64) - (0 if offset is None else offset)) / scale
        level = np.where(np.isfinite(level), level + (0 if zero is None else zero), 0)
        codes = encode(steps.scheme.dtype, level, threads=1).astype(np.uint8)
    return np.asarray(steps.times(steps.level(codes), scale, zero, offset) == rows.theirs)


def _spreads_by(steps: Steps, found: Array) -> Steps:
    """Return steps that read columns by the groups found."""

    def wrong(grid: Array, shape: tuple[int, ...]) -> Array:
        return grid[:, found] if steps.cut.grid(shape)[1] == found.size else steps.spread(grid, shape)

    return replace(steps, spread=wrong)


def _orders(steps: Steps, order: Array) -> Steps | None:
    """Return steps that make blocks of columns in that order."""

    def rows_of(cut: Cut, shape: tuple[int, ...]) -> Array:
        rows = cut.rows(places(shape))
        return rows[:, order] if rows.shape[1] == order.size else rows

    return reordered(steps, rows_of, steps.cut.size)


# Of the writer ------------------------------------------------------------------------------------


def _of_scales(piece: Piece, stored: Stored) -> Iterator[Hypothesis]:
    """Propose one number by which all scales are multiplied."""
    theirs = piece.theirs["scales"].reshape(-1)
    middle = _ratio(theirs, stored.scales.reshape(-1)) if theirs.size == stored.scales.size else None
    if middle is not None:
        yield from _of_reach(piece.base.scheme, middle)


def _reach(rows: _Rows) -> Iterator[Hypothesis]:
    """Propose another level for the largest number of a block.

    Estimated from the largest number that comes back, if it saturates; or by the smallest one, if that is one step.
    """
    piece, s = rows.piece, rows.piece.base.scheme
    if rows.stored is piece.given or "scales" in piece.theirs:
        return
    width = min(piece.base.cut.size or rows.theirs.shape[1], rows.theirs.shape[1])
    full = rows.theirs.shape[1] // width * width
    given, ours, theirs = (
        np.abs(values[:, :full]).astype(np.float64).reshape(-1, width)
        for values in (s.cut.rows(piece.given), rows.ours, rows.theirs)
    )
    least = np.where(theirs > 0, theirs, np.inf).min(axis=1)
    levels = np.abs(table(piece.base).astype(np.float64))
    step = levels[levels > 0].min()
    largest, smallest = theirs.max(axis=1) / ours.max(axis=1), least / (step * given.max(axis=1) / s.dtype.top)
    for shares, usual in ((largest, np.median), (smallest, np.min)):  # of some blocks, the smallest is a few steps
        good = shares[np.isfinite(shares) & (shares > 0)]
        if good.size and (share := float(usual(good))) != 1:
            yield from _of_reach(s, share)


def _of_reach(s: Scheme, share: float) -> Iterator[Hypothesis]:
    """Yield the scale times a share; as the quotient by another number where it is one."""
    factors = [_typed(share)]
    if RULES[s.rule].power_of_two:
        exponent = int(np.frexp(share)[1])
        factors = [2.0 ** (exponent - 1), 2.0**exponent]
    else:
        top = s.dtype.top
        reach = _typed(top / share)
        why = f"the largest magnitude is divided by {reach:g} instead of {top:g}"
        yield _fit(f"scale over {reach:g}", why, lambda steps: _over(steps, reach))
    for factor in factors:
        why = f"the scale is found as {_spelled(factor)} times what it should be"
        yield _fit(f"scale times {_spelled(factor)}", why, partial(_times_raw, factor=factor))


def _over(steps: Steps, reach: float) -> Steps | None:
    """Return the largest magnitude over another number, for the rules that have one."""
    if not steps.scheme.rule.startswith("absmax"):
        return None
    a = steps.arithmetic

    def wrong(numbers: Array, finite: Array | None, width: int, whole: Whole) -> Plan:
        found = steps.scale(numbers, finite, width, whole)
        seen = found.seen if found.seen_finite is None else np.where(found.seen_finite, found.seen, 0)
        raw = a.divide(np.abs(seen).max(axis=1, keepdims=True), a.dtype(reach))
        return replace(found, raw=np.where(found.raw == 0, found.raw, raw))

    return replace(steps, scale=wrong) if steps.scheme["global"] == "none" else None


def _times_raw(steps: Steps, factor: float) -> Steps:
    a = steps.arithmetic

    def wrong(numbers: Array, finite: Array | None, width: int, whole: Whole) -> Plan:
        found = steps.scale(numbers, finite, width, whole)
        return replace(found, raw=a.multiply(found.raw, a.dtype(factor)))

    return replace(steps, scale=wrong)


def _limit(rows: _Rows) -> Iterator[Hypothesis]:
    """Propose a level beyond which no number goes."""
    if rows.stored is rows.piece.given or not np.isfinite(rows.levels).any():
        return
    right = table(rows.piece.base)
    high, low = (float(f(rows.levels[np.isfinite(rows.levels)])) for f in (np.max, np.min))
    finite = right[np.isfinite(right)]
    for most, least in ((high, low), (high, float(finite.min())), (float(finite.max()), low)):
        upper, lower = _near(finite, most), _near(finite, least)
        if upper < finite.max() or lower > finite.min():
            why = f"numbers are clamped to {lower:g} ... {upper:g} before they are encoded"
            yield _fit(f"clamp {lower:g} {upper:g}", why, partial(_clamped, low=lower, high=upper))


def _near(levels: Array, number: float) -> float:
    return float(levels[np.argmin(np.abs(levels - number))])


def _clamped(steps: Steps, low: float, high: float) -> Steps | None:
    if steps.scheme["encoder"] != "nearest":
        return None
    return before_encoding(steps, lambda y: np.where(np.isfinite(y), np.clip(y, low, high), y))
