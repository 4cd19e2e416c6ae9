"""Compare the answers of libraries to the same inputs, pair by pair.

Each group has one set of inputs: for data types the levels, midpoints and their neighbours; for
block formats the blocks of all formats of the group. Which answers are right is no matter here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Group", "Member", "Pair", "group_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Member:
    """One library under one name of its own, and its answers.

    Parameters
    ----------
    answers
        For each of the inputs an array of words, two of which are equal if the answers are; or the
        reason why there is none.
    """

    name: str
    answers: tuple[Array | str, ...]

    def word(self, at: int, index: Any) -> Any:
        """Return one word of an answer that is there."""
        answer = self.answers[at]
        assert not isinstance(answer, str)
        return answer[index]


@dataclass(frozen=True)
class Pair:
    """Two members, by number: how many answers both gave, how many differ, and how many only in the sign of a zero."""

    first: int
    second: int
    tried: int
    differing: int
    zeros: int = 0
    example: str = ""


@dataclass(frozen=True)
class Group:
    """Members with answers to the same inputs, and all pairs of them."""

    name: str
    kind: str  # type or blocks
    members: tuple[str, ...]
    pairs: tuple[Pair, ...]
    missing: tuple[str, ...] = ()  # who gave no answer to what, and why

    @property
    def alike(self) -> list[list[str]]:
        """Return the members in sets that agree with each other in everything; alone if nobody does."""
        apart = {(p.first, p.second) for p in self.pairs if p.differing or not p.tried}
        sets: list[list[int]] = []
        for i in range(len(self.members)):
            home = next((each for each in sets if all((j, i) not in apart for j in each)), None)
            if home is None:
                sets.append([i])
            else:
                home.append(i)
        return [[self.members[i] for i in each] for each in sets]

    def pair(self, i: int, j: int) -> Pair | None:
        """Return the pair of two members, in either order."""
        return next((p for p in self.pairs if (p.first, p.second) == (min(i, j), max(i, j))), None)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; a pair is `[first, second, tried, differing, zeros, example]`."""
        pairs = [[p.first, p.second, p.tried, p.differing, p.zeros, p.example] for p in self.pairs]
        return {
            "name": self.name,
            "kind": self.kind,
            "members": list(self.members),
            "pairs": pairs,
            "alike": self.alike,
            "missing": list(self.missing),
        }

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Group:
        """Return the inverse of `as_dict`."""
        pairs = tuple(Pair(*each) for each in found["pairs"])
        return cls(found["name"], found["kind"], tuple(found["members"]), pairs, tuple(found["missing"]))


Example = Callable[[int, NDArray[np.bool_], Member, Member], str]  # which input, where, and the two
Zeros = Callable[[Array], NDArray[np.bool_]]


def group_of(name: str, kind: str, members: Sequence[Member], zeros: Zeros, example: Example) -> Group:
    """Compare all pairs.

    Parameters
    ----------
    zeros
        Which words are zeros, of either sign.
    example
        The simplest input of those that differ, in a line.
    """
    names = tuple(member.name for member in members)
    return Group(name, kind, names, tuple(_pairs(members, zeros, example)), tuple(_missing(members)))


def _missing(members: Sequence[Member]) -> Iterator[str]:
    for member in members:
        reasons = [answer for answer in member.answers if isinstance(answer, str)]
        if reasons:
            yield f"{member.name}: no answer to {len(reasons)} of {len(member.answers)} inputs: {reasons[0]}"


def _pairs(members: Sequence[Member], zeros: Zeros, example: Example) -> Iterator[Pair]:
    for (i, a), (j, b) in combinations(enumerate(members), 2):
        tried = differing = signs = 0
        said = ""
        for at, (mine, yours) in enumerate(zip(a.answers, b.answers, strict=True)):
            if isinstance(mine, str) or isinstance(yours, str):
                continue
            wrong = mine != yours
            only_sign = wrong & zeros(mine) & zeros(yours)
            tried, differing, signs = tried + mine.size, differing + int(wrong.sum()), signs + int(only_sign.sum())
            most = wrong & ~only_sign
            if most.any() and (not said or said.startswith("-")):
                said = example(at, most, a, b)
            elif wrong.any() and not said:
                said = "-" + example(at, wrong, a, b)  # only the sign of a zero, so far
        yield Pair(i, j, tried, differing, signs, said.removeprefix("-"))
