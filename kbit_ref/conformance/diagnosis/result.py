"""`Diagnosis`: the findings, and how they are spelled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.diagnosis.evidence import NAMES, Evidence
from kbit_ref.conformance.diagnosis.search import Account, Chosen, Found
from kbit_ref.conformance.diagnosis.settle import Settling, plain
from kbit_ref.explanation import Explanation

__all__ = ["Diagnosis", "Finding", "Group", "Member", "Unexplained", "finding", "sentence"]

SHOWN = 8  # members of a class that are told
NAMED = {  # how kinds of explanations are told
    "cause": "causes",
    "mutant": "mistakes",
    "variant": "mistakes",
    "layout": "layouts",
    "fit": "fits",
    "choice": "choices",
    "profile": "profiles",
    "pair": "pairs",
}


@dataclass(frozen=True)
class Member:
    """One explanation of a class: its names, what is wrong, where it happened, who publishes it as a definition."""

    name: str
    why: str
    sources: tuple[str, ...]
    allowed: str

    @property
    def harmless(self) -> bool:
        """Return whether it is another choice, and no mistake in itself."""
        return bool(self.allowed)


@dataclass(frozen=True, eq=False)
class Finding:
    """One explanation of some of the answers that differ.

    Parameters
    ----------
    members
        The accounts that give the same here, the one that is named first.
    explained, broken
        Answers that differ and have no explanation before this one; answers that agree, and would not.
    account
        What gives their answers, to be tried on others; it is left behind where a finding is sent to another process.
    """

    members: tuple[Member, ...]
    explained: int
    broken: int
    account: Account = field(repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the account, which is made of functions."""
        return {**vars(self), "account": None}

    @property
    def name(self) -> str:
        """Return the first name."""
        return self.members[0].name

    @property
    def why(self) -> str:
        """Return what is wrong."""
        return self.members[0].why

    @property
    def link(self) -> str:
        """Return where it happened; empty if we know of no place."""
        links = [source for member in self.members for source in member.sources if source.startswith("http")]
        return links[0] if links else ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        members = [{**vars(m), "sources": list(m.sources), "harmless": m.harmless} for m in self.members]
        return {"explained": self.explained, "broken": self.broken, "members": members}


@dataclass(eq=False)
class Group:
    """All answers of a part that differ for one reason.

    Parameters
    ----------
    part
        `codes`, `scales`, `decoded`, ...
    cause, why
        A name, and one line.
    finding
        What gives their answers, if that is known.
    where
        By the number of the array, which answers.
    """

    part: str
    cause: str
    why: str
    finding: Finding | None = None
    where: dict[int, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Return how many answers."""
        return sum(int(flags.sum()) for flags in self.where.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all that give the same."""
        return (self.cause,) if self.finding is None else tuple(member.name for member in self.finding.members)


@dataclass(frozen=True)
class Unexplained:
    """The first answer that is not explained, step by step.

    Parameters
    ----------
    part, index
        Which answer.
    ours, theirs
        The two numbers there; ours is None where the scheme stores no such part.
    level
        What theirs is in units of its scale, and the code of that level; None where it is none.
    explanation
        The element step by step, as the scheme means it; None if no array was given.
    """

    part: str
    index: tuple[int, ...]
    ours: float | None
    theirs: float
    level: tuple[float, int | None] | None = None
    explanation: Explanation | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        steps = None if self.explanation is None else self.explanation.as_dict()
        numbers = {"ours": None if self.ours is None else plain(self.ours), "theirs": plain(self.theirs)}
        return {"part": self.part, "index": list(self.index)} | numbers | {"explanation": steps}

    def __str__(self) -> str:
        place = f"{self.part}[{', '.join(map(str, self.index))}]" if self.index else self.part
        expected = "none" if self.ours is None else f"{self.ours:.9g}"
        return f"{place} is {self.theirs:.9g}, {expected} was expected"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The diagnosis of an implementation. `print` it, or use `as_dict()` for JSON.

    Parameters
    ----------
    scheme
        What it should have done.
    verdict
        `agrees`; `zeros`: only signs of zeros are other ones; `choice`: all answers are those of another choice or
        profile that somebody publishes as a definition; `mistake`: all are those of a mistake, or of several;
        `partly`: of some of those that differ; `unexplained`.
    sentence
        One sentence: how many answers differ, and why.
    findings
        The explanations, each of other answers, that of the most first.
    explained, as_it_is, total
        Answers that are explained, or equal the reference; that equal the reference; all.
    first
        The first answer that is not explained, or None.
    settle
        An input that tells the first two members of the first finding apart, or None.
    tried
        How many explanations of each kind were tried.
    groups
        All answers that differ, by part and reason, if they are those for arrays that have been compared.
    """

    scheme: str
    verdict: str
    sentence: str
    findings: tuple[Finding, ...]
    explained: int
    as_it_is: int
    total: int
    first: Unexplained | None
    settle: Settling | None
    tried: dict[str, int]
    groups: tuple[Group, ...] = field(default=(), repr=False)

    @property
    def members(self) -> tuple[Member, ...]:
        """Return the explanations of the first finding, which give the same answers."""
        return self.findings[0].members if self.findings else ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the members."""
        return tuple(member.name for member in self.members)

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings."""
        first = None if self.first is None else self.first.as_dict()
        settle = None if self.settle is None else self.settle.as_dict()
        findings = [each.as_dict() for each in self.findings]
        counts = {"explained": self.explained, "as_it_is": self.as_it_is, "total": self.total, "tried": self.tried}
        named = {"scheme": self.scheme, "verdict": self.verdict, "sentence": self.sentence}
        members = findings[0]["members"] if findings else []
        return named | counts | {"findings": findings, "members": members, "first": first, "settle": settle}

    def __str__(self) -> str:
        lines = [self.sentence]
        for each in self.findings:
            for i, member in enumerate(each.members[:SHOWN]):
                sources = f": {', '.join(member.sources)}" if member.sources else ""
                lines.append(f"  {'or   ' if i else 'it is'}  {member.name}{sources}")
                if i:
                    lines.append(f"         {member.why}")
            if len(each.members) > SHOWN:
                lines.append(f"         and {len(each.members) - SHOWN} more that give the same here")
        if self.settle is not None:
            lines.append(f"  to tell them apart  {self.settle}")
        if self.first is not None:
            lines += self._first_lines(self.first)
        return "\n".join(lines)

    def _first_lines(self, first: Unexplained) -> list[str]:
        lines = [f"  first that differs  {first}"]
        if first.level is not None:
            level, code = first.level
            what = "which is no level" if code is None else f"which is code {code}"
            lines.append(f"  theirs              {level:.9g} times the scale, {what}")
        if first.explanation is not None:
            lines += ["  as it should be:", *(f"    {line}" for line in str(first.explanation).splitlines())]
        return lines


def finding(chosen: Chosen) -> Finding:
    """Return an account that was chosen, for who reads it."""
    members = tuple(Member(m.name, m.why, m.sources, m.allowed) for m in chosen.members)
    return Finding(members, int(chosen.explained.sum()), chosen.broken, chosen.account)


def counted(e: Evidence) -> str:
    """Spell counts: `4,096 values and 128 scales`."""
    sizes: Counter[str] = Counter()
    for piece in e.pieces:
        sizes.update({name: part.size for name, part in piece.theirs.items()})
    parts = [f"{sizes[name]:,} {NAMES[name][sizes[name] != 1]}" for name in NAMES if sizes[name]]
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def sentence(e: Evidence, found: Found, findings: tuple[Finding, ...], verdict: str, first: Unexplained | None) -> str:
    """Return the one sentence."""
    if verdict == "agrees":
        return f"all {counted(e)} equal the reference"
    differ = int((e.ours != 2).sum())
    head = f"{differ:,} answer{' differs' if differ == 1 else 's differ'} (of {counted(e)})"
    left = int(found.left.sum())
    zeros = differ - left - sum(each.explained for each in findings)
    said = [f"because {each.why}{_about(each)}" for each in findings]
    if len(findings) == 1 and findings[0].explained == differ:
        return f"{head}, {'all ' if differ > 1 else ''}{said[0]}"
    texts = [f"{each.explained:,} {text}" for each, text in zip(findings, said, strict=True)]
    if zeros:
        texts.append(f"{zeros:,} in the sign of a zero alone")
    if left:
        tried = ", ".join(f"{n:,} {kind}" for kind, n in _by_kind(found.tried))
        unexplained = f"for no reason that is known ({tried} tried){_weak(found)}; the first: {first}"
        if left == differ:
            return f"{head}, {unexplained}"
        texts.append(f"{left:,} {unexplained}")
    return f"{head}: {'; '.join(texts)}"


def _about(each: Finding) -> str:
    """Return where it happened, or who publishes it; and what it does not fit."""
    texts = [each.name, *([each.link] if each.link else [])]
    broken = f"; {each.broken:,} that agree would not" if each.broken else ""
    allowed = next((member for member in each.members if member.harmless), None)
    if allowed is None:
        return f" ({', '.join(texts)}{broken})"
    same = "that" if allowed.name == each.name else allowed.name
    return f" ({', '.join(texts)}{broken}); {same} is another choice, of {allowed.allowed}, and no mistake in itself"


def _by_kind(tried: dict[str, int]) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for kind, n in tried.items():
        counts[NAMED[kind]] += n
    return list(counts.items())


def _weak(found: Found) -> str:
    """Return the account that comes nearest."""
    if found.weak is None:
        return ""
    account, score = found.weak
    return f"; {account.name} would explain {score.explained:,} of them, and break {score.broken:,} that agree"


def verdict_of(e: Evidence, found: Found, findings: tuple[Finding, ...], reads: bool) -> str:
    """In a word; a choice is no mistake of who quantizes, but it is of who reads given bytes."""
    if not (e.ours != 2).any():
        return "agrees"
    if found.left.any():
        return "partly" if findings else "unexplained"
    if not np.any(e.wrong):
        return "zeros"
    harmless = [any(member.harmless for member in each.members) for each in findings]
    return "choice" if all(harmless) and not reads else "mistake"
