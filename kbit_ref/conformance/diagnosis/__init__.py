"""`diagnose`: name the bug of an implementation from what it produced.

Reading order: `evidence` (what is known), `hypotheses` and `fits` (what might be wrong), `search` (which of
them, or which two, give their answers), `settle` (an input that tells two apart), `result` (how it is told).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kbit_ref.conformance.diagnosis.evidence import Evidence, evidence
from kbit_ref.conformance.diagnosis.result import Diagnosis, Member, Unexplained, member, sentence
from kbit_ref.conformance.diagnosis.search import Found, first_unexplained, search
from kbit_ref.conformance.diagnosis.settle import Settling, settle
from kbit_ref.engine.codec import encode
from kbit_ref.errors import KbitError
from kbit_ref.explanation import explain
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.scheme import scheme as scheme_of

__all__ = ["Diagnosis", "Member", "Settling", "Unexplained", "diagnose"]

MEMBERS = 6  # of a class that a separating input is looked for


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
    e = evidence(s, theirs, x, given)
    found = search(e)
    verdict = _verdict(e, found)
    complete = verdict in ("agrees", "zeros", "choice", "mistake")
    first = None if complete else _first(e, found)
    accounts = found.accounts if complete else found.accounts[:1]
    score = accounts[0].score if accounts else found.score
    return Diagnosis(
        scheme=str(s),
        verdict=verdict,
        sentence=sentence(e, found, verdict, first),
        members=tuple(member(account, e) for account in accounts),
        explained=score.alike,
        as_it_is=found.score.alike,
        total=e.size,
        first=first,
        settle=settle(e, accounts[0], accounts[1:MEMBERS]) if complete and len(accounts) > 1 else None,
        tried=found.tried,
    )


def _verdict(e: Evidence, found: Found) -> str:
    """In a word; a choice and a profile are no mistakes of who quantizes, but they are of who reads given bytes."""
    best = found.accounts[0] if found.accounts else None
    if found.score.exact == e.size:
        return "agrees"
    if found.score.alike == e.size:
        return "zeros"
    if best is None:
        return "unexplained"
    if best.score.alike < e.size:
        return "partly"
    return "choice" if e.x is not None and any(account.other for account in found.accounts) else "mistake"


def _first(e: Evidence, found: Found) -> Unexplained | None:
    """The first answer that the best account does not give, taken apart."""
    made = found.made if not found.accounts else e.made_by(found.accounts[0].steps, keep=False)
    where = first_unexplained(e, made)
    if where is None:
        return None
    part, index = where
    theirs = e.theirs[part][index]
    ours = float(made[part].reshape(e.theirs[part].shape)[index]) if part in made else None
    at = _element(e, part, index)
    explanation = None
    if e.x is not None and at is not None:
        try:
            explanation = explain(e.x, at, e.scheme)
        except (KbitError, AssertionError):
            explanation = None
    level = None
    if part == "values" and at is not None:
        level = _level(e, at, float(theirs))
    return Unexplained(part, index, ours, float(theirs), level, explanation)


def _element(e: Evidence, part: str, index: tuple[int, ...]) -> tuple[int, ...] | None:
    """The element of the array that an answer is about: of a byte its first code, of a scale its first element."""
    shape = e.theirs["values"].shape if e.x is None else e.x.shape
    if part in ("values", "codes"):
        return index
    n_rows, length = e.scheme.cut.grid(shape)
    if part == "packed":
        form = e.scheme.layout
        group, byte = divmod(index[0], form.bytes)
        elements = [place[0] for place in form.places[8 * byte : 8 * byte + 8] if place is not None]
        position = group * form.elements + min(elements, default=0)
        if position >= n_rows * length:
            return None
        return e.scheme.cut.place(shape, *divmod(position, length))
    if part == "global_scale":
        return None
    row, block = index
    return e.scheme.cut.place(shape, row, block * (e.scheme.cut.size or length))


def _level(e: Evidence, at: tuple[int, ...], theirs: float) -> tuple[float, int | None] | None:
    """What their value is in units of the scale, and the code of it."""
    stored = e.stored if e.runner is None else e.runner.write(e.steps).stored
    if stored is None or stored.offsets is not None or stored.zero_points is not None:
        return None
    shape = stored.shape
    spread = e.steps.spread(e.steps.effective(stored.scales, stored.global_scale), shape)
    scale = float(e.scheme.cut.join(spread, shape)[at])
    if scale == 0 or not np.isfinite(theirs) or e.scheme["scaleas"] == "divisor":
        return None
    level = theirs / scale
    code: int | None = int(encode(e.scheme.dtype, np.array([level]), threads=1)[0])
    exact = np.float32(np.float32(e.scheme.dtype.levels[code]) * np.float32(scale)) == np.float32(theirs)
    return level, code if exact else None


