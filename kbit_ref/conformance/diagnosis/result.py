"""`Diagnosis`: what was found, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kbit_ref.conformance.diagnosis.evidence import NAMES, Evidence, Score
from kbit_ref.conformance.diagnosis.search import Account, Found
from kbit_ref.conformance.diagnosis.settle import Settling, plain
from kbit_ref.explanation import Explanation

__all__ = ["Diagnosis", "Member", "Unexplained", "sentence"]

SHOWN = 8  # members of a class that are told


@dataclass(frozen=True)
class Member:
    """One explanation of a class: its names, what is wrong, where it happened, whether it is only a choice."""

    name: str
    why: str
    sources: tuple[str, ...]
    harmless: bool


@dataclass(frozen=True)
class Unexplained:
    """The first answer that is not explained, taken apart.

    Parameters
    ----------
    part, index
        Which answer.
    ours, theirs
        The two numbers there; ours is None where the best explanation stores no such part.
    level
        What theirs is in units of its scale, and the code of that level; None where it is none.
    explanation
        The element step by step, as the scheme means it; None if no array was given.
    """

    part: str
    index: tuple[int, ...]
    ours: float | None
    theirs: float
    level: tuple[float, int | None] | None
    explanation: Explanation | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = None if self.explanation is None else self.explanation.as_dict()
        numbers = {"ours": None if self.ours is None else plain(self.ours), "theirs": plain(self.theirs)}
        return {"part": self.part, "index": list(self.index)} | numbers | {"explanation": told}

    def __str__(self) -> str:
        place = f"{self.part}[{', '.join(map(str, self.index))}]" if self.index else self.part
        expected = "none" if self.ours is None else f"{self.ours:.9g}"
        return f"{place} is {self.theirs:.9g}, {expected} was expected"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What is wrong with an implementation. `print` it, or take `as_dict()` for JSON.

    Parameters
    ----------
    scheme
        What it should have done.
    verdict
        `agrees`; `zeros`: only signs of zeros are other ones; `choice`: all answers are those of another choice or
        profile, which is no mistake in itself; `mistake`: all are those of a mistake; `partly`: more than the
        reference gives; `unexplained`.
    sentence
        One sentence.
    members
        The explanations that give the same answers here, the first one told in the sentence.
    explained, as_it_is, total
        Answers that the first explanation gives; that the reference gives; all.
    first
        The first answer that is not explained, or None.
    settle
        An input that tells the first two members apart, or None.
    tried
        How many explanations were tried.
    """

    scheme: str
    verdict: str
    sentence: str
    members: tuple[Member, ...]
    explained: int
    as_it_is: int
    total: int
    first: Unexplained | None
    settle: Settling | None
    tried: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the members."""
        return tuple(member.name for member in self.members)

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings."""
        first = None if self.first is None else self.first.as_dict()
        settle = None if self.settle is None else self.settle.as_dict()
        members = [vars(member) | {"sources": list(member.sources)} for member in self.members]
        counts = {"explained": self.explained, "as_it_is": self.as_it_is, "total": self.total, "tried": self.tried}
        named = {"scheme": self.scheme, "verdict": self.verdict, "sentence": self.sentence}
        return named | counts | {"members": members, "first": first, "settle": settle}

    def __str__(self) -> str:
        lines = [self.sentence]
        for i, member in enumerate(self.members[:SHOWN]):
            lines.append(f"  {'it is' if i == 0 else 'or   '}  {member.name}: {', '.join(member.sources)}".rstrip(": "))
            if i:
                lines.append(f"         {member.why}")
        if len(self.members) > SHOWN:
            lines.append(f"         and {len(self.members) - SHOWN} more that give the same here")
        if self.settle is not None:
            lines.append(f"  to tell them apart  {self.settle}")
        if self.first is not None:
            lines += self._first_lines(self.first)
        return "\n".join(lines)

    def _first_lines(self, first: Unexplained) -> list[str]:
        lines = [f"  first that differs  {first}"]
        if first.level is not None:
            level, code = first.level
            told = "which is no level" if code is None else f"which is code {code}"
            lines.append(f"  theirs              {level:.9g} times the scale, {told}")
        if first.explanation is not None:
            lines += ["  as it should be:", *(f"    {line}" for line in str(first.explanation).splitlines())]
        return lines


def counted(e: Evidence, n: int | None = None) -> str:
    """`all 4,096 values and 128 scales`, or `4,000 of 4,096 values`."""
    if n is not None:
        name = NAMES[next(iter(e.theirs))][1] if len(e.theirs) == 1 else "answers"
        return f"{n:,} of {e.size:,} {name}"
    parts = [f"{part.size:,} {NAMES[name][part.size != 1]}" for name, part in e.theirs.items()]
    return "all " + (" and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0])


def sentence(e: Evidence, found: Found, verdict: str, first: Unexplained | None) -> str:
    """The one sentence."""
    if verdict == "agrees":
        return f"{counted(e)} equal the reference"
    if verdict == "zeros":
        why = f" {found.accounts[0].why}" if found.accounts else ""
        return f"{counted(e)} equal the reference{_zeros(found.score)}{why}".removesuffix(",")
    if verdict == "unexplained":
        known = "nothing that is known explains the others"
        return f"{counted(e, found.score.alike)} equal the reference, {known}; the first: {first}"
    best = found.accounts[0]
    if verdict == "partly":
        text = f"{counted(e, best.score.alike)} equal the reference ({found.score.alike:,} as it is) if {best.why}"
        return f"{text}; the first that does not: {first}"
    text = f"{counted(e)} equal the reference{_zeros(best.score)} if {best.why}"
    if verdict == "choice":
        harmless = [account.name for account in found.accounts if account.other]
        text += f"; that is {_some(harmless)}, another choice and no mistake in itself"
    return text


def _zeros(score: Score) -> str:
    """What is said of zeros with the other sign."""
    wrong = score.alike - score.exact
    return f", but for the signs of {wrong:,} zero{'s' * (wrong != 1)}," if wrong else ""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def member(account: Account, e: Evidence) -> Member:
    """An account, told."""
    sources = tuple(dict.fromkeys(part.source for part in account.parts if part.source))
    return Member(account.name, account.why, sources, account.other and e.x is not None)
