"""Which choices of a data type an implementation has made: all of them, side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.diagnosis.counterexample import counterexample, simplest, spell_code
from kbit_ref.conformance.implementations.ask import FLAT, Answer
from kbit_ref.conformance.ranking import Ranked, Ranking, ranked
from kbit_ref.conformance.reading import Got, Refused, read
from kbit_ref.conformance.subject import Question
from kbit_ref.conformance.variants.of_types import WORTH_A_LARGE_TABLE, with_nan
from kbit_ref.datatypes.datatype import DataType, datatype
from kbit_ref.engine.codec import encode
from kbit_ref.errors import KbitError
from kbit_ref.exact import CHOICES

__all__ = ["every_choice", "rank_type", "ranking_of"]


def every_choice(d: DataType) -> Iterator[DataType]:
    """The type under all its choices; for wide types, whose tables are large, under the usual ones.

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


def rank_type(answers: Sequence[tuple[Question, Got]]) -> Ranking:
    """The type of the questions under each of its choices, against the answers from all source formats."""
    groups: dict[bytes, list[tuple[DataType, list[NDArray[np.int64]]]]] = {}
    for made in every_choice(answers[0][0].dtype):
        codes = [_codes(made, asked) for asked, _ in answers]
        groups.setdefault(b"".join(each.tobytes() for each in codes), []).append((made, codes))
    rivals = []
    for members in groups.values():
        names = sorted((made.name for made, _ in members), key=lambda name: (name.count("="), name))
        made, codes = next(member for member in members if member[0].name == names[0])
        rivals.append(_ranked(made, codes, answers, tuple(names[1:])))
    return ranked(rivals)


def _codes(made: DataType, asked: Question) -> NDArray[np.int64]:
    """[n]: the codes by other choices, NaN as the question wants it."""
    return with_nan(made, encode(made, asked.x), asked.x, asked.nan_codes).astype(np.int64)


def _ranked(
    made: DataType, codes: Sequence[NDArray[np.int64]], answers: Sequence[tuple[Question, Got]], same: tuple[str, ...]
) -> Ranked:
    differing, example = 0, None
    for ours, (asked, got) in zip(codes, answers, strict=True):
        wrong = ours != got.codes
        if asked.nan == "any":
            is_nan = np.append(np.isnan(made.levels), False)  # -1 is no level
            wrong &= ~(is_nan[ours] & is_nan[got.codes])
        differing += int(wrong.sum())
        if example is None and wrong.any():
            i = simplest(asked.x, wrong)
            theirs = spell_code(made, int(got.codes[i])) if got.values is None else repr(float(got.values[i]))
            example = counterexample(made, asked.inputs.kind, int(asked.inputs.words[i]), theirs, int(ours[i]))
    tried = sum(asked.ours.size for asked, _ in answers)
    return Ranked(made.name, made.name, tried, differing, example, same)


def ranking_of(given: Sequence[tuple[Question, Sequence[Answer]]], form: str | None = None) -> Ranking | None:
    """The choices of a type, ranked by all answers that can be read."""
    found = []
    for asked, answers in given:
        flat = next((a for a in answers if a.arrangement == FLAT and a.array is not None), None)
        with contextlib.suppress(Refused):  # told by the judge
            if flat is not None and asked.what == "encode":
                found.append((asked, read(asked, flat, asked.ours.shape, form)))
    return rank_type(found) if found else None
