"""An implementation against a file: which tests it fails, and which known mistake fails exactly those."""

from __future__ import annotations

from dataclasses import dataclass

from kbit_ref.conformance.vectors.implementations import engine
from kbit_ref.conformance.vectors.judge import Implementation, judge
from kbit_ref.conformance.vectors.model import Group, Test, Vectors

__all__ = ["Failure", "Outcome", "check_vectors"]

MOST = 5  # suspects


@dataclass(frozen=True)
class Failure:
    """A test that failed, and what was wrong."""

    group: Group
    test: Test
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a file says of an implementation."""

    vectors: Vectors
    failures: tuple[Failure, ...]

    @property
    def tests(self) -> int:
        """How many there are."""
        return sum(len(group.tests) for group in self.vectors.groups)

    def suspects(self) -> list[tuple[str, int, int, int]]:
        """Flags that fit best: (flag, failed tests that have it, failed tests, all tests that have it).

        A flag fits where the tests that failed are those that have it. The best come first, by the share of tests
        that both have among those that either has.
        """
        failed = {failure.test.number for failure in self.failures}
        if not failed:
            return []
        rows = []
        for flag, numbers in self.vectors.flagged().items():
            if both := len(failed & numbers):
                rows.append((both / len(failed | numbers), flag, both, len(failed), len(numbers)))
        rows.sort(key=lambda row: (-row[0], row[1]))
        best = [row for row in rows if row[0] == rows[0][0]] if rows and rows[0][0] == 1 else rows
        return [(flag, both, failed_, having) for _, flag, both, failed_, having in best[:MOST]]


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
