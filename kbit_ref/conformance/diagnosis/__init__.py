"""`diagnose`: name the bug of an implementation from what it produced; the judge does it for all that it compares.

Reading order: `evidence`, `of_arrays` and `of_types` (what is known), `hypotheses` and `fits` (what might be wrong),
`search` (which of them, alone or two at once, explain the answers), `settle` (an input that tells two apart),
`result` (how it is spelled), `groups` and `differences` (every answer with its reason), `counterexample`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kbit_ref.conformance.compare import Compared
from kbit_ref.conformance.diagnosis.evidence import Evidence, Piece
from kbit_ref.conformance.diagnosis.groups import groups_of, groups_of_type
from kbit_ref.conformance.diagnosis.of_arrays import evidence, of_answers
from kbit_ref.conformance.diagnosis.of_types import Encodes, of_type, steps_of_type
from kbit_ref.conformance.diagnosis.result import (
    Diagnosis,
    Finding,
    Group,
    Member,
    Unexplained,
    finding,
    sentence,
    verdict_of,
)
from kbit_ref.conformance.diagnosis.search import Found, search
from kbit_ref.conformance.diagnosis.settle import Settling, settle
from kbit_ref.conformance.variants.of_types import NanCodes, with_nan
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode
from kbit_ref.errors import KbitError
from kbit_ref.explanation import explain
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.scheme import scheme as scheme_of
from kbit_ref.tensors.steps import Runner, Stored

__all__ = ["Diagnosis", "Finding", "Group", "Member", "Settling", "Unexplained"]
__all__ += ["becomes", "diagnose", "diagnosed", "explain_answers", "explain_type"]

MEMBERS = 6  # of a class that a separating input is looked for


def explain_answers(s: Scheme, compared: Sequence[Compared], prefer: Iterable[str] = ()) -> Diagnosis:
    """Name what is wrong with answers that have been compared: of accounts that give the same, the preferred first."""
    e = of_answers(s, compared)
    diagnosis, found = _searched(e, prefer)
    return replace(diagnosis, groups=tuple(groups_of(s, compared, e, found)))


def explain_type(
    d: DataType,
    kind: str,
    x: Any,
    theirs: Any,
    nan: NanCodes | None = None,
    judged: Any = None,
    random: tuple[Any, int] | None = None,
) -> Diagnosis:
    """Name what is wrong with the answers of a data type.

    Parameters
    ----------
    d, kind
        The type; the format of the numbers, or `codes` if these are codes.
    x, theirs : [n]
        Numbers (float64) and codes, -1 where an answer is no level; or codes and numbers.
    nan
        The codes that the NaNs of both signs must have; None if any will do.
    judged : [n]
        Where an answer is judged.
    random
        For stochastic rounding: the random bits of each number, and how many there are.
    """
    judged = np.ones(len(x), bool) if judged is None else judged.copy()
    another = None
    if kind != "codes":
        is_nan = np.append(np.isnan(d.levels), False)  # -1 is no level
        ours = with_nan(d, Encodes(d, random)(x, x, None), x, nan)
        another = judged & is_nan[theirs] & is_nan[ours] & (ours != theirs)
        judged = judged & ~another
    e = of_type(d, kind, x, theirs, nan, judged, random)
    diagnosis, found = _searched(e)
    return replace(diagnosis, groups=tuple(groups_of_type(d, e, found, another)))


def becomes(d: DataType, finding: Finding, x: Any) -> Any:
    """Return the numbers that a finding encodes instead of x; None if it reads them as they are."""
    base = steps_of_type(d)
    steps = finding.account(base)
    if steps is None or steps.read is base.read:
        return None
    with np.errstate(all="ignore"):
        return steps.read(np.asarray(x, np.float64))


def diagnose(
    theirs: Any = None,
    *,
    scheme: Scheme | str,
    x: Any = None,
    packed: Any = None,
    codes: Any = None,
    scales: Any = None,
    offsets: Any = None,
    zero_points: Any = None,
    global_scale: Any = None,
) -> Diagnosis:
    """Name the mistake that gives their answers.

    With `x`, everything is what they made of it: values, codes, bytes, scales. Without `x`, `packed` (or `codes`),
    `scales` and the like are what their reader was given, and `theirs` is what it read.

    Parameters
    ----------
    theirs : [*shape]
        Their dequantized values; or integers, their codes.
    scheme
        What they should have done: a scheme, its spelling, or the name of a profile.
    x : [*shape]
        What they quantized.
    packed
        Their bytes: uint8, or words of any width.
    scales, offsets, zero_points : one a block
        In the order of the cut; scales of a narrow type as numbers, or as its bytes.
    global_scale
        One number.

    Returns
    -------
    Diagnosis
        `print` it; `verdict`, `sentence`, `members`.

    Raises
    ------
    BadInput
        `diagnose: theirs = None, there is nothing to judge; ...`

    Examples
    --------
    >>> import numpy as np, kbit_ref as kb
    >>> x = np.array([7.0, 2.5, -2.5, 1.0], np.float32)
    >>> print(diagnose([7.0, 2.0, -2.0, 1.0], x=x, scheme="int4-b4-absmax-f32"))
    all 4 values equal the reference
    >>> q = kb.quantize(x, "int4-b4-absmax-f32")
    >>> found = diagnose([2.0, 7.0, 1.0, -2.0], packed=q.packed, scales=q.scales, scheme="int4-b4-absmax-f32")
    >>> found.verdict, found.names[0]
    ('mistake', 'nibbles-swapped')
    """
    s = scheme_of(scheme)
    given = {"packed": packed, "codes": codes, "scales": scales, "offsets": offsets}
    given |= {"zero_points": zero_points, "global_scale": global_scale}
    return diagnosed(evidence(s, theirs, x, given))


def diagnosed(e: Evidence, prefer: Iterable[str] = ()) -> Diagnosis:
    """Search for what explains the answers, and say it."""
    return _searched(e, prefer)[0]


def _searched(e: Evidence, prefer: Iterable[str] = ()) -> tuple[Diagnosis, list[tuple[Finding, Any]]]:
    """Search as `diagnosed` does; return also which answers each finding explains."""
    found = search(e, prefer)
    findings = tuple(finding(chosen) for chosen in found.chosen)
    verdict = verdict_of(e, found, findings, e.reads_only)
    first = _first(e, found) if found.left.any() else None
    members = found.chosen[0].members if found.chosen else ()
    diagnosis = Diagnosis(
        scheme=str(e.subject) if isinstance(e.subject, Scheme) else e.subject.name,
        verdict=verdict,
        sentence=sentence(e, found, findings, verdict, first),
        findings=findings,
        explained=e.size - int(found.left.sum()),
        as_it_is=e.size - int(e.wrong.sum()),
        total=e.size,
        first=first,
        settle=settle(e, members[0], members[1:MEMBERS]) if len(members) > 1 else None,
        tried=found.tried,
    )
    return diagnosis, [(each, chosen.explained) for each, chosen in zip(findings, found.chosen, strict=True)]


def _first(e: Evidence, found: Found) -> Unexplained:
    """Return the first answer that no account explains, step by step."""
    for piece, flags in e.by_piece(found.left):
        for name, left in piece.parts(flags):
            if left.any():
                flat = int(np.flatnonzero(left)[0])
                return _unexplained(e.subject, piece, name, flat)
    raise AssertionError("nothing is left")


def _unexplained(subject: Any, piece: Piece, name: str, flat: int) -> Unexplained:
    part = piece.theirs[name]
    index = tuple(int(i) for i in np.unravel_index(flat, part.shape))
    theirs, mine = float(part.reshape(-1)[flat]), piece.ours.get(name)
    ours = None if mine is None or mine.size != part.size else float(mine.reshape(-1)[flat])
    if not isinstance(subject, Scheme):
        return Unexplained(name, index, ours, theirs)
    at = _element(subject, piece, name, index)
    explanation = None
    if at is not None and not isinstance(piece.given, Stored):
        try:
            explanation = explain(piece.given, at, subject)
        except (KbitError, AssertionError):
            explanation = None
    level = _level(subject, piece, at, theirs) if name == "values" and at is not None else None
    return Unexplained(name, index, ours, theirs, level, explanation)


def _element(s: Scheme, piece: Piece, part: str, index: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the element that an answer is about: of a byte that of its first code, of a scale its first one."""
    if part in ("values", "codes"):
        return index
    shape = piece.given.shape
    n_rows, length = s.cut.grid(shape)
    if part == "packed":
        form = s.layout
        group, byte = divmod(index[0], form.bytes)
        elements = [place[0] for place in form.places[8 * byte : 8 * byte + 8] if place is not None]
        position = group * form.elements + min(elements, default=0)
        return None if position >= n_rows * length else s.cut.place(shape, *divmod(position, length))
    if part == "global_scale" or piece.theirs[part].size != n_rows * s.cut.per_row(length):
        return None
    row, block = index if len(index) == 2 else divmod(index[0], s.cut.per_row(length))
    return s.cut.place(shape, row, block * (s.cut.size or length))


def _level(s: Scheme, piece: Piece, at: tuple[int, ...], theirs: float) -> tuple[float, int | None] | None:
    """Return what their value is in units of the scale, and the code of it."""
    steps = piece.base
    stored = piece.given if isinstance(piece.given, Stored) else Runner(piece.given).write(steps).stored
    if stored.offsets is not None or stored.zero_points is not None:
        return None
    spread = steps.spread(steps.effective(stored.scales, stored.global_scale), stored.shape)
    scale = float(s.cut.join(spread, stored.shape)[at])
    if scale == 0 or not np.isfinite(theirs) or s["scaleas"] == "divisor":
        return None
    level = theirs / scale
    code: int | None = int(encode(s.dtype, np.array([level]), threads=1)[0])
    exact = np.float32(np.float32(s.dtype.levels[code]) * np.float32(scale)) == np.float32(theirs)
    return level, code if exact else None
