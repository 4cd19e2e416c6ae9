"""Judge the lines of a program bit for bit, a bounded number at a time.

`judge_lines` takes lines from anywhere; `judge_command` runs the program, and asks it again to
find the simplest block that still shows a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from kbit_ref.conformance.diagnosis import Diagnosis
from kbit_ref.conformance.implementations.ask import Answer
from kbit_ref.conformance.implementations.programs.grammar import ARROW, Case, Form, Words, form
from kbit_ref.conformance.implementations.programs.inputs import lines as given_lines
from kbit_ref.conformance.implementations.programs.process import run
from kbit_ref.conformance.implementations.programs.shared import Shared
from kbit_ref.conformance.inputs.of_types import WORD, Inputs, to_float64
from kbit_ref.conformance.judge import judge
from kbit_ref.conformance.programs.rows import Again, Rows
from kbit_ref.conformance.subject import Question
from kbit_ref.conformance.verdict import Difference, Row, Verdict
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.engine.codec import encode
from kbit_ref.errors import BadInput, message
from kbit_ref.tensors.scheme import Scheme

__all__ = ["Judged", "judge_command", "judge_lines", "judge_shared"]

Ask = Callable[[Iterable[str]], Iterator[str]]  # lines -> the lines with their answers

AT_ONCE = 1 << 16  # numbers that are judged together


@dataclass(frozen=True)
class Judged:
    """The verdict on a program; `print` it.

    Attributes
    ----------
    agree
        Does every answer agree?
    found
        The verdict on each part.
    """

    name: str
    form: Form
    lines: int
    found: Verdict

    @property
    def diagnosis(self) -> Diagnosis | None:
        """Return what is wrong, if it differs."""
        return self.found.diagnosis

    @property
    def status(self) -> str:
        """Return `agree`, `disagree` or `error`."""
        return self.found.status

    @property
    def agree(self) -> bool:
        """Return whether every answer agrees."""
        return self.status == "agree"

    def __str__(self) -> str:
        lines = f"{self.lines:,} line{'s' * (self.lines != 1)}"
        said = "" if self.diagnosis is None else f": {self.diagnosis.sentence}"
        head = f"{self.name}: {self.form.what} {self.form.subject}, {lines}: {self.status}{said}"
        if isinstance(self.form.subject, DataType):
            return "\n".join([head, *map(str, self.found.rows)])
        text = [head, *([] if self.diagnosis is None else str(self.diagnosis).splitlines()[1:])]
        text += [f"error: {error}" for error in self.found.errors]
        for part in self.found.rows:
            more = f", {part.different:,} differ" if part.different else ""
            text.append(f"{part.part:<12} {part.tried:>9,}  {part.status}{more}")
        for part in self.found.rows:
            for kind in part.differences:
                text += ["", f"{part.part}: {kind.count:,} x {kind.cause}: {kind.why}"]
                text += [f"  {line}" for line in str(kind.example or "").splitlines()]
        return "\n".join([*text, *(f"note: {note}" for note in self.found.notes)])

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        about = {"name": self.name, "subject": str(self.form.subject), "what": self.form.what}
        return self.found.as_dict() | about | {"source": self.form.source, "lines": self.lines}


def judge_lines(
    subject: str | DataType | Scheme | Form,
    lines: Iterable[str],
    *,
    what: str = "encode",
    source: str = "float32",
    expected: Iterable[str] | None = None,
    again: Again | None = None,
    name: str = "lines",
) -> Judged:
    """Judge lines `inputs -> answers` against the definition.

    Parameters
    ----------
    subject
        A data type, a scheme, a profile, or the name of one.
    lines
        In the grammar of `programs.grammar`.
    what, source
        As for `form`.
    expected
        What stands before the arrow of each line, so that a program that left early, or answers
        something else, is found; by default any inputs will do.
    again
        Asks the program about other rows: n, [m, n] -> the words of its answers.
    name
        Of the program, in errors.

    Raises
    ------
    BadInput
        `check: line 3 = '...', it has no ->; ...`

    Examples
    --------
    >>> print(judge_lines("e2m1fn", ["3f000000 -> 1", "3e800000 -> 1", "3e700000 -> 0"]))  # doctest: +ELLIPSIS
    lines: encode e2m1fn, 3 lines: disagree: 1 answer differs (of 3 codes), because theirs is what ties=upper gives ...
    encode float32  3 values: disagree, 1 differ
      1 x ties=upper: theirs is what ties=upper gives
        input   0x3e800000 = 0.25  (float32)
        theirs  0x1 = 0.5
        ours    0x0 = 0
        why     neighbouring levels are 0 (0x0) and 0.5 (0x1)
                their midpoint is 0.25: x lies on it
                a tie, distance 0.25 to both: ties=even decides
                theirs: ties=upper
    """
    f = subject if isinstance(subject, Form) else form(subject, what, source)
    tally = _Values(f) if f.is_type else Rows(f, name, again)
    waiting: list[Case] = []
    numbers = count = 0
    for case in _cases(f, lines, expected, name):
        count += 1
        if waiting and (case.n != waiting[0].n or numbers >= AT_ONCE):
            tally.add(waiting[0].n, *_arrays(waiting))
            waiting, numbers = [], 0
        waiting.append(case)
        numbers += case.n
    if not count:
        raise BadInput(message("check", name, "it gave no line", f"write each line as it came, {ARROW}, the answer"))
    tally.add(waiting[0].n, *_arrays(waiting))
    return Judged(name, f, count, tally.result())


def judge_command(
    subject: str | DataType | Scheme,
    command: str,
    timeout: float = 10.0,
    *,
    what: str = "encode",
    source: str = "float32",
    level: int = 2,
    count: int | None = None,
    seed: int = 0,
) -> Judged:
    """Run a program on the cases of `kbit-ref gen`, and judge what it answers.

    Parameters
    ----------
    command
        The program and its arguments; no shell runs it.
    timeout
        Seconds in which it must take a line or give one; then it is ended.
    level, count, seed
        As for `kbit-ref gen`.

    Raises
    ------
    BadInput
        `check: ./prog after 12 lines, it was silent for 10 s and was ended; ...`
    """
    f = form(subject, what, source)
    return _judge(f, lambda lines: run(command, lines, timeout), command, level, count, seed)


def judge_shared(
    subject: str | DataType | Scheme,
    library: str,
    declaration: str,
    timeout: float = 10.0,
    *,
    what: str = "encode",
    source: str = "float32",
    level: int = 2,
    count: int | None = None,
    seed: int = 0,
) -> Judged:
    """Judge a function of a shared library, which is called in a process of its own.

    Parameters
    ----------
    library
        Its file.
    declaration
        Of the function in C, with names that say what each parameter is: see `programs.signature`.
    timeout
        Seconds that a call may take.
    what, source, level, count, seed
        As for `judge_command`.

    Raises
    ------
    BadInput
        `check: libfoo.so:quantize, it has no function quantize; ...`
    """
    shared = Shared(form(subject, what, source), library, declaration, timeout)
    return _judge(shared.form, shared.ask, shared.name, level, count, seed)


def _judge(f: Form, ask: Ask, name: str, level: int, count: int | None, seed: int) -> Judged:
    """Ask about all cases, and about simpler ones where the answers differ."""

    def again(n: int, words: Words) -> Words:
        questions = [f.spell(n, row) for row in words]
        return np.array([case.answers for case in _cases(f, ask(questions), questions, name)], np.uint64)

    def cases() -> Iterator[str]:
        return given_lines(f, level, count, seed)

    return judge_lines(f, ask(cases()), expected=cases(), again=again, name=name)


def _cases(f: Form, lines: Iterable[str], expected: Iterable[str] | None, name: str) -> Iterator[Case]:
    """Parse lines, and check that each is a case that was to be answered."""
    if expected is None:
        for i, line in enumerate(lines):
            yield f.parse(line, f"line {i + 1}")
        return
    for i, (line, question) in enumerate(zip_longest(lines, expected)):
        where = f"line {i + 1}"
        if line is None:
            rest = f"it ended before line {i + 1}, which asks {_short(question)}"
            raise BadInput(message("check", name, rest, "answer every line; give check the options of gen"))
        if question is None:
            got, rule = f"{name}: {where} = {_short(line)}", f"there are only {i:,} lines"
            raise BadInput(message("check", got, rule, "give check the options of gen"))
        case = f.parse(line, where)
        if line.partition(ARROW)[0].rstrip() != question and replace(case, answers=()) != f.given(question):
            got, rule = f"{name}: {where} = {_short(line)}", f"it was to answer {_short(question)}"
            raise BadInput(message("check", got, rule, "keep the order of the lines; give check the options of gen"))
        yield case


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _arrays(cases: Sequence[Case]) -> tuple[Words, Words]:
    return np.array([c.given for c in cases], np.uint64), np.array([c.answers for c in cases], np.uint64)


class _Values:
    """The lines of a data type, judged as the answers of a function are."""

    def __init__(self, f: Form):
        self.form = f
        self.verdicts: list[Row] = []

    def add(self, _: int, given: Words, answers: Words) -> None:
        """Add a batch."""
        f = self.form
        (before,), (after,) = f.sides(1)
        words, answered = given[:, 0], after.numbers(answers[:, 0])
        left_out = 0
        if f.what == "decode":
            codes = before.numbers(words)
            question = Question(f.dtype, "decode", Inputs("codes", codes), f.dtype.levels[codes], codes)
        else:
            words = words.astype(WORD[f.source])
            if f.dtype.definition.nan is None:
                numbers = ~np.isnan(to_float64(words, f.source))
                left_out = int((~numbers).sum())
                words, answered = words[numbers], answered[numbers]
            ours = encode(f.dtype, before.numbers(words), bfloat16=f.source == "bfloat16")
            question = Question(f.dtype, "encode", Inputs(f.source, words, left_out), to_float64(words, f.source), ours)
        self.verdicts.append(judge(question, [Answer({"answer": answered})], "codes" if f.what == "encode" else None))

    def result(self) -> Verdict:
        """Return all batches as one verdict."""
        kinds: dict[str, Difference] = {}
        for difference in (d for verdict in self.verdicts for d in verdict.differences):
            first = kinds.setdefault(difference.cause, replace(difference, count=0))
            kinds[difference.cause] = replace(first, count=first.count + difference.count)
        whole = replace(
            self.verdicts[0],
            tried=sum(v.tried for v in self.verdicts),
            differences=tuple(kinds.values()),
            errors=tuple(dict.fromkeys(e for v in self.verdicts for e in v.errors)),
            nan_left_out=sum(v.nan_left_out for v in self.verdicts),
            notes=tuple(dict.fromkeys(n for v in self.verdicts for n in v.notes)),
        )
        return Verdict(self.form.dtype.name, self.form.dtype.name, (whole,))
