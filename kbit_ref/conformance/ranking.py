"""`Conforms to X, not to Y`: rival definitions, each with the first input at which an implementation parts from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

__all__ = ["Ranked", "Ranking", "ranked"]

SHOWN = 12  # rivals in a text; all are in the JSON


class Example(Protocol):
    """A counterexample."""

    @property
    def where(self) -> str:
        """The input, in a line."""

    @property
    def theirs(self) -> str:
        """Their answer."""

    @property
    def ours(self) -> str:
        """What the definition says."""


@dataclass(frozen=True)
class Ranked:
    """One rival definition.

    Parameters
    ----------
    name, spelling
        Its name, and what it spells as.
    tried, differing
        Values compared, and how many of them are others than its own.
    example
        The first input at which they part; None if they do not.
    same
        Other rivals that give the same answers to everything that was asked.
    left_out
        Blocks that it has no answer for.
    misfit
        Why nothing could be compared: a part too many, another size.
    """

    name: str
    spelling: str
    tried: int
    differing: int
    example: Example | None = None
    same: tuple[str, ...] = ()
    left_out: int = 0
    misfit: str = ""

    @property
    def conforms(self) -> bool:
        """Is every answer its own?"""
        return self.tried > 0 and not self.differing and not self.misfit

    @property
    def first(self) -> str:
        """The first input at which they part, their answer and its own; empty if there is none."""
        e = self.example
        return "" if e is None else f"{e.where}: theirs {e.theirs}, its {e.ours}"

    @property
    def line(self) -> str:
        """`name (the same here: ...): 12 of 100 values differ, first ...`."""
        head = self.name + _same(self.same)
        if self.misfit:
            return f"{head}: {self.misfit}"
        left = f", {self.left_out:,} blocks left out" if self.left_out else ""
        if self.conforms:
            return f"{head}: {self.tried:,} values{left}"
        first = f"; first {self.first}" if self.first else ""
        return f"{head}: {self.differing:,} of {self.tried:,} values differ{left}{first}"


@dataclass(frozen=True)
class Ranking:
    """Rivals, the nearest first; `print` it.

    Attributes
    ----------
    conforms
        The names of those whose answers all are theirs.
    """

    rivals: tuple[Ranked, ...]

    @property
    def conforms(self) -> tuple[str, ...]:
        """The names of those that it conforms to."""
        return tuple(name for each in self.rivals if each.conforms for name in (each.name, *each.same))

    def __str__(self) -> str:
        return "\n".join(self.lines(SHOWN))

    def lines(self, most: int) -> list[str]:
        """As text, with so many of those that it does not conform to."""
        good = [each for each in self.rivals if each.conforms]
        others = [each for each in self.rivals if not each.conforms]
        found = [f"conforms to  {each.line}" for each in good]
        if not good:
            found.append("conforms to none of these; the nearest comes first")
        found += [f"not to       {each.line}" for each in others[:most]]
        if len(others) > most:
            found.append(f"             and to {len(others) - most} more not (--json has all)")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rivals = []
        for each in self.rivals:
            rivals.append(asdict(each) | {"example": each.first, "conforms": each.conforms})
        return {"conforms": list(self.conforms), "rivals": rivals}


def ranked(rivals: Sequence[Ranked]) -> Ranking:
    """In order: fewer differences, fewer blocks left out, the shorter spelling."""
    key = [(bool(each.misfit), each.differing, each.left_out, len(each.spelling), each.name) for each in rivals]
    order = sorted(range(len(rivals)), key=key.__getitem__)
    return Ranking(tuple(rivals[i] for i in order))


def _same(names: Sequence[str], most: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f" (the same here: {', '.join(names[:most])}{more})"
