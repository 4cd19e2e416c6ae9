"""Judge one NaN or one infinity in a block where the profile says what must happen; else describe what does.

A profile with `nan=error` refuses such an array, so a library that raises does what it says, and
the answers of others are described. With `nan=code`, `nan=zero` or `inf=saturate` the answer is judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.definition import Stored, block_index, independent, reference
from kbit_ref.conformance.diagnosis.counterexample import spell_code
from kbit_ref.conformance.implementations.ask import Answer
from kbit_ref.conformance.inputs.of_schemes import narrowed, shaped
from kbit_ref.conformance.inputs.of_types import Inputs, nan_words, to_float64
from kbit_ref.conformance.reading import Refused, Theirs, read_type, spelled
from kbit_ref.conformance.subject import Question
from kbit_ref.conformance.variants.choices import changed
from kbit_ref.conformance.verdict import Row, Special
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.tensors.scheme import CHOICES, Scheme

__all__ = ["NUMBERS", "noting_nan", "specials"]

NUMBERS = {"nan": np.nan, "inf": np.inf}
ROW = 1  # the row of a block that holds it
Put = Callable[[NDArray[np.float32], NDArray[np.float32]], Theirs]  # an array, and the finite one whose scales fit


@dataclass(frozen=True)
class _Seen:
    """One array with such a number: what became of it."""

    word: str
    does: str
    as_choice: tuple[str, ...] = ()  # the values of `nan` or `inf` that give all of theirs


def specials(s: Scheme, source: str, width: int, multiple: int, put: Put) -> tuple[Special, ...]:
    """Judge what becomes of NaN and of infinity, of both signs, in the first and in another place of a block.

    Parameters
    ----------
    source, width, multiple
        The format of the numbers, the size of a block, what the number of blocks is a multiple of.
    put
        Asks the library; raises `Refused` if there is no answer.
    """
    found = []
    for name, number in NUMBERS.items():
        seen = []
        for plain, words in _arrays(s, source, width, multiple, number):
            try:
                base = put(plain, plain)
            except Refused as refused:
                seen.append(_Seen("error", f"without it: {refused}"))
                continue
            try:
                theirs = put(words, plain)
            except Refused as refused:
                seen.append(_Seen("raises", f"it raised {refused.raised}" if refused.raised else str(refused)))
                continue
            where = plain != words
            seen.append(_described(s, name, base, theirs, where, _as_choice(s, name, words, source, theirs)))
        found.append(_judged(s, name, source, seen))
    return tuple(found)


def _arrays(
    s: Scheme, source: str, width: int, multiple: int, number: float
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield pairs of arrays: blocks of finite numbers with one zero, and the same with the number in its place."""
    n = -(-max(5, multiple) // multiple) * multiple
    rows = np.linspace(-1, 1, width) * (1 + np.arange(n) % 4)[:, None]
    for sign in (1, -1):
        for at in dict.fromkeys((0, width // 2)):
            plain = rows.astype(np.float32)
            plain[ROW, at] = 0
            words = plain.copy()
            words[ROW, at] = np.copysign(number, sign)
            yield tuple(shaped(narrowed(x, source), s, multiple) for x in (plain, words))  # type: ignore[misc]


def _as_choice(s: Scheme, name: str, words: NDArray[np.float32], source: str, theirs: Theirs) -> tuple[str, ...]:
    """Return the values of the choice `nan` or `inf` under which our answer is theirs."""
    found = []
    for value in CHOICES[name]:
        made = s if s[name] == value else changed(s, (name, value))
        if made is None or value == "error":
            continue
        ours = reference(made, words, source, decoded=True)
        if not ours.refused.any() and _same_answer(ours, theirs):
            found.append(value)
    return tuple(found)


def _same_answer(ours: Stored, theirs: Theirs) -> bool:
    """Return whether every code and every number is ours."""
    if theirs.has_codes and not np.array_equal(ours.codes, theirs.stored.codes):
        return False
    if not theirs.has_codes:
        return theirs.decoded is not None and bool(same(ours.decoded, theirs.decoded).all())
    blocks = theirs.stored.blocks
    return all(name in ours.blocks and bool(same(ours.blocks[name], blocks[name]).all()) for name in blocks)


def _described(
    s: Scheme, name: str, base: Theirs, theirs: Theirs, where: NDArray[np.bool_], as_choice: tuple[str, ...]
) -> _Seen:
    """Describe what became of the number, of its block, and of the other blocks."""
    before, after = _numbers(s, base, where.shape), _numbers(s, theirs, where.shape)
    if before is None or after is None:
        return _Seen("other", "what is stored stands for no numbers", as_choice)
    index = block_index(s, where.shape)
    block = index[where][0]
    mine = index == block
    others, elsewhere = mine & ~where, ~mine
    one, rest = after[where], after[others]
    word = "NaN" if np.isnan(one).all() else "zero" if (one == 0).all() else "number"
    texts = [f"it becomes {_real(float(one[0]))}"]
    if same(before[others], rest).all():
        texts.append("the others as without it")
    else:
        what = next((text for text, good in _wholes(rest) if good), "")
        word = "block" if what else "other"
        texts.append(f"all others of the block become {what}" if what else "others of the block change")
    if not same(before[elsewhere], after[elsewhere]).all():
        word = "spreads" if independent(s) else word
        texts.append("other blocks change too")
    scale = theirs.stored.blocks.get("scales")
    if scale is not None and not np.isfinite(scale[block]):
        texts.append(f"the scale is {scale[block]}")
    return _Seen(word, ", ".join(texts), as_choice)


def _wholes(rest: NDArray[np.float64]) -> tuple[tuple[str, bool], ...]:
    """Return what all the others of a block may be."""
    return ("NaN", bool(np.isnan(rest).all())), ("0", bool((rest == 0).all()))


def _numbers(s: Scheme, theirs: Theirs, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return what they decode it to, or what their codes and scales stand for."""
    return theirs.decoded if theirs.decoded is not None else spelled(s, shape, theirs)


def _real(value: float) -> str:
    return "NaN" if value != value else f"{value:.6g}"


def _judged(s: Scheme, name: str, source: str, seen: list[_Seen]) -> Special:
    """Judge all arrays with one such number together."""
    words = list(dict.fromkeys(each.word for each in seen))
    word = words[0] if len(words) == 1 else "mixed"
    does = "; or ".join(dict.fromkeys(each.does for each in seen))
    common = [value for value in CHOICES[name] if all(value in each.as_choice for each in seen)]
    if s[name] == "error":
        status = "agree" if words == ["raises"] else "told"
    else:
        status = "agree" if s[name] in common else "disagree"
    return Special(name, source, word, does, status, f"+{name}={common[0]}" if common else "")


# NaN into a type that has none --------------------------------------------------------------------


def noting_nan(row: Row, d: DataType, convert: Callable[[Question], list[Answer]]) -> Row:
    """Return a row with a note on what becomes of NaN of both signs in a type that has none.

    Parameters
    ----------
    row
        The verdict on an encoder, for the numbers of a format.
    convert
        Asks the implementation: the flat answer first.
    """
    has_none = d.definition.nan is None and not d.rounding.startswith("stochastic")
    if row.what != "encode" or not row.tried or not has_none or not nan_words(row.source).size:
        return row
    return replace(row, notes=(*row.notes, _of_nan(d, row.source, convert)))


def _of_nan(d: DataType, source: str, convert: Callable[[Question], list[Answer]]) -> str:
    """Describe what becomes of NaN: of each sign where these become different ones."""
    words = nan_words(source)
    asked = Question(d, "encode", Inputs(source, words), to_float64(words, source), np.zeros(words.size, d.code_dtype))
    head = f"{words.size:,} NaN, which {d.name.partition('+')[0]} has none of"
    try:
        answer = convert(asked)[0]
        if answer.array is None:
            return f"{head}: {answer.error}"
        got = read_type(asked, answer, words.shape)
    except Refused as refused:
        return f"{head}: {refused}"
    if got.decoded is not None:
        names = ["NaN" if value != value else repr(float(value)) for value in got.decoded]
    else:
        names = [spell_code(d, int(code)) if code >= 0 else "no code" for code in got.stored.codes]
    negative = np.signbit(asked.x)
    by_sign = [Counter(name for name, sign in zip(names, negative, strict=True) if sign == each) for each in (0, 1)]
    if set(by_sign[0]) == set(by_sign[1]):
        return f"{head}: {_counted(by_sign[0] + by_sign[1])}"
    return f"{head}: without its sign bit {_counted(by_sign[0])}; with it {_counted(by_sign[1])}"


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{n:,} become {name}" for name, n in names.most_common(4))
