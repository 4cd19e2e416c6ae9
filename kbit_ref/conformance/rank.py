"""Rank an implementation among rivals: a type under each choice, or the profiles of the same type and cut."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.compare import PER_BLOCK, Compared, compare
from kbit_ref.conformance.definition import independent, reference
from kbit_ref.conformance.diagnosis.counterexample import Shrinker, counterexample, simplest, spell_code
from kbit_ref.conformance.implementations.ask import FLAT, Answer
from kbit_ref.conformance.implementations.claims import PARTS, BlockProfile
from kbit_ref.conformance.inputs.of_schemes import Case, cases
from kbit_ref.conformance.reading import Refused, Theirs, read, read_type
from kbit_ref.conformance.subject import Question
from kbit_ref.conformance.variants.of_types import WORTH_A_LARGE_TABLE, with_nan
from kbit_ref.conformance.verdict import Counterexample, Ranked, Ranking, ranked
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.engine.codec import encode
from kbit_ref.errors import KbitError
from kbit_ref.exact import CHOICES
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["every_choice", "kin", "rank_blocks", "rank_type", "ranking_of"]

Array = NDArray[Any]
Parts = dict[str, Array]
Quantize = Callable[[Array, str], Parts]  # words and their format; raises Refused
MOST_RECORDS, ROUNDS = 500, 8
OF_ELEMENTS = ("codes", "decoded")


# Choices of a type --------------------------------------------------------------------------------


def every_choice(d: DataType) -> Iterator[DataType]:
    """Yield the type under all its choices; for wide types, whose tables are large, under the usual ones.

    Examples
    --------
    >>> [made.name for made in every_choice(datatype("int4"))][:3]
    ['int4', 'int4+zero_sign=positive', 'int4+zero_sign=negative']
    """
    base = datatype(d.name.partition("+")[0]) if "~" not in d.name else d
    values = {name: list(dict.fromkeys((getattr(base, name), *others))) for name, others in CHOICES.items()}
    if d.bits > 8:
        usual = [*WORTH_A_LARGE_TABLE, *((name, getattr(made, name)) for made in (base, d) for name in CHOICES)]
        values = {name: [v for v in each if (name, v) in usual] for name, each in values.items()}
    for combination in product(*values.values()):
        words = {name: v for name, v in zip(values, combination, strict=True) if v != getattr(base, name)}
        rounding = words.get("rounding", base.rounding)
        if rounding.startswith("stochastic") or (rounding != "nearest" and "ties" in words):
            continue
        try:
            yield base.with_choices(**words) if words else base
        except KbitError:
            continue


def rank_type(answers: Sequence[tuple[Question, Theirs]]) -> Ranking:
    """Compare the type under each of its choices with the answers from all source formats."""
    groups: dict[bytes, list[tuple[DataType, list[NDArray[np.int64]]]]] = {}
    for made in every_choice(answers[0][0].dtype):
        codes = [_codes(made, question) for question, _ in answers]
        groups.setdefault(b"".join(each.tobytes() for each in codes), []).append((made, codes))
    rivals = []
    for members in groups.values():
        names = sorted((made.name for made, _ in members), key=lambda name: (name.count("="), name))
        made, codes = next(member for member in members if member[0].name == names[0])
        rivals.append(_of_choice(made, codes, answers, tuple(names[1:])))
    return ranked(rivals)


def _codes(made: DataType, question: Question) -> NDArray[np.int64]:
    """Return the codes by other choices, NaN as the question wants it, [n]."""
    return with_nan(made, encode(made, question.x), question.x, question.nan_codes).astype(np.int64)


def _of_choice(
    made: DataType,
    codes: Sequence[NDArray[np.int64]],
    answers: Sequence[tuple[Question, Theirs]],
    same: tuple[str, ...],
) -> Ranked:
    differing, example = 0, None
    for ours, (question, got) in zip(codes, answers, strict=True):
        wrong = ours != got.stored.codes
        if question.nan == "any":
            is_nan = np.append(np.isnan(made.levels), False)  # -1 is no level
            wrong &= ~(is_nan[ours] & is_nan[got.stored.codes])
        differing += int(wrong.sum())
        if example is None and wrong.any():
            i = simplest(question.x, wrong)
            theirs = spell_code(made, int(got.stored.codes[i])) if got.decoded is None else repr(float(got.decoded[i]))
            example = counterexample(made, question.inputs.kind, question.inputs.words[i], theirs, int(ours[i]))
    tried = sum(question.ours.size for question, _ in answers)
    return Ranked(made.name, made.name, tried, differing, example, same)


def ranking_of(given: Sequence[tuple[Question, Sequence[Answer]]], form: str | None = None) -> Ranking | None:
    """Rank the choices of a type by all answers that can be read."""
    found = []
    for question, answers in given:
        flat = next((a for a in answers if a.arrangement == FLAT and a.array is not None), None)
        with contextlib.suppress(Refused):  # told by the judge
            if flat is not None and question.what == "encode":
                found.append((question, read_type(question, flat, question.ours.shape, form)))
    return rank_type(found) if found else None


# Profiles of a type and a cut ----------------------------------------------------------------------


def kin(s: Scheme) -> dict[str, Scheme]:
    """Return the scheme, with and without choices, and all profiles of the same type and cut, by name; each once.

    Examples
    --------
    >>> list(kin(scheme("dynamic8-b64-absmax-f32")))
    ['dynamic8-b64-absmax-f32', 'bnb-dynamic8', 'bnb-cpu-dynamic8']
    """
    named: dict[str, list[str]] = {}
    for profile in profiles().values():
        made = scheme(profile.spelling)
        if _family(made) == _family(s):
            named.setdefault(str(made), []).append(profile.name)
    plain = str(s).partition("+")[0]
    found = {}
    for spelling in dict.fromkeys((str(s), plain, *named)):
        own = [spelling] if spelling in (str(s), plain) else []
        found[" = ".join([*own, *named.get(spelling, [])])] = scheme(spelling)
    return found


def _family(s: Scheme) -> tuple[Any, ...]:
    """Return type and cut; along the last of two axes and flat are one, since the arrays have rows of a block."""
    along = 0 if s.cut.kind == "b" and s.cut.axis == 0 else s.cut.axis if s.cut.kind == "channel" else 1
    return s.dtype.name.partition("+")[0], s.cut.kind, s.cut.size, along


def rank_blocks(s: Scheme, profile: BlockProfile, quantize: Quantize) -> Ranking:
    """Rank related schemes by what is stored for all of their inputs.

    Parameters
    ----------
    s, profile
        What they claim, and how they want their arrays.
    quantize
        The parts of an array by them.
    """
    rivals = kin(s)
    given: dict[tuple[bytes, str, tuple[int, ...]], tuple[Case, Parts]] = {}
    for made in rivals.values():
        for case in cases(made, profile.sources, "rows", profile.blocks, profile.size):
            key = case.words.tobytes(), case.source, case.words.shape
            if key not in given:
                try:
                    given[key] = case, quantize(case.words, case.source)
                except Refused:  # told by the judge
                    continue
    answered = list(given.values())
    return ranked([_against(name, made, profile, answered, quantize) for name, made in rivals.items()])


def _against(
    name: str, s: Scheme, profile: BlockProfile, answered: Sequence[tuple[Case, Parts]], quantize: Quantize
) -> Ranked:
    """Compare with one rival."""
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    bad: list[Compared] = []
    left_out = 0
    try:
        for case, parts in answered:
            found = _compared(s, case, parts)
            left_out += int(found.ours.refused.sum())
            tried.update(found.tried)
            if any(where.any() for where in found.wrong.values()):
                wrong.update({part: int(where.sum()) for part, where in found.wrong.items()})
                bad.append(found)
    except Refused as refused:
        return Ranked(name, str(s), 0, 0, misfit=str(refused))
    if not tried:
        return Ranked(name, str(s), 0, 0, left_out=left_out, misfit="it has no answer for any of the blocks")
    example = _example(s, profile, bad, quantize) if bad else None
    return Ranked(name, str(s), sum(tried.values()), sum(wrong.values()), example, left_out=left_out)


def _compared(s: Scheme, case: Case, parts: Parts) -> Compared:
    theirs = read(s, case.words.shape, parts)
    if (theirs.stored.global_scale is None) != (s["global"] == "none"):
        raise Refused(f"{'no scale' if theirs.stored.global_scale is None else 'a scale'} of the whole array came back")
    alone = theirs.decoded is not None and not theirs.says_numbers
    return compare(s, case, reference(s, case.words, case.source, decoded=alone), theirs)


def _example(s: Scheme, profile: BlockProfile, bad: Sequence[Compared], quantize: Quantize) -> Counterexample:
    """Return the simplest block on which they differ; if none does by itself, the first value."""

    def again(words: Array, source: str) -> Compared:
        return _compared(s, Case("", source, words), quantize(words, source))

    shrinker = Shrinker(s, again, profile.blocks, profile.size)
    found = [(c, int(block)) for c in bad for block in _blocks(c)[:MOST_RECORDS]]
    if not found:
        one = bad[0]
        part = next(part for part in PARTS if part in one.wrong and one.wrong[part].any())
        return shrinker.first(part, one, one.wrong[part])

    def shows(one: Compared) -> NDArray[np.bool_]:
        differ = np.zeros(one.ours.refused.size, bool)
        differ[_blocks(one)] = True
        return differ

    compared, block, _ = shrinker.simplest(found, shows, ROUNDS if independent(s) else 0)
    part = next(p for p in (*PER_BLOCK, *OF_ELEMENTS) if p in compared.wrong and _shown(compared, p, block))
    return shrinker.example(part, compared, block)


def _blocks(compared: Compared) -> NDArray[np.intp]:
    """Return the blocks of which a number or a code differs; a decoded number, if there is no code."""
    if "codes" in compared.wrong or "decoded" not in compared.wrong:
        return compared.wrong_blocks()
    return np.union1d(compared.wrong_blocks(), compared.index[compared.wrong["decoded"]]).astype(np.intp)


def _shown(compared: Compared, part: str, block: int) -> bool:
    wrong = compared.wrong[part]
    return bool(wrong[compared.index == block].any() if part in OF_ELEMENTS else wrong[block])
