"""What `check` finds: frozen values that print as a few readable lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kbit_ref.conformance.ranking import Ranking

__all__ = ["Counterexample", "Difference", "Report", "Verdict"]

WORST = ("agree", "known", "disagree", "error")


@dataclass(frozen=True)
class Counterexample:
    """One input, both answers, and why ours is what it is, step by step."""

    source: str  # the format of the input, or `codes`
    bits: str  # of the input, hexadecimal
    value: str
    theirs: str
    ours: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        rows = [("input", f"{self.bits} = {self.value}  ({self.source})")]
        rows += [("theirs", self.theirs), ("ours", self.ours)]
        rows += [("why" if i == 0 else "", step) for i, step in enumerate(self.steps)]
        return "\n".join(f"{name:<7} {text}" for name, text in rows)

    @property
    def where(self) -> str:
        """The input, in a line."""
        return f"{self.bits} = {self.value} ({self.source})"


@dataclass(frozen=True)
class Difference:
    """All values that differ for one reason, and the simplest of them."""

    cause: str  # `unexplained`, or the choice that gives their answers
    why: str
    count: int
    example: Counterexample
    link: str = ""  # where a known difference is on record; empty if it is none

    @property
    def known(self) -> bool:
        """Is it declared by the adapter, with its source?"""
        return bool(self.link)

    def __str__(self) -> str:
        head = f"{self.count:,} x {self.cause}: {self.why}"
        if self.known:
            head += f"\nknown: {self.link}"
        return head + "\n" + "\n".join("  " + line for line in str(self.example).splitlines())


@dataclass(frozen=True)
class Verdict:
    """One type, one direction, one source format."""

    dtype: str
    what: str  # encode or decode
    source: str  # float32, ..., or codes
    tried: int  # values compared; 0 if there was nothing to compare
    differences: tuple[Difference, ...] = ()
    errors: tuple[str, ...] = ()
    nan_left_out: int = 0
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """`agree`, `known` (differences, all of them declared), `disagree` or `error`."""
        if self.errors:
            return "error"
        if not self.differences:
            return "agree"
        return "known" if all(d.known for d in self.differences) else "disagree"

    @property
    def different(self) -> int:
        """How many values differ for no known reason."""
        return sum(d.count for d in self.differences if not d.known)

    def __str__(self) -> str:
        head = f"{self.dtype}  {self.what} {self.source}  {self.tried:,} values: {self.status}"
        if self.status == "disagree":
            head += f", {self.different:,} differ"
        if self.nan_left_out:
            head += f"  ({self.nan_left_out:,} NaN left out: the type has none)"
        parts = [*(f"error: {error}" for error in self.errors), *map(str, self.differences)]
        parts += [f"note: {note}" for note in self.notes]
        return "\n".join([head, *("  " + line for part in parts for line in part.splitlines())])


@dataclass(frozen=True)
class Report:
    """The verdicts on one function, or on one library; `print` it.

    Attributes
    ----------
    agree
        True if every verdict is `agree` or `known`.
    differences
        Those of all verdicts.
    ranking
        The rivals, if they were asked for.
    """

    verdicts: tuple[Verdict, ...]
    name: str = ""
    errors: tuple[str, ...] = field(default=())
    ranking: Ranking | None = None

    @property
    def status(self) -> str:
        """The worst of the verdicts."""
        if self.errors or not self.verdicts:
            return "error"
        return worst([v.status for v in self.verdicts])

    @property
    def agree(self) -> bool:
        """Does everything agree, but for known differences?"""
        return self.status in ("agree", "known")

    @property
    def tried(self) -> int:
        """How many values were compared."""
        return sum(v.tried for v in self.verdicts)

    @property
    def different(self) -> int:
        """How many of them differ for no known reason."""
        return sum(v.different for v in self.verdicts)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Of all verdicts."""
        return tuple(d for v in self.verdicts for d in v.differences)

    def __str__(self) -> str:
        lines = [*(f"error: {error}" for error in self.errors), *map(str, self.verdicts)]
        return "\n".join(lines if self.ranking is None else [*lines, str(self.ranking)])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        verdicts = [asdict(v) | {"status": v.status, "different": v.different} for v in self.verdicts]
        found = {"name": self.name, "status": self.status, "errors": list(self.errors), "verdicts": verdicts}
        return found if self.ranking is None else found | {"ranking": self.ranking.as_dict()}


def worst(statuses: Sequence[str]) -> str:
    """The worst of several statuses.

    Examples
    --------
    >>> worst(["agree", "known", "agree"])
    'known'
    """
    return max(statuses, key=WORST.index, default="agree")
