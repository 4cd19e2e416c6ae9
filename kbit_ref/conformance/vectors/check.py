"""An implementation against a file: which tests it fails, and which known mistake fails exactly those."""

from __future__ import annotations

from dataclasses import dataclass

from kbit_ref.conformance.vectors.implementations import engine
from kbit_ref.conformance.vectors.judge import WRITING, Implementation, judge
from kbit_ref.conformance.vectors.model import Group, Test, Vectors

__all__ = ["Failure", "Outcome", "Suspect", "check_vectors"]

MOST = 5  # suspects that do not fit exactly
SIDES = ("writer", "reader")


@dataclass(frozen=True)
class Failure:
    """A test that failed, and what was wrong."""

    group: Group
    test: Test
    wrong: tuple[str, ...]

    @property
    def sides(self) -> set[str]:
        """Was it wrong to write, to read, or both?"""
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
        """1 if they are the same answers."""
        return self.both / (self.failed + self.expected - self.both)


@dataclass(frozen=True)
class Outcome:
    """What a file says of an implementation."""

    vectors: Vectors
    failures: tuple[Failure, ...]

    @property
    def tests(self) -> int:
        """How many there are."""
        return sum(len(group.tests) for group in self.vectors.groups)

    def suspects(self) -> list[Suspect]:
        """The flags that fit best, at most a few, the best first; if some fit exactly, only those."""
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
    """All tests of a file.

    Examples
    --------
    >>> from kbit_ref.conformance.vectors import read_vectors, vector_files
    >>> packing = next(path for path in vector_files() if path.stem == "layouts")
    >>> check_vectors(read_vectors(packing)).failures
    ()
    """
    failures = []
    for group, test in vectors.tests():
        if wrong := judge(group.type, group.name, test, implementation):
            failures.append(Failure(group, test, tuple(wrong)))
    return Outcome(vectors, tuple(failures))
