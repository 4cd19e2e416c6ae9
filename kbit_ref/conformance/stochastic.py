"""Functions that quantize arrays with random bits against the definition: x and an integer for each number of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.compare import Compared, compare
from kbit_ref.conformance.definition import answered, reference, stored_of
from kbit_ref.conformance.diagnosis.counterexample import simplest, spell_code
from kbit_ref.conformance.diagnosis.groups import UNEXPLAINED, WHY
from kbit_ref.conformance.implementations.ask import Answer
from kbit_ref.conformance.implementations.claims import PARTS
from kbit_ref.conformance.inputs.of_schemes import Case, cases, narrowed, shaped
from kbit_ref.conformance.inputs.of_types import bits_and_number
from kbit_ref.conformance.reading import Refused, parts_in, read
from kbit_ref.conformance.subject import turning_points
from kbit_ref.conformance.variants.choices import changed
from kbit_ref.conformance.verdict import Counterexample, Difference, Row, Verdict
from kbit_ref.exact import CHOICES
from kbit_ref.tensors.aligned import anchors, shifts
from kbit_ref.tensors.quantize import quantize
from kbit_ref.tensors.scheme import Scheme

__all__ = ["judge_stochastic"]

Array = NDArray[Any]
WIDTH = 32  # of a block, where the cut does not say it
Ask = Callable[[Array, str, Array], Answer]  # words, their format, the random bits
DRAWS: dict[str, tuple[str, Callable[[Array, int], Array]]] = {
    "random bits reversed": ("the largest random numbers round down, and not the smallest", lambda r, most: most - r),
    "random bits unused": ("the answers are those of random bits that are all 0", lambda r, most: r * 0),
    "one random number": ("the first random number is used for all numbers", lambda r, most: r * 0 + r.flat[0]),
    "random bits shifted": ("each number takes the random bits of the one before", lambda r, most: np.roll(r, 1)),
}


@dataclass(frozen=True)
class _Trial:
    """One array, its random bits, and both answers."""

    words: Array
    source: str
    random: Array
    compared: Compared


def judge_stochastic(s: Scheme, ask: Ask, name: str, sources: Sequence[str], shapes: str, bits: int) -> Verdict:
    """Judge who quantizes by a scheme whose type has stochastic rounding.

    Parameters
    ----------
    ask
        The parts for an array and its random bits, uint32.
    name, sources, shapes, bits
        Of who is judged; of the arrays, as in `BlockProfile`; of each random integer.
    """
    nearest = changed(s, ("rounding", "nearest"))
    assert nearest is not None
    trials, errors = [], dict[str, list[str]]()
    between = [Case("half steps", source, shaped(narrowed(_half_steps(s, bits), source), s)) for source in sources]
    for case in (*between, *cases(s, tuple(sources), shapes, 1, WIDTH)):
        words = answered(s, case.words, reference(nearest, case.words, case.source).refused)
        if not words.size or case.name == "specials":
            continue
        for random in _draws(s, words, case.source, bits):
            try:
                theirs = read(s, words.shape, parts_in(ask(words, case.source, random)))
                ours = stored_of(_quantized(s, words, case.source, random, bits), decoded=not theirs.says_numbers)
                compared = compare(s, Case(case.name, case.source, words), ours, theirs)
                trials.append(_Trial(words, case.source, random, compared))
            except Refused as refused:
                errors.setdefault(str(refused), []).append(case.name)
    texts = tuple(f"{text} ({', '.join(dict.fromkeys(where))})" for text, where in errors.items())
    rows = tuple(_rows(s, trials, bits))
    return Verdict(str(s), str(s), rows, theirs=name, errors=texts)


def _half_steps(s: Scheme, bits: int) -> Array:
    """[n, width]: numbers halfway between two steps of the random bits, at scale 1: there the roundings part."""
    levels = np.unique(s.dtype.levels[s.dtype.emitted])
    levels = levels[np.isfinite(levels)]
    shift, width = shifts(s)[0], s.cut.size or WIDTH
    shares = (2 * np.unique(np.array([0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1])) + 1) / 2 ** (bits + 1)
    inner = (levels[:-1, None] + np.diff(levels)[:, None] * shares).reshape(-1) - shift
    head = anchors(s, shift)
    inner = inner[np.abs(inner) <= np.abs(head).max()]  # what is larger would change the scale
    inner = np.random.default_rng(0).permutation(inner)  # no layout makes them of one another
    room = max(1, width - head.size)
    body = np.resize(inner, (-(-inner.size // room), room))
    return np.concatenate([np.tile(head, (len(body), 1)), body], axis=1)[:, :width]


def _quantized(s: Scheme, words: Array, source: str, random: Array, bits: int) -> Any:
    stochastic = s.dtype.rounding.startswith("stochastic")
    more: dict[str, Any] = {"random": random, "random_bits": bits} if stochastic else {}
    return quantize(words, s, threads=1, bfloat16=source == "bfloat16", **more)


def _draws(s: Scheme, words: Array, source: str, bits: int) -> Iterator[Array]:
    """Yield random bits for an array: none, all, drawn ones, and the two where the code of each number changes."""
    most = 2**bits - 1

    def codes(random: Array) -> Array:
        return np.asarray(_quantized(s, words, source, random.astype(np.uint32), bits).codes)

    low, high, changes = turning_points(codes, words.shape, bits)
    drawn = np.random.default_rng(bits).integers(0, most, words.shape, endpoint=True)
    for random in (drawn * 0, drawn * 0 + most, drawn, np.where(changes, low, drawn), np.where(changes, high, drawn)):
        yield random.astype(np.uint32)


def _rows(s: Scheme, trials: Sequence[_Trial], bits: int) -> Iterator[Row]:
    """Yield the verdict on each part; of the numbers of blocks how many differ, of codes why."""
    for part in PARTS:
        tried = sum(each.compared.tried.get(part, 0) for each in trials)
        if not any(part in each.compared.tried for each in trials):
            continue
        wrong = [each for each in trials if part in each.compared.wrong and each.compared.wrong[part].any()]
        count = sum(int(each.compared.wrong[part].sum()) for each in wrong)
        cause, why = _cause(s, wrong, bits) if part in ("codes", "decoded") else (UNEXPLAINED, WHY[UNEXPLAINED])
        differences = (Difference(cause, why, count, _example(s, wrong[0], part, bits)),) if wrong else ()
        yield Row(part, tried, differences)


def _cause(s: Scheme, wrong: Sequence[_Trial], bits: int) -> tuple[str, str]:
    """Return another rounding, or another use of the random bits, that gives all that differ."""
    for value in CHOICES["rounding"]:
        made = changed(s, ("rounding", value))
        if made is not None and _gives(made, wrong, bits, lambda r, most: r):
            return f"rounding={value}", f"theirs is what rounding={value} gives"
    for name, (why, draw) in DRAWS.items():
        if _gives(s, wrong, bits, draw):
            return name, why
    return UNEXPLAINED, WHY[UNEXPLAINED]


def _gives(s: Scheme, wrong: Sequence[_Trial], bits: int, draw: Callable[[Array, int], Array]) -> bool:
    """Return whether all of theirs are what the scheme gives with these random bits?"""
    for each in wrong:
        random = draw(each.random, 2**bits - 1).astype(np.uint32)
        made = stored_of(_quantized(s, each.words, each.source, random, bits), decoded=True)
        theirs = each.compared.theirs
        both = (made.codes, theirs.stored.codes) if theirs.has_codes else (made.decoded, theirs.decoded)
        if not np.array_equal(*both):
            return False
    return bool(wrong)


def _example(s: Scheme, one: _Trial, part: str, bits: int) -> Counterexample | None:
    """Return the simplest number whose code differs, with its random bits and the scale."""
    compared = one.compared
    where = compared.wrong[part]
    if where.shape != compared.index.shape:
        block = int(np.flatnonzero(where)[0]) if part in compared.ours.blocks else None
        if block is None:
            return None
        theirs, ours = (float(each.blocks[part][block]) for each in (compared.theirs.stored, compared.ours))
        return Counterexample(one.source, f"block {block} of an array", repr(theirs), repr(ours))
    x = compared.case.numbers.astype(np.float64).reshape(-1)
    at = simplest(x, where.reshape(-1))

    numbers = (compared.theirs.decoded, compared.spelled)
    if part == "codes":
        stored = (compared.theirs.stored, compared.ours)
        both = [spell_code(s.dtype, int(each.codes.reshape(-1)[at])) for each in stored]
    else:
        both = [repr(float(each.reshape(-1)[at])) for each in numbers if each is not None]
    scales = compared.ours.blocks.get("scales")
    about = "" if scales is None else f", scale {scales[compared.index.reshape(-1)[at]]:.9g}"
    step = f"random = {int(one.random.reshape(-1)[at])} of {bits} bits{about}"
    word = one.words.reshape(-1)[at : at + 1].view(f"uint{8 * one.words.itemsize}")[0]
    return Counterexample(
        one.source, repr(float(x[at])), both[0], both[1], (step,), bits_and_number(word, one.source)[0]
    )
