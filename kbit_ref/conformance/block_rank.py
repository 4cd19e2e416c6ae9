"""Which profile a library or a function has: all of the same type and the same cut, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import widened
from kbit_ref.conformance.block_reading import Refused, read
from kbit_ref.conformance.compare import PER_BLOCK, Compared, Record, compare, records
from kbit_ref.conformance.definition import Stored, independent, reference
from kbit_ref.conformance.diagnosis.block_examples import Shrinker
from kbit_ref.conformance.diagnosis.shrink import complexity, shrink
from kbit_ref.conformance.implementations.block_adapters import PARTS, BlockProfile
from kbit_ref.conformance.inputs.of_schemes import Case, cases, narrowed, shaped
from kbit_ref.conformance.ranking import Ranked, Ranking, ranked
from kbit_ref.conformance.verdict import Counterexample
from kbit_ref.tensors.profiles import profiles
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["kin", "rank_blocks"]

Array = NDArray[Any]
Parts = dict[str, Array]
Quantize = Callable[[Array, str], Parts]  # words and their format; raises Refused
MOST_RECORDS, ROUNDS = 500, 8
OF_ELEMENTS = ("codes", "decoded")


def kin(s: Scheme) -> dict[str, Scheme]:
    """The scheme, it without choices, and all profiles of the same type and cut, by name; each scheme once.

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
    """Type and cut; along the last of two axes and flat are one, since the arrays have rows of a block."""
    along = 0 if s.cut.kind == "b" and s.cut.axis == 0 else s.cut.axis if s.cut.kind == "channel" else 1
    return s.dtype.name.partition("+")[0], s.cut.kind, s.cut.size, along


def rank_blocks(s: Scheme, profile: BlockProfile, quantize: Quantize) -> Ranking:
    """The kin of a scheme against what is stored for all of their inputs.

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
    asked = list(given.values())
    return ranked([_against(name, made, profile, asked, quantize) for name, made in rivals.items()])


def _against(
    name: str, s: Scheme, profile: BlockProfile, asked: Sequence[tuple[Case, Parts]], quantize: Quantize
) -> Ranked:
    """One rival."""
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    bad: list[Compared] = []
    left_out = 0
    try:
        for case, parts in asked:
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
    alone = theirs.decoded is not None and not theirs.says_numbers
    return compare(s, case, reference(s, case.words, case.source, decoded=alone), theirs)


def _example(s: Scheme, profile: BlockProfile, bad: Sequence[Compared], quantize: Quantize) -> Counterexample:
    """The simplest block that parts them; if no block of its own does, the first value."""

    def put(words: Array, source: str) -> Compared:
        return _compared(s, Case("", source, words), quantize(words, source))

    told = Shrinker(s, profile, None, put)
    found = [(c, int(block)) for c in bad for block in _blocks(c)[:MOST_RECORDS]]
    if not found:
        return _first(bad[0], told)
    simple = [(records(s, c, np.array([block]))[0], c, block) for c, block in found]
    record, compared, block = min(simple, key=lambda each: _simplicity(each[0]))
    if independent(s) and record.words.size > 1 and not record.short:
        source = record.source

        def shows(blocks: Array) -> NDArray[np.bool_]:
            result = np.zeros(len(blocks), bool)
            try:
                again = _blocks(put(shaped(narrowed(blocks, source), s, profile.blocks), source))
            except Refused:
                return result
            result[again[again < len(blocks)]] = True
            return result

        best = shrink(_floats(record.words, source), shows, ROUNDS)
        again = put(shaped(narrowed(np.stack([best, best]), source), s, profile.blocks), source)
        if 0 in _blocks(again):
            compared, block = again, 0
    part = next(p for p in (*PER_BLOCK, *OF_ELEMENTS) if p in compared.wrong and _shown(compared, p, block))
    return told.example(part, compared, block)


def _blocks(compared: Compared) -> NDArray[np.intp]:
    """The blocks of which a number or a code differs; a decoded number, if there is no code."""
    if "codes" in compared.wrong or "decoded" not in compared.wrong:
        return compared.wrong_blocks()
    return np.union1d(compared.wrong_blocks(), compared.index[compared.wrong["decoded"]]).astype(np.intp)


def _shown(compared: Compared, part: str, block: int) -> bool:
    wrong = compared.wrong[part]
    return bool(wrong[compared.index == block].any() if part in OF_ELEMENTS else wrong[block])


def _simplicity(record: Record) -> tuple[Any, ...]:
    return record.source != "float32", complexity(_floats(record.words, record.source))


def _floats(words: Array, source: str) -> NDArray[np.float32]:
    return np.asarray(widened(words, source), np.float32)


def _first(compared: Compared, told: Shrinker) -> Counterexample:
    """Where only bytes, decoded numbers or numbers of the whole array differ."""
    part = next(part for part in PARTS if part in compared.wrong and compared.wrong[part].any())
    if part in ("packed", "decoded"):
        where = compared.wrong[part]
        return told.first(part, compared, where)
    at = int(np.flatnonzero(compared.wrong[part])[0])
    theirs, ours = compared.theirs.stored, compared.ours

    def said(stored: Stored) -> str:
        return f"{part} {stored.global_scale if part == 'global_scale' else stored.double[part][at]:.9g}"

    return Counterexample(compared.case.source, f"array {compared.case.name}", said(theirs), said(ours))
