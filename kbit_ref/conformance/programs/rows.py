"""The lines of a scheme, judged batch by batch: what differs in each part, why, and the simplest block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from kbit_ref.arithmetic import same
from kbit_ref.conformance.compare import Compared
from kbit_ref.conformance.decoding import decoded_row
from kbit_ref.conformance.diagnosis.counterexample import Shrinker
from kbit_ref.conformance.diagnosis.differences import differences
from kbit_ref.conformance.diagnosis.groups import UNEXPLAINED
from kbit_ref.conformance.implementations.claims import PARTS
from kbit_ref.conformance.implementations.programs.grammar import Form, Words, split
from kbit_ref.conformance.implementations.programs.inputs import stored_words
from kbit_ref.conformance.judge import Found, rows_of
from kbit_ref.conformance.programs.blocks import (
    compare_decoded,
    compare_stored,
    in_rows,
    layout_of_rows,
    together,
)
from kbit_ref.conformance.programs.packed import packed_kinds
from kbit_ref.conformance.reading import Refused
from kbit_ref.conformance.verdict import Difference, Row, Verdict
from kbit_ref.errors import BadInput

__all__ = ["Again", "Rows"]

Again = Callable[[int, Words], Words]  # n, [m, ...] before the arrow -> [m, ...] after it
ENOUGH = 1 << 19  # numbers after which what was found is summed up, and forgotten


class Rows:
    """Takes batches, and sums up what was found in them.

    Parameters
    ----------
    f
        What the lines look like.
    name
        Of the program.
    again
        Runs it on other rows; None if it cannot be run again.
    """

    def __init__(self, f: Form, name: str, again: Again | None = None):
        self.form, self.name, self.again = f, name, again
        self.layout = f.scheme.layout  # of its bytes, as far as we know
        self.found, self.numbers = Found(), 0
        self.means = [0, 0]  # of whole rows: tried, wrong
        self.sums: list[Verdict] = []

    def add(self, n: int, given: Words, answers: Words) -> None:
        """Add a batch of rows of n numbers: the words before the arrow and those after it."""
        f = self.form
        at_once = len(given) if together(f, n) else 1
        for i in range(0, len(given), at_once):
            part = slice(i, i + at_once)
            try:
                compared = self._compared(n, given[part], answers[part])
            except Refused as refused:
                self.found.errors.setdefault(str(refused), []).append(f"n={n}")
                continue
            self.found.compared.append(compared)
            self.found.refused.update(compared.ours.reasons)
            if f.what == "encode" and f.scheme["center"] == "tensor":
                self._other_mean(n, given[part], answers[part])
        self.numbers += n * len(given)
        if self.numbers > ENOUGH:
            self._sum_up()

    def _compared(self, n: int, given: Words, answers: Words) -> Compared:
        if self.form.what == "decode":
            return compare_decoded(self.form, n, given, answers)
        self.layout = layout_of_rows(self.form, n, given, answers, self.layout)
        return compare_stored(self.form, n, given, answers, self.layout)

    def result(self) -> Verdict:
        """Return the verdict on each part."""
        self._sum_up()
        first, *others = self.sums
        for row in others:
            first = _both(first, row)
        if self.means[1]:
            why = "the mean of the row is another one"
            kind = Difference(UNEXPLAINED, why, self.means[1], None)
            first = replace(first, rows=(*first.rows, Row("offsets", self.means[0], (kind,))))
        return first

    def _sum_up(self) -> None:
        f, found = self.form, self.found
        s = f.scheme
        if f.what == "encode":
            by_rows = in_rows(s)
            diagnosis, kinds = differences(by_rows, found.compared, Shrinker(by_rows, self._put))
            kinds["packed"] = packed_kinds(s, found.compared, self.layout, lambda blocks: self._put(blocks, f.source))
            parts, _ = rows_of(found, kinds, (), diagnosis)
        else:
            parts = (decoded_row(in_rows(s), found.compared),) if found.compared else ()
        errors = tuple(f"{text} ({len(where)} rows)" for text, where in found.errors.items())
        notes = tuple(f"{n:,} blocks left out, the scheme has no answer: {why}" for why, n in found.refused.items())
        self.sums.append(Verdict(str(s), str(s), parts, self.name, theirs=f.what, errors=errors, notes=notes))
        self.found, self.numbers = Found(), 0

    def _put(self, words: NDArray[Any], source: str) -> Compared:
        """Compare the answers to other rows."""
        if self.again is None:
            raise Refused("it cannot be run again")
        n = words.shape[1]
        given = self.form.sides(n)[0][0].words(words)
        try:
            return compare_stored(self.form, n, given, self.again(n, given), self.layout)
        except BadInput as error:  # a variant that it does not answer shows nothing
            raise Refused(str(error)) from None

    def _other_mean(self, n: int, given: Words, answers: Words) -> None:
        """Compare the one number of a row that belongs to no block."""
        try:
            ours = stored_words(self.form, n, given)
        except BadInput:  # rows without an answer
            return
        both = zip(split(self.form.sides(n)[1], ours), split(self.form.sides(n)[1], answers), strict=True)
        for (field, mine), (_, theirs) in both:
            if field.name == "offsets":
                self.means[0] += mine.size
                self.means[1] += int((~same(field.numbers(mine), field.numbers(theirs))).sum())


def _both(a: Verdict, b: Verdict) -> Verdict:
    """Merge two sums: each kind with its first example."""
    parts = []
    for name in PARTS:
        verdicts = [row.part(name) for row in (a, b)]
        kinds: dict[str, Difference] = {}
        for kind in (kind for verdict in verdicts if verdict for kind in verdict.differences):
            first = kinds.setdefault(kind.cause, replace(kind, count=0))
            kinds[kind.cause] = replace(first, count=first.count + kind.count)
        if any(verdicts):
            diagnosis = next((v.diagnosis for v in verdicts if v and v.diagnosis), None)
            parts.append(Row(name, sum(v.tried for v in verdicts if v), tuple(kinds.values()), diagnosis=diagnosis))
    errors, notes = tuple(dict.fromkeys(a.errors + b.errors)), tuple(dict.fromkeys(a.notes + b.notes))
    return replace(a, rows=tuple(parts), errors=errors, notes=notes)
