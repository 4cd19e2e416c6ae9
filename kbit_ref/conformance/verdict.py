"""Represent verdicts, whatever is judged: frozen values that print as a few readable lines.

A `Verdict` on one subject has a `Row` for each part of each question, a row a `Difference` for each
reason why answers differ, a difference its simplest `Counterexample`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbit_ref.conformance.departures import Departure
    from kbit_ref.conformance.diagnosis.result import Diagnosis

__all__ = ["Counterexample", "Difference", "Ranked", "Ranking", "Report", "Row", "Special", "Verdict"]
__all__ += ["ranked", "worst"]

SHOWN = 12  # rivals in a text; all are in the JSON
REFUSED = "refused"  # blocks that a scheme has no answer for
LINES, NAMED = 40, 8  # of a text; of it those of the diagnosis
WORST = ("agree", "known", "disagree", "error")


@dataclass(frozen=True)
class Counterexample:
    """The simplest input that shows a difference, both answers, and why ours is what it is, step by step.

    Parameters
    ----------
    source
        The format of the input: `float32`, ..., or `codes`, `stored`.
    value
        The number; or the numbers of a block, `[1, 0 x 63]`.
    theirs, ours
        Both answers.
    steps
        Why ours is what it is.
    bits
        The input, hexadecimal; empty for a block.
    at
        Which element of the block (for codes and decoded numbers), and its value.
    """

    source: str
    value: str
    theirs: str
    ours: str
    steps: tuple[str, ...] = ()
    bits: str = ""
    at: str = ""

    def __str__(self) -> str:
        rows = [("input" if self.bits else "block", f"{self._input}  ({self.source})")]
        rows += [("at", self.at)] if self.at else []
        rows += [("theirs", self.theirs), ("ours", self.ours)]
        rows += [("why" if i == 0 else "", step) for i, step in enumerate(self.steps)]
        return "\n".join(f"{name:<7} {text}" for name, text in rows)

    @property
    def _input(self) -> str:
        return f"{self.bits} = {self.value}" if self.bits else self.value

    @property
    def block(self) -> str:
        """Return the numbers of the block."""
        return self.value

    @property
    def where(self) -> str:
        """Return the input, in a line."""
        return f"{self._input} ({self.source})" + (f" at {self.at}" if self.at else "")

    @property
    def line(self) -> str:
        """Return the example in one line, for a table."""
        return f"{self.where}: theirs {self.theirs}, ours {self.ours}"


@dataclass(frozen=True)
class Difference:
    """All values of a row that differ for one reason, and the simplest of them."""

    cause: str  # `unexplained`, or what gives their answers: `ties=away`, `+arith=reciprocal`, `sign of zero`, ...
    why: str
    count: int
    example: Counterexample | None = None
    link: str = ""  # where a known difference is on record; empty if it is none
    error: float | None = None  # the median relative error of the numbers that differ, 0 to 1, where it is measured

    @property
    def known(self) -> bool:
        """Return whether the adapter declares it, with its source."""
        return bool(self.link)

    @property
    def line(self) -> str:
        """Return how many differ, and why, in a line."""
        return f"{self.count:,} x {self.cause}: {self.why}"

    def __str__(self) -> str:
        head = self.line + (f"\nknown: {self.link}" if self.link else "")
        return head if self.example is None else "\n".join([head, *(f"  {e}" for e in str(self.example).splitlines())])


@dataclass(frozen=True)
class Row:
    """One part of one question: the codes for numbers of one format, the scales, the packed bytes, ...

    Parameters
    ----------
    part
        `codes`, `scales`, `decoded`, ...
    tried
        Values compared; 0 if there was nothing to compare.
    differences
        By their cause.
    errors, notes
        Why it could not be judged, and what else there is to say.
    what, source
        The question, if this row is all of its answer: `encode` or `decode`, and the format of the inputs.
    nan_left_out
        NaN that were not tried, since the type has none.
    diagnosis
        What is wrong, of all rows that were judged together; None if nothing differs.
    """

    part: str
    tried: int
    differences: tuple[Difference, ...] = ()
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    what: str = ""
    source: str = ""
    nan_left_out: int = 0
    diagnosis: Diagnosis | None = field(default=None, repr=False, compare=False)

    @property
    def status(self) -> str:
        """Return `agree`, `known` (differences, all of them declared), `disagree` or `error`."""
        if self.errors:
            return "error"
        if not self.differences:
            return "agree"
        return "known" if all(d.known for d in self.differences) else "disagree"

    @property
    def different(self) -> int:
        """Return the number of values that differ for no known reason."""
        return sum(d.count for d in self.differences if not d.known)

    @property
    def name(self) -> str:
        """Return the name of the row: `encode float32`; `scales`."""
        return f"{self.what} {self.source}" if self.what else self.part

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        plain = asdict(replace(self, diagnosis=None))
        del plain["diagnosis"]
        return plain | {"status": self.status, "different": self.different}

    def __str__(self) -> str:
        return "\n".join(self.lines(self.differences))

    def lines(self, whole: Sequence[Difference] = ()) -> list[str]:
        """Return lines of text, with the counterexamples of some differences."""
        head = f"{self.name}  {self.tried:,} values: {self.status}"
        if self.status == "disagree":
            head += f", {self.different:,} differ"
        if self.nan_left_out:
            head += f"  ({self.nan_left_out:,} NaN left out: the type has none)"
        parts = [f"error: {error}" for error in self.errors]
        parts += [str(each) if any(each is one for one in whole) else each.line for each in self.differences]
        parts += [f"note: {note}" for note in self.notes]
        return [head, *(f"  {line}" for part in parts for line in part.splitlines())]


@dataclass(frozen=True)
class Special:
    """The effect of one NaN, or one infinity, in a block; or of the blocks that the scheme has no answer for.

    Parameters
    ----------
    number, source
        `nan`, `inf` or `refused`; the format of the input.
    word, does
        In one word, for a table: `raises`, `NaN` (it alone), `zero`, `number`, `block` (all of it),
        `spreads` (to other blocks), `other`, `mixed`; of refused blocks the worst broken law of departures, or `near`;
        and in a sentence.
    status
        `agree` or `disagree` where the profile, or a law, says what must happen, else `told`.
    choice
        The named choice that gives all of theirs, if one does: `+nan=code`.
    """

    number: str
    source: str
    word: str
    does: str
    status: str
    choice: str = ""

    @property
    def part(self) -> str:
        """Return what is judged, in words."""
        return "blocks without an answer" if self.number == REFUSED else f"{self.number} in a block"

    @property
    def line(self) -> str:
        """Return all of it in a line, but for the source."""
        return f"{self.part}: {self.does}" + (f" ({self.choice} does the same)" if self.choice else "")


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
        Other rivals that give the same answers to all inputs.
    left_out
        Blocks that it has no answer for.
    misfit
        Why nothing could be compared: a part too many, another size.
    """

    name: str
    spelling: str
    tried: int
    differing: int
    example: Counterexample | None = None
    same: tuple[str, ...] = ()
    left_out: int = 0
    misfit: str = ""

    @property
    def conforms(self) -> bool:
        """Return whether every answer is the rival's."""
        return self.tried > 0 and not self.differing and not self.misfit

    @property
    def first(self) -> str:
        """Return the first input at which they differ, their answer and the rival's; empty if there is none."""
        e = self.example
        return "" if e is None else f"{e.where}: theirs {e.theirs}, its {e.ours}"

    @property
    def line(self) -> str:
        """Return `name (the same here: ...): 12 of 100 values differ, first ...`."""
        head = self.name + _alias(self.same)
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
        """Return the names of those that it conforms to."""
        return tuple(name for each in self.rivals if each.conforms for name in (each.name, *each.same))

    def __str__(self) -> str:
        return "\n".join(self.lines(SHOWN))

    def lines(self, most: int) -> list[str]:
        """Return lines of text, with so many of the rivals that it does not conform to."""
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
        """Return plain values, for JSON."""
        rivals = []
        for each in self.rivals:
            rivals.append(asdict(each) | {"example": each.first, "conforms": each.conforms})
        return {"conforms": list(self.conforms), "rivals": rivals}


@dataclass(frozen=True)
class Verdict:
    """One subject judged: a data type, or a scheme; `print` it.

    Parameters
    ----------
    subject, spelling
        What is claimed: a type, a scheme, a profile; and what it spells as.
    rows
        The verdict on each part of each question.
    library, version, theirs
        Whose it is, and their name for it; of a function its name.
    errors, notes
        Of the whole.
    specials
        What becomes of NaN and infinity in a block.
    ranking
        The rivals, if requested.
    faults
        What is wrong with a library that does as its profile says: departures from the published definition.
    """

    subject: str
    spelling: str
    rows: tuple[Row, ...]
    library: str = ""
    version: str = ""
    theirs: str = ""
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    specials: tuple[Special, ...] = ()
    ranking: Ranking | None = None
    faults: tuple[Departure, ...] = ()

    @property
    def status(self) -> str:
        """Return the worst of the rows; no row at all is an error."""
        if self.errors or not self.rows:
            return "error"
        judged = [special.status for special in self.specials if special.status != "told"]
        return worst([*(row.status for row in self.rows), *judged])

    @property
    def agree(self) -> bool:
        """Return whether everything agrees, but for known differences."""
        return self.status in ("agree", "known")

    @property
    def tried(self) -> int:
        """Return the number of values that were compared."""
        return sum(row.tried for row in self.rows)

    @property
    def different(self) -> int:
        """Return the number of values that differ for no known reason."""
        return sum(row.different for row in self.rows)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Return the differences of all rows."""
        return tuple(difference for row in self.rows for difference in row.differences)

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Return the diagnosis of the row that differs the most; None if nothing differs."""
        row = max(self.rows, key=lambda row: row.different, default=None)
        return None if row is None or not row.different else row.diagnosis

    @property
    def says(self) -> str:
        """Return the status; `agree, with 2 known faults` where the profile has some."""
        if not self.agree or not self.faults:
            return self.status
        return f"{self.status}, with {len(self.faults)} known fault{'s' * (len(self.faults) != 1)}"

    @property
    def name(self) -> str:
        """Return their name for it; of a function its name."""
        return self.theirs

    @property
    def profile(self) -> str:
        """Return the subject."""
        return self.subject

    @property
    def parts(self) -> tuple[Row, ...]:
        """Return the rows."""
        return self.rows

    @property
    def verdicts(self) -> tuple[Row, ...]:
        """Return the rows."""
        return self.rows

    def part(self, name: str) -> Row | None:
        """Return the first row on the part of that name, if it was judged."""
        return next((row for row in self.rows if row.part == name), None)

    def special(self, number: str) -> Special | None:
        """Return what becomes of NaN or infinity, from the first source."""
        return next((special for special in self.specials if special.number == number), None)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; the same keys for every subject.

        Returns
        -------
        dict
            - `subject spelling library version theirs status`: text
            - `tried different`: numbers of values
            - `errors notes`: lists of text
            - `rows`: for each `part what source status tried different nan_left_out errors notes`, and
              `differences`: for each `cause why count link error`, and `example`: null, or
              `source bits value at theirs ours steps`
            - `specials`: for each `number source word does status choice`
            - `diagnosis`: null, or what `kb.diagnose` gives
            - `faults` of the profile: for each `choices effect meaning example`, text
            - `ranking`: null, or `conforms` and `rivals`
        """
        about = {name: getattr(self, name) for name in ("subject", "spelling", "library", "version", "theirs")}
        return about | {
            "status": self.status,
            "tried": self.tried,
            "different": self.different,
            "errors": list(self.errors),
            "notes": list(self.notes),
            "rows": [row.as_dict() for row in self.rows],
            "specials": [asdict(special) for special in self.specials],
            "diagnosis": None if self.diagnosis is None else self.diagnosis.as_dict(),
            "faults": [each.as_dict() for each in self.faults],
            "ranking": None if self.ranking is None else self.ranking.as_dict(),
        }

    def __str__(self) -> str:
        lines = [f"{self.spelling or self.subject}: {self.says}{self._why}", *(f"  {line}" for line in self._details())]
        if len(lines) > LINES:
            lines[LINES - 1 :] = [f"  and {len(lines) - LINES + 1} more lines (as_dict() has all)"]
        return "\n".join(lines if self.ranking is None else [*lines, str(self.ranking)])

    @property
    def _why(self) -> str:
        """Return what is wrong, in a sentence: the diagnosis, or the reason for which the most values differ."""
        if self.diagnosis is not None:
            return f": {self.diagnosis.sentence}"
        unknown = [each for each in self.differences if not each.known]
        if unknown:
            return f": {max(unknown, key=lambda each: each.count).line}"
        return next((f": {special.line}" for special in self.specials if special.status == "disagree"), "")

    def _details(self) -> Iterator[str]:
        """Yield all the rest, line by line; only the counterexample of the most values."""
        if self.diagnosis is not None:
            yield from str(self.diagnosis).splitlines()[1 : 1 + NAMED]
        yield from (f"error: {error}" for error in self.errors)
        with_example = [each for each in self.differences if each.example is not None]
        first = sorted(with_example, key=lambda each: (each.known, -each.count))[:1]
        yield from (line for row in self.rows for line in row.lines(first))
        yield from (f"{special.part} ({special.source}): {special.does}" for special in self.specials)
        yield from (f"note: {note}" for note in self.notes)
        yield from (f"fault of the profile: {fault.line}" for fault in self.faults)


Report = Verdict  # the name that it had


def ranked(rivals: Sequence[Ranked]) -> Ranking:
    """Sort rivals: fewer differences first, then fewer blocks left out, then the shorter spelling."""
    key = [(bool(each.misfit), each.differing, each.left_out, len(each.spelling), each.name) for each in rivals]
    order = sorted(range(len(rivals)), key=key.__getitem__)
    return Ranking(tuple(rivals[i] for i in order))


def _alias(names: Sequence[str], most: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f" (the same here: {', '.join(names[:most])}{more})"


def worst(statuses: Sequence[str]) -> str:
    """Return the worst of several statuses.

    Examples
    --------
    >>> worst(["agree", "known", "agree"])
    'known'
    """
    return max(statuses, key=WORST.index, default="agree")
