"""A file of vectors in memory: groups of tests, and their arrays by path.

A path says what an array is for: `inputs/x`, `expected/scales`, `alternatives/zero_sign=positive/codes`. All tests of
a group have arrays of the same paths, types and shapes, which stand once, in the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.checkpoints.container import NUMPY

__all__ = ["DTYPES", "PARTS", "RESULTS", "TYPES", "Group", "Spec", "Test", "Vectors", "in_order", "spec_of"]

Array = NDArray[Any]

RESULTS = ("valid", "invalid", "acceptable")
TYPES = ("scheme", "dtype", "layout")  # what a group tests
DTYPES = ("F16", "F32", "F64", "U8", "I8", "U16")  # of arrays, as safetensors calls them
HEADS = ("inputs", "expected", "alternatives")
PARTS = ("x", "codes", "packed", "scales", "offsets", "zero_points", "global_scale", "values")
_NAMES = {np.dtype(NUMPY[name]): name for name in DTYPES}


@dataclass(frozen=True)
class Spec:
    """The type and shape of an array."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numpy(self) -> np.dtype[Any]:
        """Return the name that NumPy has for it."""
        return np.dtype(NUMPY[self.dtype])


def spec_of(array: Array) -> Spec:
    """Return the type and shape of this one."""
    return Spec(_NAMES[array.dtype], array.shape)


def in_order(path: str) -> tuple[int, str, bool, int]:
    """Return the order in which the arrays of a group stand, as a key for `sorted`."""
    head, _, name = path.partition("/")
    choice, _, part = name.rpartition("/")
    return HEADS.index(head), choice, part.startswith("double."), PARTS.index(part.removeprefix("double."))


@dataclass(frozen=True)
class Test:
    """Inputs and what must come out.

    Parameters
    ----------
    number
        Of the test in its file, from 1: `tcId`.
    comment
        The case, and what is special here.
    flags
        The mutants that this test kills, sorted.
    result
        `valid`: expected is the answer. `invalid`: the inputs must be refused. `acceptable`: expected, or
        one of the alternatives, as a whole.
    arrays
        By path.
    """

    __test__ = False  # of pytest

    number: int
    comment: str
    flags: tuple[str, ...]
    result: str
    arrays: Mapping[str, Array]

    def under(self, head: str) -> dict[str, Array]:
        """Return the arrays below a path, by the rest of theirs."""
        return {path.removeprefix(f"{head}/"): a for path, a in self.arrays.items() if path.startswith(f"{head}/")}

    def answers(self) -> dict[str, dict[str, Array]]:
        """Return what is right: `expected`, then the alternatives by name."""
        found: dict[str, dict[str, Array]] = {"expected": self.under("expected")}
        for path, array in self.under("alternatives").items():
            name, _, part = path.rpartition("/")
            found.setdefault(name, dict(found["expected"]))[part] = array
        return found


@dataclass(frozen=True)
class Group:
    """Tests of one scheme, data type or layout, with arrays of the same shapes.

    Parameters
    ----------
    type, name
        One of `TYPES`, and the spelling.
    source, version
        Where the subject was read, and the version of its meaning.
    profiles
        The names that the scheme has.
    arrays
        By path.
    """

    type: str
    name: str
    source: str
    version: str
    profiles: tuple[str, ...]
    arrays: Mapping[str, Spec]
    tests: tuple[Test, ...]


@dataclass(frozen=True)
class Vectors:
    """A file."""

    name: str
    level: str
    notes: Mapping[str, Mapping[str, Any]]
    groups: tuple[Group, ...] = field(default_factory=tuple)

    def tests(self) -> Iterator[tuple[Group, Test]]:
        """Return all tests with their groups."""
        return ((group, test) for group in self.groups for test in group.tests)

    def flagged(self) -> dict[str, frozenset[int]]:
        """Return the numbers of the tests of each flag."""
        found: dict[str, set[int]] = {}
        for _, test in self.tests():
            for flag in test.flags:
                found.setdefault(flag, set()).add(test.number)
        return {flag: frozenset(numbers) for flag, numbers in found.items()}
