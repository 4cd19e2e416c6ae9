"""All answers that differ, in groups of one reason each: what the search found, and a few words for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.compare import PER_BLOCK, Compared
from kbit_ref.conformance.diagnosis.evidence import EXACT, WRONG, Evidence
from kbit_ref.conformance.diagnosis.of_arrays import of_answers
from kbit_ref.conformance.diagnosis.result import Finding, Group
from kbit_ref.conformance.diagnosis.search import gained
from kbit_ref.conformance.inputs.of_schemes import narrowed
from kbit_ref.conformance.inputs.of_types import to_float64
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.tensors.scheme import Scheme

__all__ = ["FOLLOWS", "LAST_BITS", "UNEXPLAINED", "ZERO", "explained_by", "groups_of", "groups_of_type", "rest"]

Flags = NDArray[np.bool_]
Where = dict[str, Flags]  # by part, in the shapes of what was compared

UNEXPLAINED, ZERO, LAST_BITS = "unexplained", "sign of zero", "last bits"
FOLLOWS, AFTER_OFFSET = "follows from the scale", "follows from the offset of the scales"
CLOSE = 2.0**-18  # of a number
WHY = {
    UNEXPLAINED: "no explanation that is known gives theirs",
    ZERO: "a zero with the other sign",
    LAST_BITS: "theirs is a neighbour of ours, and every code is ours: another order of operations",
    FOLLOWS: "the scale of the block is another one, for no reason that is known",
    AFTER_OFFSET: "the mean of the scales is another one",
    "arithmetic in bfloat16": "theirs is a bfloat16 beside ours",
    "arithmetic in float16": "theirs is a float16 beside ours",
    "the scale of another block": "theirs is the level times the scale of another block of the array",
    "another NaN": "both are NaN, by codes that differ in sign or payload",
    "no level": "their answer is no level of the type",
    "flushed to zero": "their value is zero, the level is not",
    "another level": "their value for the code is not its level",
}


def groups_of(
    s: Scheme, compared: Sequence[Compared], e: Evidence, found: Sequence[tuple[Finding, Flags]]
) -> list[Group]:
    """Return the groups of arrays: each finding with the answers that it explains, then the rest."""
    groups: dict[tuple[str, str], Group] = {}

    def add(part: str, cause: str, i: int, flags: Flags, finding: Finding | None = None) -> None:
        if flags.any():
            why = WHY[cause] if finding is None else finding.why
            groups.setdefault((part, cause), Group(part, cause, why, finding)).where[i] = flags

    left = [{part: flags.copy() for part, flags in one.wrong.items()} for one in compared]
    for finding, flags in found:
        for i, where in enumerate(_where(e, flags, compared)):
            for part, some in where.items():
                add(part, finding.name, i, some & left[i][part], finding)
                left[i][part] &= ~some
    for i, one in enumerate(compared):
        for part, cause, flags in rest(s, one, left[i]):
            add(part, cause, i, flags)
    return list(groups.values())


def _where(e: Evidence, flags: Flags, compared: Sequence[Compared]) -> list[Where]:
    """Return what is flat, one an answer of the evidence, in the shapes of what was compared."""
    found = [{part: np.zeros(wrong.shape, bool) for part, wrong in one.wrong.items()} for one in compared]
    for piece, some in e.by_piece(flags):
        for name, each in piece.parts(some) if some.any() else ():
            part = "decoded" if name == "values" else name
            if part in found[piece.of] and each.size == found[piece.of][part].size:
                found[piece.of][part].reshape(-1)[:] |= each
    return found


def explained_by(s: Scheme, finding: Finding, one: Compared) -> Where:
    """Return which answers for another array that differ a finding gives."""
    e = of_answers(s, [one])
    (where,) = _where(e, gained(e.ours, e.grades(finding.account)), [one])
    return {part: flags & one.wrong[part] for part, flags in where.items()}


# What can be said without an explanation --------------------------------------------------------------


def rest(s: Scheme, one: Compared, left: Where) -> Iterator[tuple[str, str, Flags]]:
    """Yield the answers for one array that nothing explains, by part and a few words."""
    if not any(flags.any() for flags in left.values()):
        return
    yield from _of_blocks(one, left)
    for part in left:
        if part in ("global_scale", *one.ours.double) and left[part].any():
            yield part, _of_array(one, part, left[part]), left[part]
    if "packed" in left:
        yield "packed", UNEXPLAINED, left["packed"]
    if "decoded" in left and left["decoded"].any():
        yield from (("decoded", cause, flags) for cause, flags in _of_decoded(s, one, left["decoded"]))


def _of_blocks(one: Compared, left: Where) -> Iterator[tuple[str, str, Flags]]:
    """Yield numbers of blocks, and codes."""
    numbers = [part for part in PER_BLOCK if part in left]
    n_blocks = one.ours.refused.size
    other, zeros, close = np.zeros(n_blocks, bool), np.ones(n_blocks, bool), np.ones(n_blocks, bool)
    for part in numbers:
        ours, theirs = one.ours.blocks[part], one.theirs.stored.blocks[part]
        other |= left[part]
        zeros &= same(ours, theirs, zeros=False)
        with np.errstate(invalid="ignore", over="ignore"):
            close &= np.abs(ours - theirs) <= CLOSE * np.abs(theirs)
    coded = np.zeros(n_blocks, bool)
    if "codes" in left:
        coded[one.index[one.wrong["codes"]]] = True
        follows = other[one.index]
        yield "codes", FOLLOWS, left["codes"] & follows
        yield "codes", UNEXPLAINED, left["codes"] & ~follows
    for part in numbers:
        yield part, ZERO, left[part] & zeros & ~coded
        yield part, LAST_BITS, left[part] & close & ~zeros & ~coded
        yield part, UNEXPLAINED, left[part] & ~((close | zeros) & ~coded)


def _of_array(one: Compared, part: str, left: Flags) -> str:
    """Return numbers of the whole array, and scales that are quantized again."""
    offset = one.wrong.get("scale_offset")
    if part != "scale_offset" and offset is not None and offset.any():
        return AFTER_OFFSET
    ours, theirs = (
        (one.ours.double[part], one.theirs.stored.double[part])
        if part in one.ours.double
        else (
            np.array([one.ours.global_scale], np.float64),
            np.array([one.theirs.stored.global_scale], np.float64),
        )
    )
    close = np.abs(ours - theirs)[left] <= CLOSE * np.abs(ours[left])
    return LAST_BITS if close.all() and part != "scale_codes" else UNEXPLAINED


def _of_decoded(s: Scheme, one: Compared, left: Flags) -> Iterator[tuple[str, Flags]]:
    """Yield real numbers."""
    ours, theirs = one.spelled, one.theirs.decoded
    assert ours is not None
    assert theirs is not None
    with np.errstate(all="ignore"):
        small = theirs.astype(np.float32)
        tests = [(ZERO, (ours == 0) & (theirs == 0))]
        for form, share in (("bfloat16", 2.0**-6), ("float16", 2.0**-9)):
            near, own = (_rounded(each, form) for each in (ours, small))
            beside = np.abs(near - theirs) <= np.abs(ours) * share
            tests.append((f"arithmetic in {form}", same(own, theirs) & beside))
        tests.append(("the scale of another block", _of_another_block(s, one, left)))
        tests.append((LAST_BITS, np.abs(small - ours.astype(np.float32)) <= np.abs(np.spacing(small))))
    for cause, test in [*tests, (UNEXPLAINED, np.ones(left.shape, bool))]:
        yield cause, left & test
        left = left & ~test


def _rounded(numbers: NDArray[Any], form: str) -> NDArray[np.float64]:
    words = narrowed(np.asarray(numbers, np.float32), form)
    return to_float64(words.view(np.uint16), form)


def _of_another_block(s: Scheme, one: Compared, left: Flags) -> Flags:
    """Return where elements are their level times the scale of some block."""
    assert one.theirs.decoded is not None
    result = np.zeros(one.index.shape, bool)
    blocks = one.theirs.stored.blocks
    if not one.theirs.says_numbers or blocks["scales"].size < 2 or len(blocks) > 1:
        return result
    at = np.flatnonzero(left.reshape(-1))[:4096]
    levels = s.dtype.levels[one.theirs.stored.codes.reshape(-1)[at]].astype(np.float32)
    products = levels[:, None] * blocks["scales"].astype(np.float32)[:4096]
    theirs = one.theirs.decoded.reshape(-1)[at].astype(np.float32)
    result.reshape(-1)[at] = (products == theirs[:, None]).any(1) & (levels != 0)
    return result


# Data types ------------------------------------------------------------------------------------------


def groups_of_type(
    d: DataType, e: Evidence, found: Sequence[tuple[Finding, Flags]], another_nan: Flags | None = None
) -> list[Group]:
    """Return the groups of the answers of a type: numbers to codes, or codes to numbers."""
    left = (e.ours >= WRONG) & (e.ours < EXACT)
    part = "decoded" if e.kind == "codes" else "codes"
    theirs = next(iter(e.pieces[0].theirs.values()))
    groups = [Group(part, each.name, each.why, each, {0: flags & left}) for each, flags in found]
    for _, flags in found:
        left = left & ~flags
    if e.kind == "codes":
        levels = d.levels[e.pieces[0].given]
        tests = {ZERO: (levels == 0) & (theirs == 0), "flushed to zero": theirs == 0, "another level": left}
    else:
        tests = {"no level": theirs < 0, UNEXPLAINED: left}
    if another_nan is not None:
        groups.append(Group(part, "another NaN", WHY["another NaN"], None, {0: another_nan}))
    for cause, test in tests.items():
        groups.append(Group(part, cause, WHY[cause], None, {0: left & test}))
        left = left & ~test
    return [group for group in groups if group.count]
