"""Search for the hypotheses, alone or two at once, that explain the answers that differ.

Every hypothesis is run on a sample of what they were given; what explains something there is run on all of it.
An account is worth the answers that it explains, less those that it would break. If one gives all, that is it;
else the best comes first, then the best for what it leaves, until nothing is worth its place. What is left
then is tried with two hypotheses at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.diagnosis.evidence import (
    ALIKE,
    EXACT,
    NONE,
    ODD,
    OTHER,
    WRONG,
    Evidence,
    Grades,
    Piece,
    changes,
)
from kbit_ref.conformance.diagnosis.fits import fits
from kbit_ref.conformance.diagnosis.hypotheses import Hypothesis, composed, hypotheses
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import Steps, Stored

__all__ = ["Account", "Chosen", "Found", "gained", "search"]

Flags = NDArray[np.bool_]

VERIFIED = 8  # accounts that are run on all answers in a round
FITTED, OTHERS = 4, 8  # fits that are paired; choices and profiles that mistakes are tried after
ENOUGH = 0.5  # of the answers that an account changes must become theirs, else it is a coincidence
NEARLY = 0.95  # of all that differ must be explained by another format
CHARGE = 4  # as many times must an account explain what it would break
MOSTLY = 0.75  # of what is left must be explained by an account that would break anything
A_NUMBER = 0.02  # of all that differ must be explained by a fitted number
TABLE = 4  # fitted numbers: so many are a table
FEW = 0.02  # of all that differ: so many may be explained by chance where most are not
TINY = 768  # answers on which pairs are looked at first


@dataclass(frozen=True, eq=False)
class Account:
    """One hypothesis, or two in the order in which they are applied."""

    parts: tuple[Hypothesis, ...]

    def __call__(self, steps: Steps) -> Steps | None:
        """Return the steps if all of them hold."""
        made: Steps | None = steps
        for part in self.parts:
            made = None if made is None else part(made)
        return made

    @property
    def name(self) -> str:
        """Return the names, in the order in which they are applied."""
        return " + ".join(part.name for part in self.parts)

    @property
    def why(self) -> str:
        """Return the end of "they differ because ..."."""
        return ", and ".join(part.why for part in self.parts)

    @property
    def sources(self) -> tuple[str, ...]:
        """Return where it happened."""
        return tuple(dict.fromkeys(part.source for part in self.parts if part.source))

    @property
    def allowed(self) -> str:
        """Return who publishes all of it as a definition; empty if it is a mistake."""
        who = [part.allowed for part in self.parts]
        return " and ".join(dict.fromkeys(who)) if all(who) else ""

    @property
    def cost(self) -> int:
        """Return how many numbers were fitted."""
        return sum(part.cost for part in self.parts)

    @property
    def order(self) -> tuple[int, ...]:
        """Return a key for sorting, the simplest first."""
        return len(self.parts), sum(part.rank for part in self.parts), self.cost


class Score(NamedTuple):
    """The effect of an account on the answers."""

    explained: int  # of those that differ
    broken: int  # of those that agree
    changed: int  # in all


class Chosen(NamedTuple):
    """An account that is worth its place.

    `explained` are the answers that no account before it explains; `members` are the accounts that explain and
    break the same, itself first.
    """

    account: Account
    explained: Flags
    broken: int
    members: tuple[Account, ...]


@dataclass
class Found:
    """The result of a search.

    Parameters
    ----------
    chosen
        Accounts, the one that explains the most first.
    left
        Answers that none of them explains.
    zeros
        Answers that are zeros of the other sign, all accounts applied, and the account of them.
    weak
        The best of those that are not worth their place, and what it does.
    tried
        How many were run, by kind.
    """

    chosen: list[Chosen] = field(default_factory=list)
    left: Flags = field(default_factory=lambda: np.zeros(0, bool))
    weak: tuple[Account, Score] | None = None
    tried: dict[str, int] = field(default_factory=dict)


class _Trial:
    """An account, how much of a sample it explains, and perhaps what it does to all answers."""

    def __init__(self, account: Account, few: Grades, whole: Evidence, explained: int):
        self.account, self.few, self.whole, self.explained = account, few, whole, explained
        self.members: tuple[Account, ...] = ()

    @cached_property
    def grades(self) -> Grades:
        """Return how well it gives all answers."""
        return self.whole.grades(self.account)


def search(e: Evidence, prefer: Iterable[str] = ()) -> Found:
    """Search for what explains the answers, the most important first; of equal accounts, preferred names first."""
    work = _Search(e, frozenset(prefer))
    if work.left.any():
        every = [Account((hypothesis,)) for hypothesis in hypotheses(e)]
        work.stage(every, lambda: ())
        if work.left.any():
            work.stage(every, work.fits)
        work.doubt_tables()
        if work.left.any():
            work.stage(every, work.pairs)
    work.found.left = work.left & (e.ours == WRONG)
    work.without_coincidences()
    return work.found


class _Search:
    """The search in one piece of evidence."""

    def __init__(self, e: Evidence, prefer: frozenset[str]):
        self.e, self.prefer = e, prefer
        self.found = Found()
        self.wrong: Flags = (e.ours < EXACT) & (e.ours >= WRONG)  # zeros of the other sign among them
        self.left = self.wrong
        self.few: Evidence | None = None
        self.trials: list[_Trial] = []
        self.carried: dict[Account, _Trial] = {}  # that were chosen in an earlier stage

    def stage(self, every: Iterable[Account], more: Callable[[], Iterable[Account]]) -> None:
        """Run what may explain the answers that are left on a sample of them, and choose anew."""
        if self.few is None or self.found.chosen:
            self.few, self.trials = self.e.few(self.left), []
            for trial in self.carried.values():
                trial.few = self.few.grades(trial.account)
            self.run(every)
        self.run(more())
        self.cover()

    def run(self, accounts: Iterable[Account]) -> None:
        """Run them on the sample, and keep those that explain or change something."""
        assert self.few is not None
        for account in accounts:
            grades = self.few.grades(account)
            known = grades != NONE
            if known.any():
                kind = account.parts[0].kind if len(account.parts) == 1 else "pair"
                self.found.tried[kind] = self.found.tried.get(kind, 0) + 1
                if (known & (grades != self.few.ours)).any():
                    self.trials.append(_Trial(account, grades, self.e, int(gained(self.few.ours, grades).sum())))

    def doubt_tables(self) -> None:
        """Leave open what only an account of many fitted numbers explains: two mistakes may be a simpler one."""
        for one in self.found.chosen:
            if one.account.cost >= TABLE:
                self.left = self.left | (one.explained & self.wrong)

    def fits(self) -> Iterator[Account]:
        """Yield what the answers that are left propose."""
        assert self.few is not None
        if isinstance(self.e.subject, Scheme):
            yield from (Account((fit,)) for fit in fits(self.few, self.few.ours == WRONG))

    # The cover -----------------------------------------------------------------------------------------

    def cover(self) -> None:
        """Add the best account, then the best for what it leaves, until none is worth its place."""
        assert self.few is not None
        e, few, left = self.e, self.few, self.wrong
        left_few = (few.ours < EXACT) & (few.ours >= WRONG)
        found = self.found
        found.chosen, found.weak = [], None
        chosen: dict[Account, _Trial] = {}
        pool = [trial for trial in self.trials if trial.explained]
        while left.any():
            promising = self._promising(pool, left_few)
            ready = [*promising, *(trial for account, trial in self.carried.items() if account not in chosen)]
            ready.sort(key=lambda trial: self._order(trial.account, trial.grades, e, left))
            best = next((trial for trial in ready if self._earns(trial, left)), None)
            if best is None:
                if ready and not chosen:
                    found.weak = ready[0].account, _score(e.ours, ready[0].grades, left)
                break
            gain = gained(e.ours, best.grades)
            members = best.members or self._members(best)
            broken = _score(e.ours, best.grades, left).broken
            found.chosen.append(Chosen(best.account, gain & left, broken, members))
            left, left_few = left & ~gain, left_few & ~gained(few.ours, best.few)
            best.members = members
            chosen[best.account] = best
        self.left, self.carried = left, chosen

    def without_coincidences(self) -> None:
        """Drop accounts of very few answers where most stay unexplained: they are coincidences."""
        found, total = self.found, int(self.wrong.sum())
        if int(found.left.sum()) <= total / 2:
            return
        few = [c for c in found.chosen if int(c.explained.sum()) < FEW * total and c.account.name not in self.prefer]
        for one in few:
            found.left = found.left | (one.explained & (self.e.ours == WRONG))
            n = int(one.explained.sum())
            found.weak = found.weak or (one.account, Score(n, one.broken, n))
        found.chosen = [one for one in found.chosen if one not in few]

    def _promising(self, pool: list[_Trial], left: Flags) -> list[_Trial]:
        """Return those that do the most in the sample, and those that do the most in its whole arrays."""
        assert self.few is not None
        few = self.few
        found: dict[int, _Trial] = {}
        for some in (left, left & few.whole) if not few.whole.all() else (left,):
            pool.sort(key=lambda trial: self._order(trial.account, trial.few, few, some))
            found |= {id(trial): trial for trial in pool[:VERIFIED]}
        return list(found.values())

    def _members(self, best: _Trial) -> tuple[Account, ...]:
        """Return the accounts that do the same to all answers.

        A layout, a fit or a variant that makes, and stores, the same as an account before it says nothing new.
        """
        same = [trial for trial in self.trials if np.array_equal(trial.few, best.few)][: 2 * VERIFIED]
        same = [trial for trial in same if len(trial.account.parts) == len(best.account.parts)]
        accounts = [trial.account for trial in same if np.array_equal(trial.grades, best.grades)]
        accounts = [best.account, *sorted(set(accounts) - {best.account}, key=lambda account: account.order)]
        kept: list[Account] = []
        seen: set[Any] = set()
        for account in accounts if len(accounts) > 1 else ():
            made = self.few.everything(account) if self.few else ()
            if made not in seen or all(part.kind in ("cause", "mutant", "choice", "profile") for part in account.parts):
                kept.append(account)
            seen.add(made)
        return tuple(kept or accounts)

    def _order(self, account: Account, grades: Grades, e: Evidence, left: Flags) -> tuple[float, ...]:
        """Return a key for sorting: what explains the most first, then preferred names, then the simplest."""
        score = _score(e.ours, grades, left)
        numbers = account.cost * max(1.0, A_NUMBER * int(left.sum()))
        exact = int((grades == EXACT).sum())
        preferred = not self.prefer & {account.name}
        return (-(score.explained - score.broken - numbers), -exact, preferred, *account.order)

    def _earns(self, trial: _Trial, left: Flags) -> bool:
        """Return whether an account is worth its place."""
        score, account = _score(self.e.ours, trial.grades, left), trial.account
        if account.cost and score.explained <= account.cost * max(1.0, A_NUMBER * int(left.sum())):
            return False
        if any(part.kind == "profile" for part in account.parts) and score.explained < NEARLY * self.wrong.sum():
            return False
        if score.broken and score.explained < MOSTLY * int(left.sum()):
            return False
        enough = score.explained >= max(1, CHARGE * score.broken, 2 * (len(account.parts) - 1))
        return enough and score.explained >= ENOUGH * score.changed

    # Two at once ---------------------------------------------------------------------------------------

    def pairs(self) -> Iterator[Account]:
        """Yield each mistake with each other, then each after every choice and profile that explains something."""
        assert self.few is not None
        left = self.few.ours == WRONG
        for trial in self.carried.values():
            if trial.account.cost < TABLE:
                left &= ~gained(self.few.ours, trial.few)
        ready = _Tiny(self.few, left)
        single = [trial for trial in self.trials if len(trial.account.parts) == 1]
        known = {part: None for account in self.carried for part in account.parts}  # what is chosen already
        known |= {trial.account.parts[0]: None for trial in single}
        usual = [part for part in known if part.kind in ("mutant", "cause")]
        firsts = usual
        if isinstance(self.e.subject, Scheme):
            firsts = [*usual, *[t.account.parts[0] for t in single if t.account.parts[0].kind == "fit"][:FITTED]]
        else:
            firsts = [h for h in usual if changes(self.e.bases[0], h(self.e.bases[0])) == {"read"}]
        ready.remember([*usual, *firsts])
        for account in [*_two(self.e.bases[0], firsts, usual), *self._after(single, usual)]:
            if ready.promising(account):
                yield account

    def _after(self, single: list[_Trial], usual: list[Hypothesis]) -> Iterator[Account]:
        """Yield every mistake on top of the choices that explain the most."""
        choices = [t for t in single if t.account.parts[0].kind in ("choice", "profile") and t.explained]
        seen: set[bytes] = set()
        for trial in sorted(choices, key=lambda trial: -trial.explained):
            key = trial.few.tobytes()
            if key not in seen and len(seen) < OTHERS:
                seen.add(key)
                yield from (Account((trial.account.parts[0], mistake)) for mistake in usual)


class _Tiny:
    """A few pieces on which a pair must do as well as any before it."""

    def __init__(self, e: Evidence, left: Flags):
        pieces: list[Piece] = []
        size = 0
        for piece in sorted(e.where(left), key=lambda piece: piece.size):
            if not pieces or size + piece.size <= TINY:
                pieces.append(piece)
                size += piece.size
        self.e = Evidence(e.subject, tuple(pieces), e.kind)
        self.best = 1

    def remember(self, some: Iterable[Hypothesis]) -> None:
        """Compute what the writers of these make once: it is the same in each pair with a reader's mistake."""
        for piece in self.e.pieces:
            for hypothesis in some:
                made = hypothesis(piece.base)
                if made is not None and not isinstance(piece.given, Stored):
                    with suppress(*ODD), np.errstate(all="ignore"):
                        piece.make(made, True)

    def promising(self, account: Account) -> bool:
        """Return whether it explains as much as the best so far."""
        score = _score(self.e.ours, self.e.grades(account), self.e.ours < EXACT)
        gain = score.explained - score.broken
        if gain < self.best:
            return False
        self.best = gain
        return True


def _two(steps: Steps, firsts: list[Hypothesis], seconds: list[Hypothesis]) -> Iterator[Account]:
    """Yield each of the first with each of the second, no two of them twice."""
    done = set()
    for first, second in product(firsts, seconds):
        if first is not second and (second.name, first.name) not in done:
            done.add((first.name, second.name))
            yield from (Account(pair) for pair in composed(steps, first, second))


def gained(ours: Grades, grades: Grades) -> Flags:
    """Return where an account gives the answers and the reference does not."""
    return (grades > ours) & (ours >= WRONG) & (grades >= ALIKE)


def _score(ours: Grades, grades: Grades, left: Flags) -> Score:
    """Return what an account does to answers that differ and are left, and to those that agree."""
    explained = gained(ours, grades) & left
    broken = (ours >= ALIKE) & (grades == OTHER)
    if not (explained & (ours == WRONG)).any():  # only zeros, whose signs count then
        broken |= (ours == EXACT) & (grades == ALIKE)
    changed = explained | broken | (left & (grades == OTHER))
    return Score(int(explained.sum()), int(broken.sum()), int(changed.sum()))
