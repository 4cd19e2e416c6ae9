"""Answers against the definition: ask, compare, name what differs, and shrink it to the simplest input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import median_error, same
from kbit_ref.conformance.compare import Compared, compare
from kbit_ref.conformance.definition import answered, reference
from kbit_ref.conformance.departures import faults
from kbit_ref.conformance.diagnosis import Diagnosis, Group, becomes, explain_type
from kbit_ref.conformance.diagnosis.counterexample import Shrinker, counterexample, simplest, spell_code
from kbit_ref.conformance.diagnosis.differences import differences
from kbit_ref.conformance.diagnosis.groups import UNEXPLAINED
from kbit_ref.conformance.diagnosis.misshapen import misshapen
from kbit_ref.conformance.implementations.ask import FLAT, Answer
from kbit_ref.conformance.implementations.claims import PARTS, BlockProfile, Known, KnownDifference
from kbit_ref.conformance.inputs.of_schemes import Case, cases
from kbit_ref.conformance.inputs.of_types import arrangements
from kbit_ref.conformance.reading import Refused, Theirs, parts_in, read, read_type
from kbit_ref.conformance.refused import of_refused
from kbit_ref.conformance.specials import specials
from kbit_ref.conformance.subject import Question
from kbit_ref.conformance.variants.of_types import through, wraps
from kbit_ref.conformance.verdict import Counterexample, Difference, Row, Special, Verdict
from kbit_ref.errors import KbitError
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["Ask", "Found", "Known", "given_scales", "judge", "judge_profile", "rows_of"]

Array = NDArray[Any]
Ask = Callable[..., Answer]


# Data types ---------------------------------------------------------------------------------------


def judge(asked: Question, answers: Sequence[Answer], form: str | None = None, known: Sequence[Known] = ()) -> Row:
    """Judge all answers to a question.

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
    different: tuple[Difference, ...] = ()
    diagnosis = None
    notes: list[str] = []
    compared = 0
    flat = next((a for a in answers if a.arrangement == FLAT and a.array is not None), None)
    if flat is None:
        errors = errors[:1] or ["no answer at all"]
    if flat is not None:
        try:
            got = read_type(asked, flat, asked.ours.shape, form)
            different, more, diagnosis = _compare(asked, got, known)
            compared = int(asked.ours.size)
            errors += more
            if different and form is None:
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
        differences=different,
        errors=tuple(errors),
        nan_left_out=asked.inputs.nan_left_out,
        notes=tuple(notes),
        diagnosis=diagnosis,
    )


def _read_as_values(flat: Answer, got: Theirs) -> list[str]:
    """Note how signed integers were read, which may be meant as codes."""
    if got.decoded is None or flat.array is None or flat.array.dtype.kind != "i":
        return []
    return [f"integers of dtype {flat.array.dtype} are read as values; if they are codes, give uint8 or uint16"]


def _same_nan(asked: Question, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where both are NaN, by different codes."""
    is_nan = np.append(np.isnan(asked.dtype.levels), False)  # -1 is no level
    return np.asarray(is_nan[asked.ours] & is_nan[codes] & (codes != asked.ours))


def _other_nan(asked: Question, codes: NDArray[np.int64]) -> list[str]:
    other = _same_nan(asked, codes)
    if not other.any():
        return []
    spelled = ", ".join(f"0x{code:02x}" for code in np.unique(codes[other]))
    return [f"NaN is given as {spelled} too; the canonical code is 0x{asked.dtype.definition.nan:02x} (nan='any')"]


# Comparing -------------------------------------------------------------------------------------


def _compare(
    asked: Question, got: Theirs, known: Sequence[Known]
) -> tuple[tuple[Difference, ...], list[str], Diagnosis | None]:
    """Return the differences by kind, the known ones that did not occur, and what is wrong."""
    if asked.what == "decode":
        different, diagnosis = _compare_levels(asked, got)
        return different, [], diagnosis
    ours, theirs = asked.ours.astype(np.int64), got.stored.codes
    canonical = asked.dtype.definition.nan
    if asked.nan == "any" and canonical is not None:
        is_nan = np.append(np.isnan(asked.dtype.levels), False)  # -1 is no level
        theirs = np.where(is_nan[theirs], canonical, theirs)
    if not known and np.array_equal(ours, theirs):
        return (), [], None
    recorded, errors = _on_record(asked, ours, theirs, known)
    found = [*((group, "") for group in _zero_signs(asked, got, ours, theirs)), *recorded]
    open_ = np.ones(ours.shape, bool)
    for group, _ in found:
        open_ &= ~group.where[0]
    diagnosis = None
    if (by_word := _by_the_words(asked, open_ & (ours != theirs), theirs)) is not None:
        found.append((by_word, ""))
    elif (open_ & (ours != theirs)).any():
        bits = None if asked.random is None else (asked.random, asked.random_bits)
        diagnosis = explain_type(asked.dtype, asked.inputs.kind, asked.x, theirs, asked.nan_codes, open_, bits)
        found += [(group, "") for group in diagnosis.groups]
    return tuple(_difference(asked, group, got, link) for group, link in found), errors, diagnosis


def _by_the_words(asked: Question, differs: NDArray[np.bool_], theirs: NDArray[np.int64]) -> Group | None:
    """Return all that differ, if what is done to numbers that float64 does not hold gives just theirs."""
    if asked.inputs.kind not in ("longdouble", "int64", "uint64") or not differs.any():
        return None
    numbers = asked.inputs.words.view(asked.inputs.kind)
    with np.errstate(all="ignore"):
        rounded = numbers.astype(np.float64)
    by_float64 = through("float64").codes(asked.dtype, rounded, asked.nan_codes)
    whole = numbers.dtype.kind in "iu" and asked.dtype.family == "integer"
    low = numbers.view(np.uint64) & np.uint64(2**asked.dtype.bits - 1) if whole else None
    for cause, codes in ((through("float64"), by_float64), (wraps(), low)):
        if codes is not None and (codes[differs] == theirs[differs]).all():
            return Group("codes", cause.name, cause.why, None, {0: differs})
    return None


def _on_record(
    asked: Question, ours: NDArray[np.int64], theirs: NDArray[np.int64], known: Sequence[Known]
) -> tuple[list[tuple[Group, str]], list[str]]:
    """Return the values that the known differences explain, alone or two at once."""
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
            found.append((Group("codes", entry.cause.name, entry.cause.why, None, {0: where}), entry.link))
            left = left & ~where
        else:
            errors.append(f"no longer differs: {entry.cause.name} ({entry.link})")
    return found, errors


def _zero_signs(asked: Question, got: Theirs, ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> list[Group]:
    """Return where values are zero with the other sign, in a type that has no code for it."""
    if got.decoded is None:
        return []
    where = (theirs == -1) & (got.decoded == 0) & (asked.dtype.levels[ours] == 0)
    group = Group("codes", "sign of zero", "theirs is -0, and the type has only one zero", None, {0: where})
    return [group] if where.any() else []


def _difference(asked: Question, group: Group, got: Theirs, link: str) -> Difference:
    where = group.where[0]
    i = simplest(asked.x, where)
    if got.decoded is not None:
        spelled = repr(float(got.decoded[i]))
    else:
        spelled = spell_code(asked.dtype, int(got.stored.codes[i]), None if got.raw is None else got.raw[i])
    example = counterexample(
        asked.dtype,
        asked.inputs.kind,
        asked.inputs.words[i],
        spelled,
        int(asked.ours[i]),
        _how(asked, group, i),
    )
    return Difference(group.cause, group.why, group.count, example, link, _error(asked, got, where))


def _error(asked: Question, got: Theirs, where: NDArray[np.bool_]) -> float | None:
    """Return the median relative error of what the codes, or values, stand for."""
    if asked.dtype.exponents is not None:  # float64 does not hold the levels
        return None
    levels = np.append(asked.dtype.levels, np.nan)  # -1 is no level
    theirs = levels[got.stored.codes[where]] if got.decoded is None else got.decoded[where]
    return median_error(levels[asked.ours[where]], theirs)


def _how(asked: Question, group: Group, i: int) -> str:
    """Return how their answer comes about, in one line."""
    if group.cause == UNEXPLAINED:
        return ""
    numbers = None if group.finding is None else becomes(asked.dtype, group.finding, asked.x[i : i + 1])
    return f"theirs: {group.cause}" + ("" if numbers is None else f" (it becomes {float(numbers[0])!r})")


def _compare_levels(asked: Question, got: Theirs) -> tuple[tuple[Difference, ...], Diagnosis | None]:
    """Compare decoded values with the levels, entry by entry."""
    assert got.decoded is not None
    levels, values = asked.x, got.decoded
    if same(levels, values).all():
        return (), None
    diagnosis = explain_type(asked.dtype, "codes", asked.ours, values)
    found = []
    for group in diagnosis.groups:
        where = group.where[0]
        i = int(np.flatnonzero(where)[0])
        code = f"0x{int(asked.ours[i]):0{-(-asked.dtype.bits // 4)}x}"
        steps = (f"the level of code {code} is {float(levels[i])!r}", group.why)
        example = Counterexample("codes", f"code {i}", repr(float(values[i])), repr(float(levels[i])), steps, code)
        error = median_error(levels[where], values[where])
        found.append(Difference(group.cause, group.why, group.count, example, error=error))
    return tuple(found), diagnosis


def _arrangements(asked: Question, flat: Theirs, answers: Sequence[Answer], form: str | None) -> list[str]:
    """Check that every other arrangement gives what the flat array gave."""
    errors = []
    codes = dict(arrangements(flat.stored.codes))
    values = dict(arrangements(flat.decoded)) if flat.decoded is not None else {}
    for answer in answers:
        if answer.array is None or answer.arrangement == FLAT:
            continue
        name = answer.arrangement
        if name not in codes:
            errors.append(f"{name}: it is none of the arrangements")
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


# Schemes ------------------------------------------------------------------------------------------


@dataclass
class Found:
    """Everything about one profile, as it comes in."""

    compared: list[Compared] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)  # what went wrong: the arrays
    causes: dict[str, str] = field(default_factory=dict)  # what went wrong: the mistake that gives just that
    refused: Counter[str] = field(default_factory=Counter)


class Claimant(Protocol):
    """An implementation that claims to follow a profile."""

    @property
    def library(self) -> str:
        """Return the name of the library."""

    @property
    def known(self) -> Sequence[Known | KnownDifference]:
        """Return the differences that are on record."""

    def version(self) -> str:
        """Return the version of the library."""


def judge_profile(adapter: Claimant, profile: BlockProfile, ask: Ask, s: Scheme | None = None) -> Verdict:
    """Judge every part of a profile.

    Parameters
    ----------
    ask
        `ask(theirs, source, x=...)`, and with the scales too for profiles that are given them.
    s
        The scheme, if the profile does not say it.
    """
    about = (adapter.library, adapter.version(), profile.name)
    try:
        s = s or scheme(profile.profile)
    except KbitError as error:
        return Verdict(profile.profile, "", (), *about, (str(error),))
    found = Found()
    for case in cases(s, profile.sources, profile.shapes, profile.blocks, profile.size):
        _one(s, profile, case, ask, found)
    odd = tuple(special for source in profile.sources for special in _specials(s, profile, source, ask))
    known = [k for k in adapter.known if isinstance(k, KnownDifference) and k.concerns(profile.name)]
    shrinker = Shrinker(s, lambda words, source: _put(s, profile, words, source, ask), profile.blocks, profile.size)
    diagnosis, kinds = differences(s, found.compared, shrinker, (k.cause for k in known))
    parts, errors = rows_of(found, kinds, known, diagnosis)
    errors = [*(_spelled_error(found, text) for text in found.errors), *errors]
    recorded = faults(profile.profile)
    answers, reasons = of_refused(s, found.compared, shrinker, recorded)
    odd, unanswered = odd + answers, found.refused - reasons
    notes = [f"{count:,} blocks left out, the profile has no answer: {why}" for why, count in unanswered.items()]
    return Verdict(profile.profile, str(s), parts, *about, tuple(errors), tuple(notes), odd, faults=recorded)


def _specials(s: Scheme, profile: BlockProfile, source: str, ask: Ask) -> tuple[Special, ...]:
    """Judge what becomes of NaN and infinity."""

    def put(words: Array, plain: Array) -> Theirs:
        given = given_scales(s, profile, plain, source)
        return read(s, words.shape, parts_in(ask(profile.theirs, source, x=words, **given)) | given)

    return specials(s, source, s.cut.size or profile.size, profile.blocks, put)


def given_scales(s: Scheme, profile: BlockProfile, words: Array, source: str = "float32") -> dict[str, Array]:
    """Return the scales and zero points of an array for a library that is given them; empty for all others."""
    if not profile.given:
        return {}
    q = quantize(words, s, threads=1, bfloat16=source == "bfloat16")
    return {"scales": q.scales} | ({} if q.zero_points is None else {"zero_points": q.zero_points})


def _spelled_error(found: Found, text: str) -> str:
    """Return an error, where it happened, and the mistake that gives just such answers."""
    cause = found.causes.get(text, "")
    return f"{text} ({_some(found.errors[text])})" + (f": {cause}" if cause else "")


def _some(where: Sequence[str]) -> str:
    return ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")


def _one(s: Scheme, profile: BlockProfile, case: Case, ask: Ask, found: Found) -> None:
    """Ask about one array, and compare."""
    try:
        compared = _put(s, profile, case.words, case.source, ask, case)
    except Refused as refused:
        ours = reference(s, case.words, case.source)
        rest = answered(s, case.words, ours.refused)
        if refused.raised and ours.refused.any() and (rest.size or ours.refused.all()):
            found.refused.update(ours.reasons)  # both refuse at least one block
            if rest.size:
                _one(s, profile, Case(case.name, case.source, rest), ask, found)
            return
        text = str(refused)
        if text not in found.errors and refused.parts:
            found.causes[text] = misshapen(s, case.numbers, refused.parts)
        found.errors.setdefault(text, []).append(f"{case.name}, {case.source}")
        return
    found.compared.append(compared)
    found.refused.update(compared.ours.reasons)


def _put(s: Scheme, profile: BlockProfile, words: Array, source: str, ask: Ask, case: Case | None = None) -> Compared:
    """Compare both answers for one array."""
    case = case or Case("", source, words)
    arrays: dict[str, Array] = {"x": words}
    try:
        given = given_scales(s, profile, words, source)
    except KbitError:
        ours = reference(s, words, source)
        words = answered(s, words, ours.refused)
        if not words.size:
            raise Refused("the profile has no answer for any of the blocks") from None
        case, arrays["x"] = Case(case.name, source, words), words
        given = given_scales(s, profile, words, source)
    ours = reference(s, words, source)
    came = parts_in(ask(profile.theirs, source, **arrays, **given))
    try:
        theirs = read(s, words.shape, came | given)
    except Refused as refused:
        raise Refused(str(refused), parts=came) from None
    if theirs.decoded is not None and not theirs.says_numbers:
        ours = reference(s, words, source, decoded=True)
    return compare(s, case, ours, theirs, profile.given)


def rows_of(
    found: Found,
    kinds: dict[str, list[Difference]],
    known: Sequence[KnownDifference] = (),
    diagnosis: Diagnosis | None = None,
) -> tuple[tuple[Row, ...], list[str]]:
    """Return the rows by part, and the known differences that did not occur."""
    parts = []
    seen = set()
    for name in PARTS:
        tried = sum(compared.tried.get(name, 0) for compared in found.compared)
        judged = any(name in compared.tried for compared in found.compared)
        if not judged:
            continue
        marked = []
        for kind in kinds[name]:
            record = next((k for k in known if k.part == name and k.cause == kind.cause), None)
            if record is not None:
                seen.add(id(record))
                kind = replace(kind, link=record.link)
            marked.append(kind)
        in_order = tuple(sorted(marked, key=lambda kind: -kind.count))
        parts.append(Row(name, tried, in_order, diagnosis=diagnosis if in_order else None))
    stale = [f"no longer differs: {k.part}, {k.cause} ({k.link})" for k in known if id(k) not in seen]
    return tuple(parts), stale if found.compared else []
