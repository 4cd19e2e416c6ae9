"""Judge one profile of a library: ask, compare, explain, and shrink what differs to the simplest block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import median_error
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
from kbit_ref.conformance.implementations.adapters import Adapter
from kbit_ref.conformance.implementations.claims import DOUBLE, PARTS, BlockProfile, KnownDifference
from kbit_ref.conformance.inputs.of_schemes import Case, along_first, cases
from kbit_ref.conformance.reading import Refused, Theirs, read, spelled
from kbit_ref.conformance.specials import specials
from kbit_ref.conformance.verdict import Counterexample, Difference, Row, Special, Verdict
from kbit_ref.errors import KbitError
from kbit_ref.tensors.packing import layout, layouts, pack
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["Answer", "Ask", "Found", "given_scales", "judge_profile", "kinds_of", "verdicts_of"]

Array = NDArray[Any]
FOR_ERROR = 200  # blocks of which the error is measured
WHY_RECORD = {
    ZERO: "the only difference of the block",
    LAST_BITS: "theirs is within 2^-18 of ours, and every code is ours: another order of operations",
    FOLLOWS: "the scale of the block is another one, for no named reason",
}


@dataclass(frozen=True)
class Answer:
    """What a library stores for one array: the parts, or the reason there are none."""

    parts: dict[str, Array]
    error: str = ""


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


@dataclass
class Found:
    """Everything about one profile, as it comes in."""

    compared: list[Compared] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)  # what went wrong: the arrays
    refused: Counter[str] = field(default_factory=Counter)


def judge_profile(adapter: Adapter, profile: BlockProfile, ask: Ask, s: Scheme | None = None) -> Verdict:
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
    parts, errors = verdicts_of(found, kinds, known)
    errors = [*(f"{text} ({_some(where)})" for text, where in found.errors.items()), *errors]
    notes = [f"{count:,} blocks left out, the profile has no answer: {why}" for why, count in found.refused.items()]
    return Verdict(profile.profile, str(s), parts, *about, tuple(errors), tuple(notes), odd)


def _specials(s: Scheme, profile: BlockProfile, source: str, ask: Ask) -> tuple[Special, ...]:
    """What becomes of NaN and infinity."""

    def put(words: Array, plain: Array) -> Theirs:
        given = given_scales(s, profile, plain, source)
        answer = ask(profile.theirs, source, x=words, **given)
        if answer.error:
            raise Refused(answer.error)
        return read(s, words.shape, answer.parts | given)

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
        if str(refused).startswith("it raised ") and ours.refused.any() and (rest.size or ours.refused.all()):
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
    answer = ask(profile.theirs, source, **arrays, **given)
    if answer.error:
        raise Refused(answer.error)
    theirs = read(s, words.shape, answer.parts | given)
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
                    kinds[part].append(Difference(cause, why, count, example, error=_error(s, some)))
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


def _error(s: Scheme, records: Sequence[Record]) -> float | None:
    """The median relative error of what is stored for some blocks that differ."""
    ours, theirs = [], []
    for compared in {id(record.compared): record.compared for record in records[:FOR_ERROR]}.values():
        right = replace(compared.theirs, stored=compared.ours, given=("codes", "scales"))
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


def verdicts_of(
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
