"""Answers against the definition: one verdict for one type, direction and source format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import median_error, same
from kbit_ref.conformance.diagnosis.counterexample import counterexample, simplest, spell_code
from kbit_ref.conformance.diagnosis.differing import Kind, kinds_of_difference
from kbit_ref.conformance.implementations.ask import FLAT, Answer
from kbit_ref.conformance.implementations.claims import Known
from kbit_ref.conformance.inputs.of_types import arrangements
from kbit_ref.conformance.reading import Refused, Theirs, read_type
from kbit_ref.conformance.subject import Question
from kbit_ref.conformance.verdict import Counterexample, Difference, Row

__all__ = ["Known", "judge"]


def judge(asked: Question, answers: Sequence[Answer], form: str | None = None, known: Sequence[Known] = ()) -> Row:
    """The verdict on all answers to a question.

    Parameters
    ----------
    asked, answers
        The question; one answer for each arrangement, the flat one first.
    form
        What the answers of an encoder are: `codes`, `values`, or None to see it from their dtype.
    known
        Differences on record that concern this question.
    """
    errors = [answer.error for answer in answers if answer.error]
    differences: tuple[Difference, ...] = ()
    notes: list[str] = []
    compared = 0
    flat = next((a for a in answers if a.arrangement == FLAT and a.array is not None), None)
    if flat is None:
        errors = errors[:1] or ["no answer at all"]
    if flat is not None:
        try:
            got = read_type(asked, flat, asked.ours.shape, form)
            differences, more = _compare(asked, got, known)
            compared = int(asked.ours.size)
            errors += more
            if differences and form is None:
                notes += _read_as_values(flat, got)
            if asked.what == "encode" and asked.nan == "any":
                notes += _other_nan(asked, got.stored.codes)
            errors += _arrangements(asked, got, answers, form)
        except Refused as refused:
            errors.append(str(refused))
    return Row(
        "codes" if asked.what == "encode" else "decoded",
        what=asked.what,
        source=asked.inputs.kind,
        tried=compared,
        differences=differences,
        errors=tuple(errors),
        nan_left_out=asked.inputs.nan_left_out,
        notes=tuple(notes),
    )


def _read_as_values(flat: Answer, got: Theirs) -> list[str]:
    """What was made of signed integers, which may be meant as codes."""
    if got.decoded is None or flat.array is None or flat.array.dtype.kind != "i":
        return []
    return [f"integers of dtype {flat.array.dtype} are read as values; if they are codes, give uint8 or uint16"]


def _same_nan(asked: Question, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where both are NaN, by different codes."""
    is_nan = np.append(np.isnan(asked.dtype.levels), False)  # -1 is no level
    return np.asarray(is_nan[asked.ours] & is_nan[codes] & (codes != asked.ours))


def _other_nan(asked: Question, codes: NDArray[np.int64]) -> list[str]:
    other = _same_nan(asked, codes)
    if not other.any():
        return []
    spelled = ", ".join(f"0x{code:02x}" for code in np.unique(codes[other]))
    return [f"NaN is given as {spelled} too; the canonical code is 0x{asked.dtype.definition.nan:02x} (nan='any')"]


# Comparing -------------------------------------------------------------------------------------


def _compare(asked: Question, got: Theirs, known: Sequence[Known]) -> tuple[tuple[Difference, ...], list[str]]:
    """The differences by kind, and the known ones that did not occur."""
    if asked.what == "decode":
        return _compare_levels(asked, got), []
    ours, theirs = asked.ours.astype(np.int64), got.stored.codes
    canonical = asked.dtype.definition.nan
    if asked.nan == "any" and canonical is not None:
        is_nan = np.append(np.isnan(asked.dtype.levels), False)  # -1 is no level
        theirs = np.where(is_nan[theirs], canonical, theirs)
    if not known and np.array_equal(ours, theirs):
        return (), []
    recorded, errors = _on_record(asked, ours, theirs, known)
    found = [*((kind, "") for kind in _zero_signs(asked, got, ours, theirs)), *recorded]
    explained = np.zeros(ours.shape, bool)
    for kind, _ in found:
        explained |= kind.where
    others = kinds_of_difference(asked.dtype, asked.inputs.kind, asked.x, ours, theirs, asked.nan_codes, explained)
    found += [(kind, "") for kind in others]
    return tuple(_difference(asked, kind, got, link) for kind, link in found), errors


def _on_record(
    asked: Question, ours: NDArray[np.int64], theirs: NDArray[np.int64], known: Sequence[Known]
) -> tuple[list[tuple[Kind, str]], list[str]]:
    """The values that the known differences explain, alone or two at once."""
    found, errors = [], []
    left = ours != theirs
    for entry in known:
        combined = [entry.cause.then(other.cause) for other in known if other is not entry]
        where = np.zeros(left.shape, bool)
        if entry.undefined is not None:
            where |= left & entry.undefined(asked.dtype, asked.x)
        for cause in () if entry.undefined else (entry.cause, *filter(None, combined)):
            codes = cause.codes(asked.dtype, asked.x, asked.nan_codes)
            if codes is not None:
                where |= left & (codes == theirs)
        if where.any():
            found.append((Kind(entry.cause.name, entry.cause.why, where, entry.cause), entry.link))
            left = left & ~where
        else:
            errors.append(f"no longer differs: {entry.cause.name} ({entry.link})")
    return found, errors


def _zero_signs(asked: Question, got: Theirs, ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> list[Kind]:
    """Values that are zero with the other sign, in a type that cannot say so in a code."""
    if got.decoded is None:
        return []
    where = (theirs == -1) & (got.decoded == 0) & (asked.dtype.levels[ours] == 0)
    return [Kind("sign of zero", "theirs is -0, and the type has only one zero", where)] if where.any() else []


def _difference(asked: Question, kind: Kind, got: Theirs, link: str) -> Difference:
    i = simplest(asked.x, kind.where)
    if got.decoded is not None:
        spelled = repr(float(got.decoded[i]))
    else:
        spelled = spell_code(asked.dtype, int(got.stored.codes[i]), None if got.raw is None else got.raw[i])
    example = counterexample(
        asked.dtype,
        asked.inputs.kind,
        int(asked.inputs.words[i]),
        spelled,
        int(asked.ours[i]),
        _how(asked, kind, i),
    )
    return Difference(kind.name, kind.why, int(kind.where.sum()), example, link, _error(asked, got, kind.where))


def _error(asked: Question, got: Theirs, where: NDArray[np.bool_]) -> float | None:
    """The median relative error of what the codes, or values, stand for."""
    if asked.dtype.exponents is not None:  # float64 does not hold the levels
        return None
    levels = np.append(asked.dtype.levels, np.nan)  # -1 is no level
    theirs = levels[got.stored.codes[where]] if got.decoded is None else got.decoded[where]
    return median_error(levels[asked.ours[where]], theirs)


def _how(asked: Question, kind: Kind, i: int) -> str:
    """How their answer comes about, in one line."""
    if kind.name == "unexplained":
        return ""
    how = f"theirs: {kind.name}"
    if kind.cause is not None and kind.cause.before is not None:
        with np.errstate(all="ignore"):
            number = kind.cause.before(asked.dtype, asked.x[i : i + 1])[0]
        how += f" (it becomes {float(number)!r})"
    return how


def _compare_levels(asked: Question, got: Theirs) -> tuple[Difference, ...]:
    """Decoded values against the levels, entry by entry."""
    assert got.decoded is not None
    levels, values = asked.x, got.decoded
    bad = ~same(levels, values)
    zeros = bad & (levels == 0) & (values == 0)
    flushed = bad & ~zeros & (values == 0)
    kinds = [
        Kind("sign of zero", "theirs is zero with the other sign", zeros),
        Kind("flushed to zero", "their value is zero, the level is not", flushed),
        Kind("another level", "their value for the code is not its level", bad & ~zeros & ~flushed),
    ]
    found = []
    for kind in kinds:
        if kind.where.any():
            i = int(np.flatnonzero(kind.where)[0])
            code = f"0x{int(asked.ours[i]):0{-(-asked.dtype.bits // 4)}x}"
            steps = (f"the level of code {code} is {float(levels[i])!r}", kind.why)
            example = Counterexample("codes", f"code {i}", repr(float(values[i])), repr(float(levels[i])), steps, code)
            error = median_error(levels[kind.where], values[kind.where])
            found.append(Difference(kind.name, kind.why, int(kind.where.sum()), example, error=error))
    return tuple(found)


def _arrangements(asked: Question, flat: Theirs, answers: Sequence[Answer], form: str | None) -> list[str]:
    """Every other arrangement must give what the flat array gave."""
    errors = []
    codes = dict(arrangements(flat.stored.codes))
    values = dict(arrangements(flat.decoded)) if flat.decoded is not None else {}
    for answer in answers:
        if answer.array is None or answer.arrangement == FLAT:
            continue
        name = answer.arrangement
        if name not in codes:
            errors.append(f"{name}: nobody asked for it")
            continue
        try:
            got = read_type(asked, answer, codes[name].shape, form)
        except Refused as refused:
            errors.append(str(refused))
            continue
        alike = np.array_equal(got.stored.codes, codes[name])
        if got.decoded is not None and values and asked.what == "decode":
            alike = bool(same(got.decoded, values[name]).all())
        if not alike and asked.nan == "any" and asked.what == "encode":
            is_nan = np.append(np.isnan(asked.dtype.levels), False)
            alike = bool(np.all((got.stored.codes == codes[name]) | (is_nan[got.stored.codes] & is_nan[codes[name]])))
        if not alike:
            errors.append(f"{name}: the answer differs from that for the same numbers in a flat array")
    return errors
