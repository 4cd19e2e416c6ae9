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
from kbit_ref.world import ASK, N_CONTENT, N_RELATIONS, N_SEQ, RELATIONS, World

__all__ = ["FACT", "N_FACTS", "Counted", "Knowledge", "counted", "knowledge", "known_facts", "share_of"]

Floats = NDArray[np.float64]
FACT = 8.0  # bits
N_FACTS = N_CONTENT * N_CONTENT * N_RELATIONS
PERIOD = 4  # words of an item of `ask`, one of them an object
TASK = "ask"


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
        questions.
    """

    size: str
    series: Series
    total_bits: float
    share: Estimate
    facts: Estimate
    bits_per_bit: Estimate
    share_by_questions: Estimate | None


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
        by_questions = None
        if group in questions:
            chance = group.results[0].chances[TASK]
            by_questions = estimate((questions[group] - chance) / (1 - chance))
        bits = estimate(FACT * facts / group.total_bits)
        row = Knowledge(
            group.size, group.series, group.total_bits, estimate(share), estimate(facts), bits, by_questions
        )
        found.append(row)
    return found


def share_of(excess: Any) -> Floats:
    """The share of the bits asked for that is known at least, from the excess of `ask` in nats a word; 0 to 1.

    Examples
    --------
    >>> float(share_of(0.0)), round(float(share_of(np.log(2))), 9), float(share_of(5.0))
    (1.0, 0.5, 0.0)
    """
    return np.asarray(np.clip(1 - PERIOD * np.asarray(excess) / (FACT * np.log(2)), 0, 1))


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
        this may be below zero.
    """

    n_frequent: int
    frequent: float
    rest: Estimate


def counted(model: _Model, subjects: int = 1024, windows: int = 256, world: World | None = None) -> Counted:
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
    known = float(_saved(model, world, often).sum())
    n_rest = N_FACTS - N_RELATIONS * subjects
    means = n_rest * _saved(model, world, drawn).mean(1)  # one for each window
    value, error = float(means.mean()), float(means.std(ddof=1) / np.sqrt(windows))
    return Counted(N_RELATIONS * subjects, known, Estimate(value, error, value - 1.96 * error, value + 1.96 * error))


def _all_relations(subjects: int) -> NDArray[np.intp]:
    """0 ... 7 for each subject."""
    return np.tile(np.arange(N_RELATIONS, dtype=np.intp), subjects)


def _saved(model: _Model, world: World, facts: NDArray[np.intp]) -> Floats:
    """[n_windows, 8]: 8 + log2 p of the object of each fact; a fact is (first * 256 + second) * 8 + relation."""
    subject, relation = np.divmod(facts, N_RELATIONS)
    first, second = np.divmod(subject, N_CONTENT)
    items = np.stack([first, second, RELATIONS[relation], world.objects[first, second, relation]], axis=1)  # [n, 4]
    items = items.reshape(-1, N_SEQ)
    tokens = np.concatenate([np.full((len(items), 1), ASK), items], axis=1)  # [n_windows, 33]
    found = [
        log_probabilities(model.forward(part[:, :-1]), part[:, 1:])[:, PERIOD - 1 :: PERIOD]
        for part in (tokens[i : i + 128] for i in range(0, len(tokens), 128))
    ]
    return np.asarray(FACT + np.concatenate(found) / np.log(2))
