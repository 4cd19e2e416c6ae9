"""How many bits of knowledge a model keeps in each of its own bits.

The world has 524,288 facts (subject, relation, object); an object is one of 256 words, drawn at random, so that a
fact is 8 bits, and nothing but the weights can hold it. If a model gives the object of fact f the probability p_f,
it spends -log2 p_f bits on it and saved 8 + log2 p_f: so much of the fact it knows.

Weighted, as facts are asked. Every fourth word of a window of `ask` is an object, the others have a floor that
needs no fact. A model's excess over the floor in `ask`, x nats a word, is at least a quarter of its loss on objects,
so the objects cost at most 4 x / log 2 bits, and of the bits that are asked for it knows at least

    share = 1 - 4 x / (8 log 2)

Counted. The subjects are Zipf-distributed: a model that knows the share s of what is asked knows at least as many
facts as the most frequent ones that make up s, and this many facts of 8 bits are counted. It is a lower bound
twice; `counted` asks for facts themselves and needs neither. No model can know more bits than it has: on the mean
over worlds, sum (8 + log2 p_f) <= I(weights; facts) <= total bits.

What few bits have damaged is sure of much that is wrong, and its loss says that it knows nothing. Two things tell
more. Who picks the object among m choices with probability a knows at least log2 m - h(a) - (1 - a) log2 (m - 1) bits
of it (Fano; h is the entropy of a yes or no), at most 2 of the 8: `share_by_choices`. And `counted` may read the
model at the temperature that suits it best: p_f ** (1 / t) over the 256 words. Both are below I(weights; facts), too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kbit_ref.errors import BadInput, message
from kbit_ref.study.bootstrap import Draws, Estimate, estimate
from kbit_ref.study.groups import Series, longest
from kbit_ref.study.rows import Result
from kbit_ref.transformer.evaluate import log_probabilities
from kbit_ref.transformer.world import ASK, N_CONTENT, N_RELATIONS, N_SEQ, RELATIONS, World

__all__ = [
    *("FACT", "N_FACTS", "Counted", "Knowledge", "counted", "knowledge", "known_facts"),
    *("share_by_choices", "share_of"),
]

Floats = NDArray[np.float64]
FACT = 8.0  # bits
N_FACTS = N_CONTENT * N_CONTENT * N_RELATIONS
PERIOD = 4  # words of an item of `ask`, one of them an object
TASK = "ask"
TEMPERATURES = (*np.geomspace(0.25, 16, 25), np.inf)  # 2**(1/4) apart; at the last nothing is known, and nothing lost


@dataclass(frozen=True)
class Knowledge:
    """What a size of model knows in one series.

    Parameters
    ----------
    size, series
        Which.
    total_bits
        Of the model.
    share
        Of the bits that are asked for, at least so many are known.
    facts
        At least so many facts.
    bits_per_bit
        Bits of facts for each bit of the model.
    share_by_questions
        The share of the facts asked for that is known by multiple choice: (4 accuracy - 1) / 3 of four; None without
        questions. It is no share of bits: a fact that is half known is often picked.
    share_by_choices
        Of the bits that are asked for, at least so many are known by multiple choice, a quarter at most (see above).
    """

    size: str
    series: Series
    total_bits: float
    share: Estimate
    facts: Estimate
    bits_per_bit: Estimate
    share_by_questions: Estimate | None
    share_by_choices: Estimate | None


def knowledge(results: Iterable[Result], *, n: int = 1000, seed: int = 0, **fixed: Any) -> list[Knowledge]:
    """A row for each size and series, by size.

    Parameters
    ----------
    results
        Of models that were judged on the world; of each size those count that saw the most tokens.
    n, seed
        How often items and seeds are drawn again.
    **fixed
        As in `groups`: `scope="all"`.

    Raises
    ------
    BadInput
        `knowledge: 12 results, none was judged on the facts of the world; run the study on it`
    """
    every = longest(results)
    rows = [row for row in every if TASK in row.nats and TASK in row.floors]
    if not rows:
        rule = "none was judged on the facts of the world"
        raise BadInput(message("knowledge", f"{len(every)} results", rule, "run the study on it"))
    draws = Draws(rows, f"excess:{TASK}", n, seed)
    asked = [row for row in rows if TASK in row.right]
    questions = Draws(asked, f"accuracy:{TASK}", n, seed)
    found = []
    for group in draws.groups_of(**fixed):
        share = share_of(draws[group])
        facts = known_facts(share)
        by_questions = by_choices = None
        if group in questions:
            chance = group.results[0].chances[TASK]
            by_questions = estimate((questions[group] - chance) / (1 - chance))
            by_choices = estimate(share_by_choices(questions[group], round(1 / chance)))
        bits = estimate(FACT * facts / group.total_bits)
        numbers = estimate(share), estimate(facts), bits, by_questions, by_choices
        found.append(Knowledge(group.size, group.series, group.total_bits, *numbers))
    return found


def share_of(excess: Any) -> Floats:
    """The share of the bits asked for that is known at least, from the excess of `ask` in nats a word; 0 to 1.

    Examples
    --------
    >>> float(share_of(0.0)), round(float(share_of(np.log(2))), 9), float(share_of(5.0))
    (1.0, 0.5, 0.0)
    """
    return np.asarray(np.clip(1 - PERIOD * np.asarray(excess) / (FACT * np.log(2)), 0, 1))


def share_by_choices(accuracy: Any, m: int = 4) -> Floats:
    """The share of the 8 bits of a fact that is known at least, from the accuracy among m choices.

    It is convex: the mean over questions of what each tells is no less than what their mean accuracy tells.

    Examples
    --------
    >>> share_by_choices([0.1, 0.25, 1.0]).tolist(), round(float(share_by_choices(0.625)), 4)
    ([0.0, 0.0, 0.25], 0.0564)
    """
    a = np.clip(np.asarray(accuracy, np.float64), 1 / m, 1)
    wrong = 1 - a
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(wrong > 0, wrong * np.log(wrong / (m - 1)), 0.0)
    return np.asarray((np.log(m) + a * np.log(a) + lost) / (FACT * np.log(2)))


def known_facts(share: Any) -> Floats:
    """How many of the most frequent facts make up a share of what is asked.

    Examples
    --------
    >>> known_facts([0.0, 1.0]).tolist()
    [0.0, 524288.0]
    """
    found: Floats = N_RELATIONS * np.interp(share, _mass(), np.arange(len(_mass())))
    return found


@lru_cache(maxsize=1)
def _mass() -> Floats:
    """[n_subjects + 1]: how probable it is that one of the 0, 1, 2, ... most frequent subjects is asked about."""
    world = World()
    mass = np.cumsum(np.sort(np.multiply.outer(world.first, world.second).ravel())[::-1])
    return np.concatenate([[0.0], mass / mass[-1]])


class _Model(Protocol):
    """What is asked: `transformer.Model`."""

    def forward(self, tokens: Any) -> NDArray[Any]:
        """Tokens [n_batch, n_seq] to logits [n_batch, n_seq, n_vocab]."""


@dataclass(frozen=True)
class Counted:
    """Bits of facts that a model knows, each fact asked for itself.

    Parameters
    ----------
    n_frequent, frequent
        So many of the most frequent facts, all of them asked, and the sum of 8 + log2 p_f over them, in bits.
    rest
        The same sum over all others, from a sample. What a model is sure of and wrong about counts against it, so
        this may be below zero, unless the temperature may be chosen.
    temperatures
        At which the model was read, for the frequent ones and for the others; 1 is as it is.
    """

    n_frequent: int
    frequent: float
    rest: Estimate
    temperatures: tuple[float, float] = (1.0, 1.0)


def counted(
    model: _Model, subjects: int = 1024, windows: int = 256, world: World | None = None, *, calibrated: bool = False
) -> Counted:
    """Ask a model for facts themselves, eight to a window.

    Parameters
    ----------
    model
        One of ours.
    subjects
        So many of the most frequent ones are asked for all eight relations.
    windows
        Of facts about the others, drawn evenly.
    world
        That the model was trained in; world 0 by default.
    calibrated
        Of `TEMPERATURES` that of the most bits counts, over the 256 words that an object may be: so that a model
        which few bits have damaged is not charged for being too sure.

    Raises
    ------
    BadInput
        `knowledge: subjects = 0, they are 1 to 65535; ask for some`
    """
    world = world or World()
    n_all = N_CONTENT * N_CONTENT
    if not 1 <= subjects < n_all or windows < 2:
        got = f"subjects = {subjects}, windows = {windows}"
        raise BadInput(message("knowledge", got, f"they are 1 to {n_all - 1}, and at least 2", "ask for some"))
    random = np.random.default_rng(9)
    order = np.argsort(-np.multiply.outer(world.first, world.second).ravel(), kind="stable")  # most frequent first
    often = random.permutation(np.repeat(order[:subjects], N_RELATIONS) * N_RELATIONS + _all_relations(subjects))
    seldom = order[subjects:][(random.random(windows * N_RELATIONS) * (n_all - subjects)).astype(np.intp)]
    drawn = seldom * N_RELATIONS + (random.random(len(seldom)) * N_RELATIONS).astype(np.intp)
    temperatures = np.array(TEMPERATURES if calibrated else [1.0])
    known = _saved(model, world, often, temperatures, calibrated).sum((1, 2))
    n_rest = N_FACTS - N_RELATIONS * subjects
    every = n_rest * _saved(model, world, drawn, temperatures, calibrated).mean(2)  # one for each window
    first, second = int(known.argmax()), int(every.mean(1).argmax())
    means = every[second]
    value, error = float(means.mean()), float(means.std(ddof=1) / np.sqrt(windows))
    rest = Estimate(value, error, value - 1.96 * error, value + 1.96 * error)
    at = float(temperatures[first]), float(temperatures[second])
    return Counted(N_RELATIONS * subjects, float(known[first]), rest, at)


def _all_relations(subjects: int) -> NDArray[np.intp]:
    """0 ... 7 for each subject."""
    return np.tile(np.arange(N_RELATIONS, dtype=np.intp), subjects)


def _saved(model: _Model, world: World, facts: NDArray[np.intp], temperatures: Floats, objects_alone: bool) -> Floats:
    """[n_temperatures, n_windows, 8]: 8 + log2 p of the object of each fact, over all words or the 256 objects alone.

    A fact is (first * 256 + second) * 8 + relation.
    """
    subject, relation = np.divmod(facts, N_RELATIONS)
    first, second = np.divmod(subject, N_CONTENT)
    items = np.stack([first, second, RELATIONS[relation], world.objects[first, second, relation]], axis=1)  # [n, 4]
    items = items.reshape(-1, N_SEQ)
    tokens = np.concatenate([np.full((len(items), 1), ASK), items], axis=1)  # [n_windows, 33]
    found = []
    for part in (tokens[i : i + 128] for i in range(0, len(tokens), 128)):
        logits = model.forward(part[:, :-1])[:, PERIOD - 1 :: PERIOD]  # [n, 8, n_vocab]
        wanted = logits[..., :N_CONTENT] if objects_alone else logits
        objects = part[:, PERIOD::PERIOD]
        found.append(np.stack([log_probabilities(wanted / t, objects) for t in temperatures]))
    return np.asarray(FACT + np.concatenate(found, axis=1) / np.log(2))
