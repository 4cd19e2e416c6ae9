"""What judging block formats finds: frozen values, and the lines they print as."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kbit_ref.conformance.ranking import Ranking
from kbit_ref.conformance.verdict import worst

__all__ = ["Example", "Kind", "PartVerdict", "Row", "Special"]


@dataclass(frozen=True)
class Example:
    """The simplest block that shows a difference.

    Parameters
    ----------
    source
        The format of the input.
    block
        The numbers, `[1, 0 x 63]`.
    at
        Which element of the block (for codes and decoded numbers), and its bits and value.
    theirs, ours
        Both answers.
    steps
        Why ours is what it is.
    """

    source: str
    block: str
    at: str
    theirs: str
    ours: str
    steps: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [("block", f"{self.block}  ({self.source})")]
        rows += [("at", self.at)] if self.at else []
        rows += [("theirs", self.theirs), ("ours", self.ours)]
        rows += [("why" if i == 0 else "", step) for i, step in enumerate(self.steps)]
        return "\n".join(f"{name:<7} {text}" for name, text in rows)

    @property
    def line(self) -> str:
        """All of it in one line, for a table."""
        return f"{self.where}: theirs {self.theirs}, ours {self.ours}"

    @property
    def where(self) -> str:
        """The block and the place in it, in a line."""
        return f"{self.block} ({self.source})" + (f" at {self.at}" if self.at else "")


@dataclass(frozen=True)
class Kind:
    """All values of a part that differ for one reason, and the simplest of them."""

    cause: str  # `+arith=reciprocal`, `sign of zero`, `unexplained`, ...
    why: str
    count: int
    example: Example | None
    link: str = ""  # where a known difference is on record; empty if it is none

    def __str__(self) -> str:
        head = f"{self.count:,} x {self.cause}: {self.why}" + (f"\nknown: {self.link}" if self.link else "")
        return head if self.example is None else "\n".join([head, *(f"  {e}" for e in str(self.example).splitlines())])


@dataclass(frozen=True)
class PartVerdict:
    """One part of one profile."""

    part: str
    tried: int
    kinds: tuple[Kind, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """`agree`, `known`, `disagree` or `error`."""
        if self.errors:
            return "error"
        if not self.kinds:
            return "agree"
        return "known" if all(kind.link for kind in self.kinds) else "disagree"

    @property
    def different(self) -> int:
        """How many values differ for no known reason."""
        return sum(kind.count for kind in self.kinds if not kind.link)


@dataclass(frozen=True)
class Special:
    """What becomes of one NaN, or one infinity, in a block.

    Parameters
    ----------
    number, source
        `nan` or `inf`; the format of the input.
    word, does
        In one word, for a table: `raises`, `NaN` (it alone), `zero`, `number`, `block` (all of it),
        `spreads` (to other blocks), `other`, `mixed`; and in a sentence.
    status
        `agree` or `disagree` where the profile says what must happen, else `told`.
    choice
        The named choice that gives all of theirs, if one does: `+nan=code`.
    """

    number: str
    source: str
    word: str
    does: str
    status: str
    choice: str = ""


@dataclass(frozen=True)
class Row:
    """One profile of a library: the verdict on each of its parts."""

    library: str
    version: str
    profile: str
    spelling: str
    theirs: str
    parts: tuple[PartVerdict, ...]
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    specials: tuple[Special, ...] = field(default=())
    ranking: Ranking | None = None

    @property
    def status(self) -> str:
        """The worst of the parts; no part at all is an error."""
        if self.errors or not self.parts:
            return "error"
        judged = [special.status for special in self.specials if special.status != "told"]
        return worst([*(part.status for part in self.parts), *judged])

    def special(self, number: str) -> Special | None:
        """What becomes of NaN or infinity, from the first source."""
        return next((special for special in self.specials if special.number == number), None)

    @property
    def tried(self) -> int:
        """How many values were compared."""
        return sum(part.tried for part in self.parts)

    @property
    def agree(self) -> bool:
        """Does everything agree, but for known differences?"""
        return self.status in ("agree", "known")

    @property
    def different(self) -> int:
        """How many values differ for no known reason."""
        return sum(part.different for part in self.parts)

    @property
    def differences(self) -> tuple[Kind, ...]:
        """Of all parts."""
        return tuple(kind for part in self.parts for kind in part.kinds)

    def part(self, name: str) -> PartVerdict | None:
        """The verdict on the part of that name, if it was judged."""
        return next((part for part in self.parts if part.part == name), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        parts = [asdict(part) | {"status": part.status, "different": part.different} for part in self.parts]
        found = asdict(replace(self, ranking=None)) | {"status": self.status, "parts": parts}
        return found | {"ranking": None if self.ranking is None else self.ranking.as_dict()}

    def __str__(self) -> str:
        lines = [f"{self.spelling}: {self.status}", *(f"  error: {error}" for error in self.errors)]
        for part in self.parts:
            lines.append(f"  {part.part}  {part.tried:,} values: {part.status}")
            lines += [f"    {line}" for kind in part.kinds for line in str(kind).splitlines()]
        lines += [f"  {special.number} in a block ({special.source}): {special.does}" for special in self.specials]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines if self.ranking is None else [*lines, str(self.ranking)])
