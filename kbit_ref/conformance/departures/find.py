"""Find departures: compare each profile with the definition of its format over the inputs of `check`.

Every number that comes back otherwise is charged to the fewest choices of the profile that, set in the
definition, do the same to it:

    definition --with a choice of the profile--> the same number comes back otherwise: that choice is a departure
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.definition import Stored, block_index, independent, reference
from kbit_ref.conformance.departures import EFFECTS, Departure
from kbit_ref.conformance.diagnosis.counterexample import complexity, shrink, spell_block
from kbit_ref.conformance.inputs.of_schemes import Case, cases, narrowed, shaped
from kbit_ref.errors import KbitError
from kbit_ref.exact.rules import RULES
from kbit_ref.tensors.definitions import definition
from kbit_ref.tensors.scheme import Scheme, scheme

__all__ = ["LAWS", "NAMES", "effects_of", "find"]

Array = NDArray[Any]
Flags = NDArray[np.bool_]

NAMES = tuple(EFFECTS)
LAWS = NAMES[: NAMES.index("changed")]
MOVED = ("changed", "farther", "nearer", "as near")
NOTHING = len(NAMES)
ROUNDINGS = 2.0**-20  # of the largest magnitude of a block: what a few roundings of float32 can come to
LEFT_OUT = ("layout", "fill")  # how codes lie in bytes is no matter of numbers
WIDTH, ROUNDS = 32, 6  # of a block where the cut does not say it; of making an example smaller


@dataclass(frozen=True)
class _At:
    """One array: the answers by the definition and by the profile, and what the difference does to each number."""

    case: Case
    index: NDArray[np.intp]  # [*shape]: the block of each number
    largest: NDArray[np.float64]  # [*shape]: the largest magnitude of the block
    defined: Stored
    theirs: Stored
    effects: NDArray[np.intp]  # [*shape]: which of NAMES, or NOTHING


Chosen = tuple[str, ...]  # some choices of a profile, by their names
Where = list[tuple[_At, Flags]]  # some numbers of some arrays
Charged = dict[Chosen, dict[int, Where]]  # what each does, by the effect


def find(profile: str) -> list[Departure]:
    """Compare a profile with the definition of its format over the inputs of `check`; the worst first."""
    s, published = scheme(profile), definition(profile)
    d = published.scheme(s)
    own, defined = _words(s), _words(d)
    words = [word for word in {**defined, **own} if own.get(word) != defined.get(word)]
    if not words:
        return []
    made = {chosen: t for n in range(1, len(words)) for chosen in combinations(words, n) if (t := _with(d, s, chosen))}
    made[tuple(words)] = s
    total, charged = 0, Charged()
    for case in _inputs(s, d, published.source_format):
        at = _compared(s, d, case)
        total += int((~at.defined.refused)[at.index].sum())
        for chosen, hit in _charges(s, at, made):
            for effect in np.unique(at.effects[hit]).tolist():
                some = charged.setdefault(chosen, {}).setdefault(effect, [])
                some.append((at, hit & (at.effects == effect)))
    found = []
    for chosen, effects in _folded(charged, made).items():
        allowed = all(published.leaves_open(word) for word in chosen)
        for bad, part in _parts(effects, allowed):
            worst = min(part)
            alone = charged.get(chosen, {}).get(worst)
            example = _example(s, d, made[chosen] if alone else s, worst, alone or part[worst])
            names = tuple(f"{word}={own.get(word) or _default(s, word)}" for word in chosen)
            found.append(_departure(profile, names, bad, part, total, example))
    return sorted(found, key=lambda row: (not row.bad, NAMES.index(row.effect), row.choices))


def _words(s: Scheme) -> dict[str, str]:
    """Return the words of a spelling that decide numbers, by the choice."""
    head = {"type": s.dtype.name.partition("+")[0], "rule": s.rule, "scale": s.scale_dtype}
    return head | {name: value for name, value in s.choices.items() if name not in LEFT_OUT}


def _default(s: Scheme, word: str) -> str:
    return str(getattr(s.dtype, word)) if hasattr(s.dtype, word) else s[word]


def _with(d: Scheme, s: Scheme, chosen: Chosen) -> Scheme | None:
    """Return the definition with some choices of a profile, or None if they do not fit together."""
    words, own = _words(d), _words(s)
    for word in chosen:
        words.pop(word, None)
    words |= {word: own[word] for word in chosen if word in own}
    if "global" not in words and words.get("arith") == "reciprocals":  # that of the scale alone is left
        words["arith"] = "reciprocal"
    head = "-".join([words.pop("type"), str(s.cut), words.pop("rule"), words.pop("scale")])
    try:
        return scheme("+".join([head, *(f"{word}={value}" for word, value in words.items())]))
    except KbitError:
        return None


def _inputs(s: Scheme, d: Scheme, source: str) -> Iterator[Case]:
    """Yield the inputs of `check`; those for blocks that depend on one another where they do by either scheme."""
    shapes = "any" if s.cut.axis is None else "ragged"
    for each in [t for t in (s, d) if not independent(t)] or [s]:
        yield from (case for case in cases(each, (source,), shapes, 1, WIDTH) if case.words.size)


def _compared(s: Scheme, d: Scheme, case: Case) -> _At:
    """Compare an array by the profile and by the definition."""
    defined, theirs = (reference(t, case.words, case.source, decoded=True) for t in (d, s))
    index = block_index(s, case.words.shape)
    largest = np.zeros(defined.refused.shape)
    np.maximum.at(largest, index, np.abs(case.numbers.astype(np.float64)))
    effects = effects_of(s, case.numbers, index, largest[index], defined, theirs)
    return _At(case, index, largest[index], defined, theirs, effects)


def effects_of(
    s: Scheme, numbers: Array, index: NDArray[np.intp], largest: NDArray[np.float64], defined: Stored, theirs: Stored
) -> NDArray[np.intp]:
    """Return what other answers than the definition's do to each number, [*shape]: which of NAMES, or NOTHING."""
    x, d, t = (np.asarray(values, np.float64) for values in (numbers, defined.decoded, theirs.decoded))
    undefined, unanswered = defined.refused[index], theirs.refused[index]
    both = ~undefined & ~unanswered
    other = ~same(d, t) & both
    effects = np.full(x.shape, NOTHING)

    def mark(effect: str, where: Flags) -> None:
        effects[where] = NAMES.index(effect)

    with np.errstate(all="ignore"):
        exact, farther = d == x, np.abs(t - x) - np.abs(d - x)
        moved, zeros = np.abs(farther) > ROUNDINGS * largest, (d == 0) & (t == 0)
        has_zero = not RULES[s.rule].offset_added and RULES[s.rule].zero_point != "real"
        mark("stored", _stored_otherwise(index, defined, theirs)[index] & both)
        mark("rounding", other & ~zeros)
        mark("zero", other & zeros)
        mark("farther", other & moved)  # or nearer: that is said of all of them
        mark("changed", other & moved & exact & (farther > 0))
        mark("sign of zero", other & zeros & ((x > 0) | (x == 0) & ~np.signbit(x)) & np.signbit(t))
        mark("zero moved", other & moved & exact & (x == 0) & has_zero)
        mark("lost", other & moved & (x != 0) & (np.abs(x) == largest) & _lost(x, t) & ~_lost(x, d))
        mark("not finite", ~unanswered & ~np.isfinite(t) & (np.isfinite(d) | undefined))
    mark("no answer", unanswered & ~undefined & np.isfinite(d))
    return effects


def _lost(x: NDArray[np.float64], back: NDArray[np.float64]) -> Flags:
    """Return where the decoded number is less than half of x, or more than twice."""
    share = back / x
    return np.asarray((share < (1 - ROUNDINGS) / 2) | (share > 2 * (1 + ROUNDINGS)))


def _stored_otherwise(index: NDArray[np.intp], defined: Stored, theirs: Stored) -> Flags:
    """Return where a code or number of a block is another one, though all decoded numbers are the same, [n_blocks]."""
    other = np.zeros(defined.refused.shape, bool)
    for name in defined.blocks.keys() | theirs.blocks.keys():
        both = name in defined.blocks and name in theirs.blocks
        other |= ~same(defined.blocks[name], theirs.blocks[name]) if both else True
    other[index[defined.codes != theirs.codes]] = True
    other[index[~_equal(defined, theirs)]] = False
    return other


def _equal(one: Stored, other: Stored) -> Flags:
    """Return where the decoded number is the same, to the bit, [*shape]."""
    assert one.decoded is not None
    assert other.decoded is not None
    return same(one.decoded, other.decoded)


def _charges(s: Scheme, at: _At, made: dict[Chosen, Scheme]) -> Iterator[tuple[Chosen, Flags]]:
    """Yield choices and the numbers that they change: the fewest that do the same, to the bit if some do."""
    left = at.effects != NOTHING
    for n in range(1, 1 + max(map(len, made))):
        if not left.any():
            return
        tried = []
        for chosen in (some for some in made if len(some) == n):
            answers = reference(made[chosen], at.case.words, at.case.source, decoded=True)
            alike = effects_of(s, at.case.numbers, at.index, at.largest, at.defined, answers) == at.effects
            tried.append((chosen, alike, _equal(answers, at.theirs)))
        for to_the_bit in (True, False):
            for chosen, alike, equal in tried:
                hit = left & alike & equal if to_the_bit else left & alike
                left &= ~hit
                if hit.any():
                    yield chosen, hit
    assert not left.any()


def _folded(charged: Charged, made: dict[Chosen, Scheme]) -> Charged:
    """Charge what takes several choices and breaks no law to one of them that does the same elsewhere alone.

    A small thing goes to any of them that does something alone. What is left stands for itself.
    """
    folded = Charged()
    for chosen, effects in charged.items():
        for effect, where in effects.items():
            to = chosen
            if len(chosen) > 1 and NAMES[effect] not in LAWS and all((word,) in made for word in chosen):
                alone = [(word,) for word in chosen if (word,) in charged]
                alike = [word for word in alone if effect in charged[word]]
                to = next(iter([*alike, *(alone if NAMES[effect] not in MOVED else ())]), chosen)
            folded.setdefault(to, {}).setdefault(effect, []).extend(where)
    return folded


def _parts(effects: dict[int, Where], allowed: bool) -> Iterator[tuple[bool, dict[int, Where]]]:
    """Yield (is it bad, effects): each broken law alone, then numbers that moved, if that is bad, then all others.

    Numbers that moved are bad if the definition does not leave the choice open, and some of them were exact or they
    came farther from x.
    """
    rest = dict(effects)
    for effect in sorted(effects):
        if NAMES[effect] in LAWS:
            yield True, {effect: rest.pop(effect)}
    moved = {effect: rest[effect] for effect in rest if NAMES[effect] in MOVED}
    if not allowed and moved and "nearer" != _on_the_whole(moved) != "as near":
        yield True, moved
        rest = {effect: where for effect, where in rest.items() if effect not in moved}
    if rest:
        yield False, rest


def _on_the_whole(effects: dict[int, Where]) -> str:
    """Return the name of the worst effect: of moved numbers `as near`, if not by more than three standard errors."""
    worst = min(effects)
    if NAMES[worst] != "farther":
        return NAMES[worst]
    farther = np.concatenate([theirs - ours for theirs, ours in (_errors(*each) for each in effects[worst])])
    total, scatter = float(np.sum(farther)), float(np.sqrt(np.sum(farther**2)))
    return "as near" if abs(total) <= 3 * scatter else "farther" if total > 0 else "nearer"


def _errors(at: _At, hit: Flags) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return |decoded - x| over the largest magnitude of the block, by the profile and by the definition."""
    x, largest = at.case.numbers[hit].astype(np.float64), at.largest[hit]
    with np.errstate(all="ignore"):
        back = (np.asarray(each.decoded, np.float64)[hit] for each in (at.theirs, at.defined))
        theirs, ours = (np.abs(values - x) / np.where(largest == 0, 1, largest) for values in back)
    return np.where(np.isnan(theirs), np.inf, theirs), np.where(np.isnan(ours), np.inf, ours)


def _departure(
    profile: str,
    choices: tuple[str, ...],
    bad: bool,
    effects: dict[int, Where],
    total: int,
    example: tuple[str, float, float, float],
) -> Departure:
    where, effect = effects[min(effects)], _on_the_whole(effects)
    theirs, ours = (np.concatenate(each) for each in zip(*(_errors(*each) for each in where), strict=True))
    with np.errstate(invalid="ignore"):
        farther = np.nan_to_num(theirs - ours, nan=0.0)
    at = int(np.argmin(farther) if effect == "nearer" else np.argmax(farther))
    magnitudes = np.concatenate([at.largest[hit] for at, hit in where])
    return Departure(
        profile,
        choices,
        effect,
        bad,
        sum(int(hit.sum()) for some in effects.values() for _, hit in some),
        total,
        magnitudes.size,
        float(theirs[at]),
        float(ours[at]),
        float(magnitudes.min()),
        float(magnitudes.max()),
        tuple(dict.fromkeys(at.case.name.split()[0] for at, _ in where)),
        *example,
    )


def _example(s: Scheme, d: Scheme, t: Scheme, effect: int, where: Where) -> tuple[str, float, float, float]:
    """Return the simplest block that shows an effect by the profile and by the choice alone, shrunk.

    Returns
    -------
    The block, the number in it, what comes back by the profile, and by the definition.
    """
    alone = all(map(independent, (s, d, t)))
    width, source = s.cut.size or WIDTH, where[0][0].case.source

    def shown(blocks: Array) -> tuple[_At, Flags]:
        at = _compared(s, d, Case("", source, narrowed(shaped(blocks, s), source)))
        by_choice = reference(t, at.case.words, source, decoded=True)
        alike = effects_of(s, at.case.numbers, at.index, at.largest, at.defined, by_choice) == effect
        return at, (at.effects == effect) & alike

    def shows(blocks: Array) -> Flags:
        at, hit = shown(blocks)
        return np.isin(np.arange(len(blocks)), at.index[hit])

    blocks = [(at, hit, number) for at, hit in where for number in np.unique(at.index[hit])]

    def order(each: tuple[_At, Flags, Any]) -> tuple[Any, ...]:
        block = each[0].case.numbers[each[0].index == each[2]]
        return block.size < width, complexity(block), each[2]

    at, hit, number = min(blocks, key=order)
    block = at.case.numbers[at.index == number]
    context = "" if alone else f" in an array up to {np.abs(at.case.numbers).max():.9g}"
    if alone and block.size == width:
        few = np.concatenate([np.diag(block), np.diag(block)])  # one number, then it and the largest; all others 0
        few[width:, np.abs(block).argmax()] = block[np.abs(block).argmax()]
        block = min([block, *few[shows(few)]], key=complexity)
        block = block if NAMES[effect] == "no answer" else shrink(block, shows, ROUNDS)
        at, hit = shown(np.stack([block, block]))
        number, block = 0, at.case.numbers[at.index == 0]
    place = int(np.flatnonzero(hit & (at.index == number))[0])
    x, theirs, ours = (
        float(np.asarray(values).reshape(-1)[place])
        for values in (at.case.numbers, at.theirs.decoded, at.defined.decoded)
    )
    return spell_block(block) + context, x, theirs, ours
