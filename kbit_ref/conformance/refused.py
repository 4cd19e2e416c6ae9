"""Judge blocks that a scheme has no answer for, such as those whose scale is too small to be stored.

There is nothing to be equal to, but decoding must come near x: the laws of departures are applied to what comes back.
What the format can hold is what the nearest scale that can be stored gives: what this loses too is no fault, and what
lies beyond it may come back as an infinity. Answers that a named choice gives (`scalerange=keep`: a scale too small is
0, and so is the block) are reported, and no disagreement: whoever claims the choice agrees, with a known fault.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.compare import Compared
from kbit_ref.conformance.definition import independent, reference
from kbit_ref.conformance.departures import EFFECTS, Departure
from kbit_ref.conformance.departures.find import LAWS, NAMES, effects_of
from kbit_ref.conformance.diagnosis.counterexample import Shrinker, complexity, spell_block
from kbit_ref.conformance.inputs.of_schemes import narrowed, shaped
from kbit_ref.conformance.reading import Refused, spelled
from kbit_ref.conformance.variants.choices import changed
from kbit_ref.conformance.verdict import REFUSED, Special
from kbit_ref.tensors.scales import scale_range
from kbit_ref.tensors.scheme import Scheme

__all__ = ["of_refused"]

Array = NDArray[Any]
NEAR, BEYOND, REPAIRS = "near", "beyond", (("scalerange", "clamp"), ("arith", "divide"))
CHOICES = (("scalerange", "keep"), ("scalerange", "zeroblock"), *REPAIRS)
BROKEN = LAWS[1:]  # that a profile has no answer is no law on an answer
TRIED = 64  # simple blocks that are asked about for the smallest example


@dataclass(frozen=True)
class _Block:
    """One block, and what became of it: the worst of the laws that it breaks, or `near`, or `beyond` the format."""

    effect: str
    number: int  # of the block, in its array
    numbers: Array
    at: float
    back: float
    ours: float  # by the nearest scale that can be stored


@dataclass
class _Seen:
    """The blocks of a source format, and the choices that give all of those that break a law."""

    blocks: list[_Block]
    choices: set[tuple[str, str]]


def of_refused(
    s: Scheme, compared: Sequence[Compared], shrinker: Shrinker, faults: Sequence[Departure] = ()
) -> tuple[tuple[Special, ...], Counter[str]]:
    """Say what is stored for blocks of finite numbers that the scheme refuses, and judge it; one for each source.

    Parameters
    ----------
    compared
        The arrays that there is an answer to.
    shrinker
        What asks about more of them.
    faults
        What is on record of the profile: a broken law that it has too is no disagreement.

    Returns
    -------
    What was found, and how many of the blocks are refused for which reason.
    """
    by_source: dict[str, _Seen] = {}
    reasons: dict[str, Counter[str]] = {}
    for one in compared:
        if not one.ours.refused.any() or not np.isfinite(one.case.numbers).all() or (back := _back(s, one)) is None:
            continue
        seen = by_source.setdefault(one.case.source, _Seen([], set(CHOICES)))
        reasons.setdefault(one.case.source, Counter()).update(one.ours.reasons)
        blocks = list(_blocks(s, one, back))
        seen.blocks += blocks
        some = [block.number for block in blocks if block.effect in BROKEN]
        seen.choices = {each for each in seen.choices if _gives(s, each, one, np.isin(one.index, some), back)}
    recorded = {fault.effect for fault in faults}
    found = []
    for source, seen in by_source.items():
        example = _example(s, source, seen.blocks, shrinker)
        found.append(_special(source, seen, tuple(reasons[source]), example, recorded))
    return tuple(found), sum(reasons.values(), Counter())


def _back(s: Scheme, one: Compared) -> Array | None:
    """Return what they decode, or what their codes and scales stand for, [*shape]."""
    return one.theirs.decoded if one.theirs.decoded is not None else spelled(s, one.case.words.shape, one.theirs)


def _nearest(s: Scheme) -> Scheme:
    """Return the scheme with the nearest scale that can be stored, and quotients, which no reciprocal can spoil."""
    for word in REPAIRS:
        s = changed(s, word) or s
    return s


def _gives(s: Scheme, choice: tuple[str, str], one: Compared, where: NDArray[np.bool_], back: Array) -> bool:
    """Return whether these numbers are what the scheme gives with another choice."""
    made = changed(s, choice)
    if made is None:
        return False
    ours = reference(made, one.case.words, one.case.source, decoded=True)
    return not ours.refused[one.index[where]].any() and bool(same(ours.decoded, back)[where].all())


def _blocks(s: Scheme, one: Compared, back: Array) -> Iterator[_Block]:
    """Yield what became of each block that is refused."""
    defined = reference(_nearest(s), one.case.words, one.case.source, decoded=True)
    theirs = replace(one.theirs.stored, decoded=back)
    x = one.case.numbers.astype(np.float64)
    largest = np.zeros(one.ours.refused.shape)
    np.maximum.at(largest, one.index, np.abs(x))
    effects = effects_of(s, x, one.index, largest[one.index], defined, theirs).reshape(-1)
    x, back, ours = (np.asarray(each, np.float64).reshape(-1) for each in (x, back, defined.decoded))
    scales, largest_scale = defined.blocks.get("scales", np.zeros(largest.shape)), scale_range(s)[1]
    order = np.argsort(one.index, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(one.index.reshape(-1), minlength=largest.size))
    for block in np.flatnonzero(one.ours.refused):
        mine = order[ends[block - 1] if block else 0 : ends[block]]
        most = mine[np.argmax(np.abs(x[mine]))]
        worst = mine[np.argmin(effects[mine])]
        effect = NAMES[effects[worst]] if effects[worst] < len(NAMES) else NEAR
        if effect not in BROKEN:
            effect = NEAR
        if defined.refused[block] or (abs(ours[most]) < abs(x[most]) and abs(scales[block]) == largest_scale):
            effect = BEYOND
        yield _Block(effect, int(block), one.case.numbers.reshape(-1)[mine], x[worst], back[worst], ours[worst])


def _example(s: Scheme, source: str, blocks: Sequence[_Block], shrinker: Shrinker) -> _Block | None:
    """Return the smallest block that breaks the worst law: of those compared, and of one number beside zeros."""
    worst = min((BROKEN.index(block.effect) for block in blocks if block.effect in BROKEN), default=None)
    if worst is None:
        return None
    shows = [block for block in blocks if block.effect == BROKEN[worst]]
    if independent(s):
        largest = {float(block.numbers[np.argmax(np.abs(block.numbers))]) for block in shows}
        numbers = sorted(largest, key=lambda x: complexity(np.array([x])))[:TRIED]
        simple = np.zeros((len(numbers), shrinker.size))
        simple[:, 0] = numbers
        with contextlib.suppress(Refused):
            one = shrinker.put(shaped(narrowed(simple, source), s, shrinker.multiple), source)
            back = _back(s, one)
            more = [] if back is None else _blocks(s, one, back)
            shows += [block for block in more if block.effect == BROKEN[worst]]
    return min(shows, key=lambda block: complexity(block.numbers))


def _special(source: str, seen: _Seen, reasons: tuple[str, ...], example: _Block | None, recorded: set[str]) -> Special:
    """Describe all of them in a sentence."""
    counts = Counter(block.effect for block in seen.blocks)
    broken = [name for name in BROKEN if counts[name]]
    choice = next((f"+{word}={value}" for word, value in CHOICES if broken and (word, value) in seen.choices), "")
    said = [f"{counts[name]:,} {name}" + (f" ({EFFECTS[name]})" if name == broken[0] else "") for name in broken]
    said += [f"{counts[NEAR]:,} come back as near as the format can"] if counts[NEAR] else []
    said += [f"{counts[BEYOND]:,} lie beyond the format"] if counts[BEYOND] else []
    does = f"{len(seen.blocks):,} blocks that are refused ({'; '.join(reasons)}): {', '.join(said)}"
    if example is not None:
        x, back, ours = map(_real, (example.at, example.back, example.ours))
        does += f"; smallest {spell_block(example.numbers)}: {x} comes back as {back}, by the nearest scale as {ours}"
    known = "no answer" in recorded or set(broken) <= recorded or bool(choice)
    status = ("told" if known else "disagree") if broken else "told" if counts[BEYOND] else "agree"
    return Special(REFUSED, source, broken[0] if broken else NEAR, does, status, choice)


def _real(value: float) -> str:
    """Spell a number in the fewest digits, of a float32 as such."""
    return str(np.float32(value) if np.float32(value) == value else value).removesuffix(".0")
