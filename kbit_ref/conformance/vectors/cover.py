"""Count the mutants that files and levels kill: the rows of a page of the book, and what is left."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from kbit_ref.conformance.cases import cases_of
from kbit_ref.conformance.variants import mutants
from kbit_ref.conformance.vectors.model import Vectors
from kbit_ref.conformance.vectors.subjects import files_of, subject_of, subjects_of

__all__ = ["candidates", "coverage", "levels", "survivors"]


def survivors(files: Iterable[Vectors]) -> list[str]:
    """Return the mutants that no test of these files kills."""
    flagged = {flag for vectors in files for flag in vectors.notes}
    return [name for name in mutants() if name not in flagged]


def coverage(files: Iterable[Vectors]) -> list[dict[str, object]]:
    """Return a row a file: its groups, tests, and how many mutants it kills; the last row is all of them.

    Examples
    --------
    >>> from kbit_ref.conformance.vectors import read_vectors, vector_files
    >>> coverage([read_vectors(path) for path in vector_files() if path.stem == "layouts"])[0]["file"]
    'layouts'
    """
    rows: list[dict[str, object]] = []
    all_killed: set[str] = set()
    groups = tests = 0
    total = len(mutants())
    for vectors in files:
        n_tests = sum(len(group.tests) for group in vectors.groups)
        killed = {flag for flag in vectors.notes if flag in mutants()}
        groups, tests, all_killed = groups + len(vectors.groups), tests + n_tests, all_killed | killed
        rows.append(_row(vectors.name, len(vectors.groups), n_tests, f"{len(killed)} of {total}"))
    return [*rows, _row("all", groups, tests, f"{len(all_killed)} of {total}")]


@cache
def candidates(level: str) -> int:
    """Return how many tests the hard cases give for a level, before `quick` chooses among them."""
    found = 0
    for kind, names in files_of(level).values():
        for spelling in subjects_of(kind, names):
            subject = subject_of(kind, spelling)
            found += sum(1 for case in cases_of(subject) for _ in case.given(subject, level))
    return found


def levels(quick: Iterable[Vectors]) -> list[dict[str, object]]:
    """Return a row for `quick`, of the files given, and one for `full`, whose tests hold those of quick."""
    row = coverage(quick)[-1]
    rows = [{"level": "quick", "tests": row["tests"], "mutants killed": row["mutants killed"]}]
    return [*rows, {"level": "full", "tests": candidates("full"), "mutants killed": row["mutants killed"]}]


def _row(file: str, groups: int, tests: int, killed: str) -> dict[str, object]:
    return {"file": file, "groups": groups, "tests": tests, "mutants killed": killed}
