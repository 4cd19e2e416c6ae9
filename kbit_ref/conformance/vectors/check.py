"""An implementation against a file: which tests it fails, and which known mistake explains its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.conformance.diagnosis import Diagnosis, diagnosed
from kbit_ref.conformance.diagnosis.evidence import Evidence, Piece
from kbit_ref.conformance.vectors.implementations import engine, of_steps, reference_of, scheme_of
from kbit_ref.conformance.vectors.judge import WRITING, Given, Implementation, judge
from kbit_ref.conformance.vectors.model import Group, Test, Vectors
from kbit_ref.conformance.vectors.subjects import subject_of
from kbit_ref.tensors.packing import Layout
from kbit_ref.tensors.steps import Steps

__all__ = ["Failure", "Outcome", "Suspect", "check_vectors"]

MOST = 5  # suspects that do not fit exactly
PIECES = 48  # answers of a subject that are explained together, half of them wrong ones
SIDES = ("writer", "reader")


@dataclass(frozen=True)
class Failure:
    """A test that failed, and what was wrong."""

    group: Group
    test: Test
    wrong: tuple[str, ...]

    @property
    def sides(self) -> set[str]:
        """Return which sides failed: writing, reading, or both."""
        return {SIDES[line.partition(":")[0] not in WRITING] for line in self.wrong}


@dataclass(frozen=True)
class Suspect:
    """A flag, and how the answers that failed go with those that its mistake would make fail.

    Parameters
    ----------
    flag
        Its name.
    both, failed, expected
        How many answers failed and have the flag; failed; have the flag.
    """

    flag: str
    both: int
    failed: int
    expected: int

    @property
    def fit(self) -> float:
        """Return the share that both have in common, from 0 to 1: 1 if they are the same answers."""
        return self.both / (self.failed + self.expected - self.both)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a file of vectors for an implementation."""

    vectors: Vectors
    failures: tuple[Failure, ...]
    left_out: int = 0  # questions that the implementation has nothing for
    given: tuple[tuple[Group, Given], ...] = ()

    @cached_property
    def diagnosis(self) -> tuple[str, Diagnosis] | None:
        """Return the subject with the most failures that can be explained, and what explains its answers."""
        names = Counter(failure.group.name for failure in self.failures)
        for name, _ in names.most_common():
            group = next(failure.group for failure in self.failures if failure.group.name == name)
            pieces, kind = _pieces(group, [given for of, given in self.given if of.name == name])
            subject = subject_of(group.type, name)
            claimed = scheme_of(subject) if isinstance(subject, Layout) else subject
            found = diagnosed(Evidence(claimed, pieces, kind)) if pieces else None
            if found is not None and found.names:
                return name, found
        return None

    @property
    def tests(self) -> int:
        """Return the number of tests."""
        return sum(len(group.tests) for group in self.vectors.groups)

    def suspects(self) -> list[Suspect]:
        """Return the flags that fit best, at most a few, the best first; if some fit exactly, only those."""
        failed = {(f.test.number, side) for f in self.failures for side in f.sides}
        found = []
        for flag, numbers in self.vectors.flagged().items():
            side = self.vectors.notes[flag]["bugType"].partition(":")[0]
            if side in SIDES:
                expected = {(number, side) for number in numbers}
            else:  # it may show on either side
                expected = {item for item in failed if item[0] in numbers}
                expected |= {(number, SIDES[0]) for number in numbers - {number for number, _ in expected}}
            if both := failed & expected:
                found.append(Suspect(flag, len(both), len(failed), len(expected)))
        found.sort(key=lambda suspect: (-suspect.fit, suspect.flag))
        return [suspect for suspect in found if suspect.fit == 1] or found[:MOST]


def check_vectors(vectors: Vectors, implementation: Implementation = engine) -> Outcome:
    """Run all tests of a file.

    Examples
    --------
    >>> from kbit_ref.conformance.vectors import read_vectors, vector_files
    >>> packing = next(path for path in vector_files() if path.stem == "layouts")
    >>> check_vectors(read_vectors(packing)).failures
    ()
    """
    failures, given = [], []
    for group, test in vectors.tests():
        answers = judge(group.type, group.name, test, implementation)
        given += [(group, one) for one in answers]
        if wrong := [line for one in answers for line in one.wrong()]:
            failures.append(Failure(group, test, tuple(wrong)))
    left_out = sum(one.left_out for _, one in given)
    return Outcome(vectors, tuple(failures), left_out, tuple(given))


def _pieces(group: Group, given: Sequence[Given]) -> tuple[tuple[Piece, ...], str]:
    """Return answers of one subject as evidence: wrong ones of one source format, as many right ones, the format."""
    usable = [one for one in given if one.parts is not None and one.question.answers]
    wrong = [one for one in usable if one.wrong()]
    if not wrong:
        return (), ""
    kind = _source(wrong[0])
    wrong = [one for one in wrong if _source(one) == kind][: PIECES // 2]
    right = [one for one in usable if _source(one) == kind and not one.wrong()][: PIECES - len(wrong)]
    base = reference_of(subject_of(group.type, group.name), kind or "float32")
    found = []
    for number, one in enumerate([*wrong, *right]):
        arrays, answer, parts = one.question.arrays, one.parts, one.question.answers[0]
        assert answer is not None
        theirs = {name: array for name in parts if (array := _numbers(answer.get(name), parts[name].size)) is not None}
        if theirs:
            found.append(Piece(base, partial(_made, one, group.name), theirs, of=number, given=arrays.get("x")))
    return tuple(found), kind


def _made(given: Given, name: str, steps: Steps, keep: bool) -> dict[str, Any]:
    """Return the answer of steps to a question."""
    return dict(of_steps(steps)(given.question.verb, name, given.question.arrays))


def _source(given: Given) -> str:
    """Return the format of the numbers in a question; empty where there are none."""
    return given.question.arrays["x"].dtype.name if "x" in given.question.arrays else ""


def _numbers(part: Any, size: int) -> NDArray[Any] | None:
    """Return a part as an array, if it is as many numbers as it should be."""
    try:
        array = np.asarray(part)
    except ValueError:
        return None
    return array if array.size == size and array.dtype.kind in "uif" else None
