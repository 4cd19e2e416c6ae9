"""Which files kill which mutants: the rows of the README's table, and what is left."""

from __future__ import annotations

from collections.abc import Iterable

from kbit_ref.conformance.mutants import mutants
from kbit_ref.conformance.vectors.model import Vectors

__all__ = ["coverage", "survivors"]


def survivors(files: Iterable[Vectors]) -> list[str]:
    """The mutants that no test of these files kills."""
    flagged = {flag for vectors in files for flag in vectors.notes}
    return [name for name in mutants() if name not in flagged]


def coverage(files: Iterable[Vectors]) -> list[dict[str, object]]:
    """A row a file: its groups, tests, and how many mutants it kills; the last row is all of them.

    Examples
    --------
    >>> from kbit_ref.conformance.vectors import read_vectors, vector_files
    >>> coverage([read_vectors(path) for path in vector_files() if path.stem == "layouts"])[0]["groups"]
    168
    """
    rows: list[dict[str, object]] = []
    seen: set[str] = set()
    groups = tests = 0
    total = len(mutants())
    for vectors in files:
        n_tests = sum(len(group.tests) for group in vectors.groups)
        killed = {flag for flag in vectors.notes if flag in mutants()}
        groups, tests, seen = groups + len(vectors.groups), tests + n_tests, seen | killed
        rows.append(_row(vectors.name, len(vectors.groups), n_tests, f"{len(killed)} of {total}"))
    return [*rows, _row("all", groups, tests, f"{len(seen)} of {total}")]


def _row(file: str, groups: int, tests: int, killed: str) -> dict[str, object]:
    return {"file": file, "groups": groups, "tests": tests, "mutants killed": killed}
