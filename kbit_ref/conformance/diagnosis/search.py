"""Which hypothesis, or which two at once, give their answers.

Every hypothesis is run on what they were given, one at a time. If none gives all of their answers, the
mistakes are tried two at a time, then each after every choice and profile that changes something. What
two records of steps have in common is computed once (`Runner`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.diagnosis.evidence import Evidence, Score
from kbit_ref.conformance.diagnosis.fits import fits
from kbit_ref.conformance.diagnosis.hypotheses import (
    Hypothesis,
    composed,
    of_choices,
    of_layouts,
    of_mutants,
    of_profiles,
)
from kbit_ref.errors import KbitError
from kbit_ref.tensors.steps import Steps

__all__ = ["Account", "Found", "first_unexplained", "search"]

Array = NDArray[Any]
MOST_FOR_PAIRS = 3 << 12  # answers: pairs are some thousands of runs, for more of them a part is looked at first
SAMPLE = 1 << 12  # numbers of such a part
FEW = 12  # explanations of a part that are tried on all
FITTED = 4  # fits that are paired, too
MOST_KEPT = 1 << 16  # answers: what is computed once is kept for so many


@dataclass(frozen=True, eq=False)
class Account:
    """One hypothesis or two, and how many of their answers it gives."""

    parts: tuple[Hypothesis, ...]
    steps: Steps
    score: Score

    @property
    def name(self) -> str:
        """The names, in the order in which they are applied."""
        return " + ".join(part.name for part in self.parts)

    @property
    def why(self) -> str:
        """Completes "equal the reference if ..."."""
        return ", and ".join(part.why for part in self.parts)

    @property
    def other(self) -> bool:
        """Is it nothing but another choice, or another format?"""
        return all(part.kind in ("choice", "profile") for part in self.parts)

    @property
    def order(self) -> tuple[int, ...]:
        """The most answers first, then the simplest."""
        ranks, costs = sum(part.rank for part in self.parts), sum(part.cost for part in self.parts)
        return (-self.score.alike, -self.score.exact, len(self.parts), ranks, costs)


@dataclass
class Found:
    """What a search has found.

    Parameters
    ----------
    made
        What the reference makes.
    score
        How many answers are those of the reference.
    accounts
        The best first; if some give all answers, only those that do so as exactly as the first.
    tried
        How many hypotheses and pairs were run.
    """

    made: dict[str, Array]
    score: Score
    accounts: list[Account] = field(default_factory=list)
    tried: int = 0


def search(e: Evidence) -> Found:
    """The accounts of their answers, the best first."""
    made = e.made_by(e.steps)
    found = Found(made, e.score(made))
    if found.score.exact == e.size or _by_part(e, found):
        return found
    work = _Search(e, found)
    source = "float32" if e.x is None else e.x.dtype.name
    mistakes = work.singles([*of_mutants(), *of_layouts(e.scheme)])
    choices = work.singles([*of_choices(e.scheme, source), *of_profiles(e.scheme, source)])
    if found.score.alike == e.size:  # only signs of zeros are wrong, which one mistake explains, or none
        found.accounts = [account for account in found.accounts if account.score.exact == e.size]
    elif work.complete and not work.exact:  # and a second one about zeros?
        work.pairs(work.completing(), _usual(mistakes))
    elif not work.complete:
        fitted = work.singles(fits(e))  # which explain with numbers of their own: two named mistakes may do without
        enough = work.completing()
        work.pairs([*_usual(mistakes), *(fit for fit in fitted[:FITTED] if fit not in enough)], _usual(mistakes))
        if not work.complete:
            work.after(choices, _usual(mistakes))
    found.accounts.sort(key=lambda account: account.order)
    if work.complete:
        best = found.accounts[0].score
        found.accounts = _without_doubles(e, [account for account in found.accounts if account.score == best])
    return found


def _without_doubles(e: Evidence, accounts: list[Account]) -> list[Account]:
    """A layout, a fit or a variant that makes, and stores, the same as an account before it says nothing new."""
    kept, seen = [], set()
    for account in accounts:
        if e.runner is None:
            made = e.made_by(account.steps, keep=False)
        else:
            made = e.runner(account.steps, keep=False).parts()
        key = tuple((name, part.tobytes()) for name, part in made.items())
        if key not in seen or all(part.kind in ("mutant", "choice", "profile") for part in account.parts):
            kept.append(account)
        seen.add(key)
    return kept


def _by_part(e: Evidence, found: Found) -> bool:
    """Of very many answers: does what explains the first blocks explain all?"""
    part = e.part(SAMPLE) if e.size > MOST_KEPT else None
    if part is None or part.score(part.made_by(part.steps)).exact == part.size:
        return False
    some = search(part)
    found.tried = some.tried
    whole = [Account(a.parts, a.steps, e.score(e.made_by(a.steps, keep=False))) for a in some.accounts[:FEW]]
    found.accounts = sorted((a for a in whole if a.score.alike == e.size), key=lambda account: account.order)
    return bool(found.accounts)


def _usual(candidates: Iterable[Hypothesis]) -> list[Hypothesis]:
    """The mutants with their usual parameters."""
    return [candidate for candidate in candidates if candidate.kind == "mutant"]


class _Search:
    """The search in one piece of evidence."""

    def __init__(self, e: Evidence, found: Found):
        self.e, self.found = e, found
        self.keep = e.size <= MOST_KEPT
        most = MOST_FOR_PAIRS if e.x is not None else MOST_KEPT  # to read is quick
        self.sample = e if e.size <= most else e.part(SAMPLE)  # what pairs are tried on first
        self.best = Score(0, 0)  # of the pairs on the sample
        self.ours = {name: part.tobytes() for name, part in found.made.items()}

    @property
    def complete(self) -> bool:
        """Does some account give all answers, but perhaps for signs of zeros?"""
        return any(account.score.alike == self.e.size for account in self.found.accounts)

    @property
    def exact(self) -> bool:
        """Does some account give all answers to the bit?"""
        return any(account.score.exact == self.e.size for account in self.found.accounts)

    def completing(self) -> list[Hypothesis]:
        """Those that alone give all answers."""
        return [a.parts[0] for a in self.found.accounts if a.score.alike == self.e.size and len(a.parts) == 1]

    def singles(self, candidates: Iterable[Hypothesis]) -> list[Hypothesis]:
        """Run each alone; those that change something."""
        changing = []
        for candidate in candidates:
            steps = candidate(self.e.steps)
            if steps is not None and self.run((candidate,), steps, keep=self.keep):
                changing.append(candidate)
        return changing

    def pairs(self, firsts: list[Hypothesis], seconds: list[Hypothesis]) -> None:
        """Run each of the first with each of the second, no two of them twice."""
        done = set()
        for first, second in product(firsts, seconds):
            if first is second or (second.name, first.name) in done:
                continue
            done.add((first.name, second.name))
            for one, other, steps in composed(self.e.steps, first, second):
                self.run_both(one, other, steps)

    def after(self, choices: list[Hypothesis], mistakes: list[Hypothesis]) -> None:
        """Run every mistake on top of every choice that changes something, equal choices once."""
        for choice in self.distinct(choices):
            base = choice(self.e.steps)
            assert base is not None
            for mistake in mistakes:
                steps = mistake(base)
                if steps is not None:
                    self.run_both(choice, mistake, steps)

    def distinct(self, choices: list[Hypothesis]) -> list[Hypothesis]:
        """One of those that make the same."""
        seen: dict[tuple[bytes, ...], Hypothesis] = {}
        for choice in choices:
            steps = choice(self.e.steps)
            assert steps is not None
            made = self.e.made_by(steps, keep=self.keep)
            seen.setdefault(tuple(part.tobytes() for part in made.values()), choice)
        return list(seen.values())

    def run_both(self, first: Hypothesis, second: Hypothesis, steps: Steps) -> None:
        """Run two at once; of many answers on a part first, where no pair may have explained more."""
        if self.sample is None:
            return
        if self.sample is not self.e:
            try:
                score = self.sample.score(self.sample.made_by(steps, keep=False))
            except (KbitError, ValueError, IndexError):
                return
            if score < self.best:
                self.found.tried += 1
                return
            self.best = score
        self.run((first, second), steps, keep=False)

    def run(self, parts: tuple[Hypothesis, ...], steps: Steps, *, keep: bool) -> bool:
        """Run it, and note it if it gives more answers than the reference; did it change anything?"""
        self.found.tried += 1
        try:
            made = self.e.made_by(steps, keep=keep)
        except (KbitError, ValueError, IndexError):  # it has no answer, or none of that shape
            return False
        score = self.e.score(made)
        fitted = sum(part.cost for part in parts)  # numbers, which must explain more answers than they are
        if score > self.found.score and (not fitted or score.alike - self.found.score.alike > fitted):
            self.found.accounts.append(Account(parts, steps, score))
        return len(parts) > 1 or any(part.tobytes() != self.ours[name] for name, part in made.items())


def first_unexplained(e: Evidence, made: dict[str, Array]) -> tuple[str, tuple[int, ...]] | None:
    """The first answer that an account does not give: the part, and the index."""
    for name, good in e.equal(made).items():
        if name == "values":
            good = good | ((e.theirs[name] == 0) & (made[name].reshape(good.shape) == 0))
        if not good.all():
            at = int(np.flatnonzero(~good.reshape(-1))[0])
            return name, tuple(int(i) for i in np.unravel_index(at, good.shape))
    return None
