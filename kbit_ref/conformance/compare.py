"""Their parts against ours: which values differ, and the blocks that they lie in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.definition import Stored, block_index, repacked
from kbit_ref.conformance.inputs.of_schemes import Case
from kbit_ref.conformance.reading import Refused, Theirs, spelled
from kbit_ref.tensors.packing import Layout, layout, layouts, unpack
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Compared", "Record", "agree", "compare", "likely_layout", "records"]

Array = NDArray[Any]
PER_BLOCK = ("scales", "offsets", "zero_points")


@dataclass
class Compared:
    """One array: both answers, and where they differ.

    Parameters
    ----------
    index
        [*shape]: the block of each element.
    wrong
        For each part that was judged, what differs: [n_blocks] for numbers of a block, [*shape]
        for codes and decoded numbers, [n_bytes] for packed.
    tried
        For each part, how many values were compared.
    spelled
        [*shape]: what their codes and scales stand for by our definition.
    """

    case: Case
    ours: Stored
    theirs: Theirs
    index: NDArray[np.intp]
    wrong: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    spelled: NDArray[np.float64] | None = None

    def wrong_blocks(self) -> NDArray[np.intp]:
        """Return the blocks of which a number or a code differs."""
        bad = np.zeros(self.ours.refused.shape, bool)
        for name in PER_BLOCK:
            if name in self.wrong:
                bad |= self.wrong[name]
        if "codes" in self.wrong:
            bad[self.index[self.wrong["codes"]]] = True
        return np.flatnonzero(bad)


@dataclass
class Record:
    """One block that differs: its numbers as they were handed over, and what they store for it."""

    source: str
    words: Array  # [size]
    codes: NDArray[np.int64]  # [size]
    parts: dict[str, float]
    compared: Compared
    block: int
    short: bool = False


def compare(s: Scheme, case: Case, ours: Stored, theirs: Theirs, given: bool = False) -> Compared:
    """Compare the answers part by part.

    Codes and the numbers of a block are compared with ours, where our scheme has an answer. Bytes
    are compared with the bytes that their own codes make, and decoded numbers with what their own
    codes and scales stand for: so one wrong code is counted once. Decoded numbers that came alone
    are compared with ours.
    """
    shape = case.words.shape
    index = block_index(s, shape)
    answered = ~ours.refused
    judged = answered[index] if index.size else np.zeros(shape, bool)
    found = Compared(case, ours, _relaid(s, ours.codes, judged, theirs), index)
    theirs = found.theirs
    if not given:
        for name in PER_BLOCK:
            if name not in theirs.stored.blocks:
                continue
            if name not in ours.blocks and answered.any():
                raise Refused(f"{name} came back, and {s} stores none")
            if name in ours.blocks:
                found.wrong[name] = answered & ~same(ours.blocks[name], theirs.stored.blocks[name])
                found.tried[name] = int(answered.sum())
        if theirs.stored.global_scale is not None and ours.global_scale is not None:
            found.wrong["global_scale"] = ~same([ours.global_scale], [theirs.stored.global_scale])
            found.tried["global_scale"] = 1
        _double(found)
    if theirs.has_codes:
        found.wrong["codes"] = judged & (ours.codes != theirs.stored.codes)
        found.tried["codes"] = int(judged.sum())
    if theirs.packed is not None and theirs.repacked is not None:
        found.wrong["packed"] = theirs.packed != theirs.repacked
        found.tried["packed"] = theirs.packed.size
    if theirs.decoded is not None:
        found.spelled = spelled(s, shape, theirs)
        if found.spelled is None and ours.decoded is not None:
            found.spelled, known = ours.decoded.astype(np.float64), judged
        elif found.spelled is not None:
            known = (theirs.stored.codes >= 0) & _decodable(answered, theirs)[found.index]
        if found.spelled is not None:
            found.wrong["decoded"] = known & ~same(found.spelled, theirs.decoded)
            found.tried["decoded"] = int(known.sum())
    return found


def _relaid(s: Scheme, ours: NDArray[np.int64], judged: NDArray[np.bool_], theirs: Theirs) -> Theirs:
    """Return their codes, if they gave bytes alone, by the layout that these bytes are likely to have."""
    packed, codes = theirs.packed, theirs.stored.codes
    if packed is None or "codes" in theirs.given or theirs.ordered or not (judged & (codes != ours)).any():
        return theirs
    rows = s.cut.rows(ours)
    flat, known = rows.reshape(-1), s.cut.rows(judged).reshape(-1)

    def by(form: Layout) -> NDArray[np.uint8]:
        return unpack(packed, form, flat.size)

    form = likely_layout(s, flat.size, packed.size, lambda form: int((known & (by(form) != flat)).sum()))
    if form is s.layout:
        return theirs
    in_order = by(form)
    codes = np.ascontiguousarray(s.cut.join(in_order.astype(np.int64).reshape(rows.shape), ours.shape))
    given = ("codes", *theirs.given)
    return replace(
        theirs,
        stored=replace(theirs.stored, codes=codes),
        repacked=repacked(s, in_order),
        in_order=in_order,
        given=given,
    )


def likely_layout(
    s: Scheme, n: int, n_bytes: int, wrong: Callable[[Layout], int], before: Layout | None = None
) -> Layout:
    """Return the layout of bytes: the scheme's, or another one by which fewer than half as many codes differ.

    Codes in their right order at the wrong places of the bytes are one mistake, not 15 in 16 codes.

    Parameters
    ----------
    n, n_bytes
        Codes, and bytes of them.
    wrong
        How many codes differ by a layout.
    before
        What it was for other arrays; it stays unless the scheme's own does better.
    """
    own = wrong(s.layout)
    if before is not None and before is not s.layout and wrong(before) <= own:
        return before
    best, least = s.layout, own / 2
    for name in layouts() if own else ():
        other = layout(name)
        fits = other.bits == s.dtype.bits and not other.digits and other.size(n) == n_bytes
        if fits and (count := wrong(other)) < least:
            best, least = other, count
    return best


def _double(found: Compared) -> None:
    """Compare the scales that are quantized again: their codes, scales and offset, where ours is not refused."""
    ours, theirs = found.ours.double, found.theirs.stored.double
    for name, values in theirs.items():
        if name in ours:
            if values.shape != ours[name].shape:
                raise Refused(f"{values.size} {name} came back, there are {ours[name].size}")
            found.wrong[name] = ~same(ours[name], values)
            found.tried[name] = values.size


def _decodable(answered: NDArray[np.bool_], theirs: Theirs) -> NDArray[np.bool_]:
    """Return blocks that the scheme has an answer for, or whose numbers are finite all the same, [n_blocks]."""
    finite = np.ones(answered.shape, bool)
    for values in theirs.stored.blocks.values():
        finite &= np.isfinite(values)
    return answered | finite


def records(s: Scheme, compared: Compared, blocks: NDArray[np.intp] | None = None) -> list[Record]:
    """Return the blocks of an array that differ, or those of the given numbers, one by one."""
    rows = s.cut.rows(compared.case.words)
    width = s.cut.size or max(rows.shape[1], 1)
    per_row = s.cut.per_row(rows.shape[1])
    codes = s.cut.rows(compared.theirs.stored.codes)
    found = []
    for block in compared.wrong_blocks() if blocks is None else blocks:
        row, column = divmod(int(block), per_row)
        part = slice(column * width, (column + 1) * width)
        numbers = {name: float(values[block]) for name, values in compared.theirs.stored.blocks.items()}
        words = rows[row, part].copy()
        found.append(
            Record(
                compared.case.source,
                words,
                codes[row, part].copy(),
                {name: numbers[name] for name in numbers if name in compared.wrong},
                compared,
                int(block),
                words.size < width,
            )
        )
    return found


def agree(s: Scheme, ours: Stored, index: NDArray[np.intp], codes: NDArray[np.int64], parts: dict[str, Array]) -> Array:
    """Return the blocks of which every code and every number is ours, [n_blocks]."""
    good = ~ours.refused
    for name, values in parts.items():
        if name not in ours.blocks:
            return np.zeros_like(good)
        good = good & same(ours.blocks[name], values)
    bad = index[ours.codes != codes]
    good[bad] = False
    return good
