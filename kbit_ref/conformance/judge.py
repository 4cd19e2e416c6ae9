"""Answers against the definition: ask, compare, name what differs, and shrink it to the simplest input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import median_error, same
from kbit_ref.conformance.compare import Compared, Record, compare, records
from kbit_ref.conformance.definition import Stored, reference
from kbit_ref.conformance.diagnosis.block_causes import (
    FOLLOWS,
    LAST_BITS,
    UNEXPLAINED,
    WHY,
    ZERO,
    Explanation,
    decoded_causes,
    explain,
    other_numbers,
)
from kbit_ref.conformance.diagnosis.block_examples import Shrinker
from kbit_ref.conformance.diagnosis.counterexample import counterexample, simplest, spell_code
from kbit_ref.conformance.diagnosis.differing import Kind, kinds_of_difference
from kbit_ref.conformance.implementations.ask import FLAT, Answer
from kbit_ref.conformance.implementations.claims import DOUBLE, PARTS, BlockProfile, Known, KnownDifference
from kbit_ref.conformance.inputs.of_schemes import Case, along_first, cases
from kbit_ref.conformance.inputs.of_types import arrangements
from kbit_ref.conformance.reading import Refused, Theirs, parts_in, read, read_type, spelled
from kbit_ref.conformance.specials import specials
from kbit_ref.conformance.subject import Question
from kbit_ref.conformance.verdict import Counterexample, Difference, Row, Special, Verdict
from kbit_ref.errors import KbitError
from kbit_ref.tensors.packing import layout, layouts, pack
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["Ask", "Found", "Known", "given_scales", "judge", "judge_profile", "kinds_of", "rows_of"]

Array = NDArray[Any]
FOR_ERROR = 200  # blocks of which the error is measured
WHY_RECORD = {
    ZERO: "the only difference of the block",
    LAST_BITS: "theirs is within 2^-18 of ours, and every code is ours: another order of operations",
    FOLLOWS: "the scale of the block is another one, for no named reason",
}


Ask = Callable[..., Answer]
AFTER_OFFSET = "follows from the offset of the scales"
WHY_ARRAY = {
    "global_scale": "the scale of the whole array",
    "scale_codes": "the codes of the scales, which are quantized again",
    "scale_scales": "the scales of the scales",
    "scale_offset": "the mean of the scales, which is subtracted before they are quantized",
}
OF_RECORDS = ("scales", "offsets", "zero_points", "codes")
OF_ARRAYS = ("global_scale", *DOUBLE)


# Data types ---------------------------------------------------------------------------------------


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
    ours, codes = asked.dtype.levels[asked.ours[where]], got.stored.codes[where]
    if got.decoded is not None:
        return median_error(ours, got.decoded[where])
    wrong = np.where(np.isnan(ours), np.inf, np.nan)  # -1 is no level, and all wrong
    return median_error(ours, np.where(codes < 0, wrong, asked.dtype.levels[codes]))


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


# Schemes ------------------------------------------------------------------------------------------


@dataclass
class Found:
    """Everything about one profile, as it comes in."""

    compared: list[Compared] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)  # what went wrong: the arrays
    refused: Counter[str] = field(default_factory=Counter)


class Claimant(Protocol):
    """Who claims to follow a profile."""

    @property
    def library(self) -> str:
        """Its name."""

    @property
    def known(self) -> Sequence[Known | KnownDifference]:
        """The differences that are on record."""

    def version(self) -> str:
        """Of the library."""


def judge_profile(adapter: Claimant, profile: BlockProfile, ask: Ask, s: Scheme | None = None) -> Verdict:
    """The verdict on every part of a profile.

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
    shrinker = Shrinker(s, profile, ask, lambda words, source: _put(s, profile, words, source, ask))
    kinds = kinds_of(s, found, shrinker)
    parts, errors = rows_of(found, kinds, known)
    errors = [*(f"{text} ({_some(where)})" for text, where in found.errors.items()), *errors]
    notes = [f"{count:,} blocks left out, the profile has no answer: {why}" for why, count in found.refused.items()]
    return Verdict(profile.profile, str(s), parts, *about, tuple(errors), tuple(notes), odd)


def _specials(s: Scheme, profile: BlockProfile, source: str, ask: Ask) -> tuple[Special, ...]:
    """What becomes of NaN and infinity."""

    def put(words: Array, plain: Array) -> Theirs:
        given = given_scales(s, profile, plain, source)
        return read(s, words.shape, parts_in(ask(profile.theirs, source, x=words, **given)) | given)

    return specials(s, source, s.cut.size or profile.size, profile.blocks, put)


def given_scales(s: Scheme, profile: BlockProfile, words: Array, source: str = "float32") -> dict[str, Array]:
    """The scales and zero points of an array for a library that takes them from us; empty for all others."""
    if not profile.given:
        return {}
    q = quantize(words, s, threads=1, bfloat16=source == "bfloat16")
    return {"scales": q.scales} | ({} if q.zero_points is None else {"zero_points": q.zero_points})


def _some(where: Sequence[str]) -> str:
    return ", ".join(where[:3]) + (f" and {len(where) - 3} more" if len(where) > 3 else "")


def _one(s: Scheme, profile: BlockProfile, case: Case, ask: Ask, found: Found) -> None:
    """Ask about one array, and compare."""
    try:
        compared = _put(s, profile, case.words, case.source, ask, case)
    except Refused as refused:
        ours = reference(s, case.words, case.source)
        rest = _accepted(s, case.words, ours.refused)
        if refused.raised and ours.refused.any() and (rest.size or ours.refused.all()):
            found.refused.update(ours.reasons)  # both refuse at least one block
            if rest.size:
                _one(s, profile, Case(case.name, case.source, rest), ask, found)
            return
        found.errors.setdefault(str(refused), []).append(f"{case.name}, {case.source}")
        return
    found.compared.append(compared)
    found.refused.update(compared.ours.reasons)


def _accepted(s: Scheme, words: Array, refused: NDArray[np.bool_]) -> Array:
    """The blocks that the scheme has an answer for, of an array whose rows (or columns) are blocks; else nothing."""
    axis = 1 if along_first(s) else 0
    if words.ndim != 2 or words.shape[axis] != refused.size:
        return words[:0]
    return np.ascontiguousarray(words.compress(~refused, axis))


def _put(s: Scheme, profile: BlockProfile, words: Array, source: str, ask: Ask, case: Case | None = None) -> Compared:
    """Both answers for one array, compared."""
    case = case or Case("", source, words)
    arrays: dict[str, Array] = {"x": words}
    try:
        given = given_scales(s, profile, words, source)
    except KbitError:
        ours = reference(s, words, source)
        words = _accepted(s, words, ours.refused)
        if not words.size:
            raise Refused("the profile has no answer for any of the blocks") from None
        case, arrays["x"] = Case(case.name, source, words), words
        given = given_scales(s, profile, words, source)
    ours = reference(s, words, source)
    theirs = read(s, words.shape, parts_in(ask(profile.theirs, source, **arrays, **given)) | given)
    if theirs.decoded is not None and not theirs.says_numbers:
        ours = reference(s, words, source, decoded=True)
    return compare(s, case, ours, theirs, profile.given)


# Differences of one part by cause ----------------------------------------------------------------


def kinds_of(s: Scheme, found: Found, shrinker: Shrinker) -> dict[str, list[Difference]]:
    """By part: what differs, each kind with its cause and its smallest example."""
    kinds: dict[str, list[Difference]] = {name: [] for name in PARTS}
    every = [record for compared in found.compared for record in records(s, compared)]
    explanations = explain(s, every, found.compared) if every else []
    shrinker.explanations = explanations
    for explanation in explanations:
        members = [record for record, ours in zip(every, explanation.which, strict=True) if ours]
        complete = bool(explanation.which.all()) and not explanation.cause.startswith("as ")
        for part in OF_RECORDS:
            for cause, some in _by_cause(part, explanation.cause, members).items():
                count = sum(_count(part, record) for record in some)
                if count:
                    why = _why(cause, explanation, complete)
                    example = shrinker.of_records(part, cause, explanation, some)
                    kinds[part].append(Difference(cause, why, count, example, error=_error_of_blocks(s, some)))
    for part in OF_ARRAYS:
        kinds[part] += _of_arrays(found, part)
    for part in ("packed", "decoded"):
        kinds[part] += _of_elements(s, part, found, shrinker)
    return kinds


def _by_cause(part: str, cause: str, members: list[Record]) -> dict[str, list[Record]]:
    """Codes that differ for no word that we know, in blocks of which the scale differs: they follow from it."""
    if part != "codes" or cause != UNEXPLAINED:
        return {cause: members}
    own = [record for record in members if not other_numbers(record)]
    return {UNEXPLAINED: own, FOLLOWS: [record for record in members if other_numbers(record)]}


def _count(part: str, record: Record) -> int:
    """How many values of a part differ in the block."""
    wrong = record.compared.wrong.get(part)
    if wrong is None:
        return 0
    if part == "codes":
        return int(wrong[record.compared.index == record.block].sum())
    return int(wrong[record.block])


def _why(cause: str, explanation: Explanation, complete: bool) -> str:
    if cause.startswith("as "):
        return f"no named choice gives theirs, in these blocks they are those of {explanation.scheme}"
    if explanation.scheme is not None:
        return f"{explanation.scheme} gives " + ("all of theirs" if complete else "theirs in these blocks")
    return WHY_RECORD.get(cause, "no named choice gives theirs")


def _of_arrays(found: Found, part: str) -> list[Difference]:
    """Numbers of the whole array, and scales that are quantized again: the first that differs, and how many."""
    bad = [c for c in found.compared if part in c.wrong and c.wrong[part].any()]
    if not bad:
        return []
    counts: Counter[str] = Counter()
    examples: dict[str, Counterexample] = {}
    numbers: dict[str, tuple[Array, Array]] = {}
    for compared in bad:
        where = np.flatnonzero(compared.wrong[part])
        ours, theirs = (_numbers(stored, part) for stored in (compared.ours, compared.theirs.stored))
        close = np.abs(ours[where] - theirs[where]) <= 2.0**-18 * np.abs(ours[where])
        offset = compared.wrong.get("scale_offset")
        follows = part != "scale_offset" and offset is not None and bool(offset.any())
        cause = AFTER_OFFSET if follows else LAST_BITS if close.all() and part != "scale_codes" else UNEXPLAINED
        counts[cause] += where.size
        numbers.setdefault(cause, (ours[where], theirs[where]))
        texts = (f"{theirs[where[0]]:.9g}", f"{ours[where[0]]:.9g}")
        at = f"[{where[0]}]" if part in ("scale_codes", "scale_scales") else ""
        examples.setdefault(cause, Counterexample(compared.case.source, f"array {compared.case.name}", *texts, at=at))
    return [
        Difference(cause, WHY_ARRAY[part], count, examples[cause], error=median_error(*numbers[cause]))
        for cause, count in counts.items()
    ]


def _numbers(stored: Stored, part: str) -> Array:
    """The numbers of such a part, flat."""
    return np.array([stored.global_scale]) if part == "global_scale" else stored.double[part]


def _of_elements(s: Scheme, part: str, found: Found, shrinker: Shrinker) -> list[Difference]:
    """Bytes and decoded numbers: compared with their own codes, so by causes of their own."""
    counts: Counter[str] = Counter()
    first: dict[str, tuple[Compared, NDArray[np.bool_]]] = {}
    for compared in found.compared:
        if part not in compared.wrong or not compared.wrong[part].any():
            continue
        if part == "packed":
            causes = {_layout_of(s, compared): compared.wrong[part]}
        else:
            causes = decoded_causes(s, compared)
        for cause, where in causes.items():
            counts[cause] += int(where.sum())
            first.setdefault(cause, (compared, where))
    kinds = []
    for cause, (compared, where) in first.items():
        why = WHY.get(cause, "the bytes are not those that their codes make in the layout of the profile")
        example = shrinker.of_elements(part, cause, compared, where)
        error = None
        if part == "decoded":
            assert compared.spelled is not None
            assert compared.theirs.decoded is not None
            error = median_error(compared.spelled[where], compared.theirs.decoded[where])
        kinds.append(Difference(cause, why, counts[cause], example, error=error))
    return kinds


def _error_of_blocks(s: Scheme, records: Sequence[Record]) -> float | None:
    """The median relative error of what is stored for some blocks that differ."""
    ours, theirs = [], []
    for compared in {id(record.compared): record.compared for record in records[:FOR_ERROR]}.values():
        right = replace(compared.theirs, stored=compared.ours, given=("codes", "scales"))
        with np.errstate(invalid="ignore"):  # of zero points that there are none of
            numbers = [spelled(s, compared.case.words.shape, each) for each in (right, compared.theirs)]
        if numbers[0] is None or numbers[1] is None:
            return None
        blocks = [record.block for record in records[:FOR_ERROR] if record.compared is compared]
        where = np.isin(compared.index, blocks)
        ours.append(numbers[0][where])
        theirs.append(numbers[1][where])
    return median_error(np.concatenate(ours), np.concatenate(theirs)) if ours else None


def _layout_of(s: Scheme, compared: Compared) -> str:
    """The layout in which their codes make their bytes, as a word; or `other bits`."""
    theirs = compared.theirs
    assert theirs.packed is not None
    for name in layouts():
        form = layout(name)
        if form.bits == s.dtype.bits and np.array_equal(pack(theirs.in_order, form), theirs.packed):
            return f"+layout={name}"
    return "other bits"


def rows_of(
    found: Found, kinds: dict[str, list[Difference]], known: Sequence[KnownDifference]
) -> tuple[tuple[Row, ...], list[str]]:
    """The verdicts by part, and what is on record and did not occur."""
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
        parts.append(Row(name, tried, tuple(sorted(marked, key=lambda kind: -kind.count))))
    stale = [f"no longer differs: {k.part}, {k.cause} ({k.link})" for k in known if id(k) not in seen]
    return tuple(parts), stale if found.compared else []
