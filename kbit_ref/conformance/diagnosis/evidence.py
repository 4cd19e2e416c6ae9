"""Collect evidence on an implementation: its inputs and its answers, piece by piece.

A piece is one array on one way: numbers to what is stored for them, what is stored to numbers, both ways at
once where only the numbers at the end are known, and for data types numbers to codes or codes to numbers. The
reader's pieces begin with what their own writer stored, so that a mistake of one side says nothing of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kbit_ref.arithmetic import identity
from kbit_ref.datatypes.datatype import DataType
from kbit_ref.errors import KbitError
from kbit_ref.tensors.scheme import Scheme
from kbit_ref.tensors.steps import ORDER, Steps, Stored

__all__ = ["ALIKE", "EXACT", "NAMES", "NONE", "ODD", "OTHER", "SMALL", "WRONG", "Evidence", "Grades", "Piece"]
__all__ += ["changes", "spread_evenly"]

Array = NDArray[Any]
Grades = NDArray[np.int8]

# No answer; a number that is neither theirs nor the reference's; another number; a zero of the other sign; the same.
NONE, OTHER, WRONG, ALIKE, EXACT = -2, -1, 0, 1, 2
ODD = (KbitError, ValueError, IndexError)  # what a mistake raises that has no answer, or none of that shape

NAMES = {  # how the parts are told: one, many
    "values": ("value", "values"),
    "codes": ("code", "codes"),
    "packed": ("byte", "bytes"),
    "scales": ("scale", "scales"),
    "offsets": ("offset", "offsets"),
    "zero_points": ("zero point", "zero points"),
    "global_scale": ("global scale", "global scales"),
}

SMALL = 1 << 12  # numbers of an array that is sampled as it is


@dataclass(frozen=True, eq=False)
class Piece:
    """One array, and their answers.

    Parameters
    ----------
    base
        The reference for the numbers of this array.
    make
        (steps, keep) -> what steps make of what was given, by the names of the answers.
    theirs
        Their answers, by name.
    open
        By name, where an answer is judged; all of it where a name is missing.
    at
        By name, the places of the answers in the array that the piece is a part of; itself where a name is missing.
    of
        The number of that array.
    picked
        Only some of its blocks: what depends on their places is shown by others.
    given
        What it begins with: the numbers, or what is stored.
    uses
        The steps that its answers depend on.
    """

    base: Steps
    make: Callable[[Steps, bool], dict[str, Array]]
    theirs: dict[str, Array]
    open: dict[str, Array] = field(default_factory=dict)
    at: dict[str, Array] = field(default_factory=dict)
    of: int = 0
    picked: bool = False
    given: Any = None
    uses: frozenset[str] = frozenset(ORDER)

    @cached_property
    def size(self) -> int:
        """Return how many answers there are."""
        return sum(part.size for part in self.theirs.values())

    @cached_property
    def ours(self) -> dict[str, Array]:
        """Return what the reference makes; nothing if it refuses the array."""
        try:
            return {name: np.asarray(part) for name, part in self.make(self.base, True).items() if name in self.theirs}
        except KbitError:
            return {}

    def grades(self, steps: Steps | None) -> Grades:
        """Grade each answer by what steps make; answers that are not judged are given by all."""
        if steps is None or not self.ours:
            return np.full(self.size, NONE, np.int8)
        if self._same(steps):
            return self._of_base
        try:
            with np.errstate(all="ignore"):
                return self._graded(self.make(steps, False))
        except ODD:
            return np.full(self.size, NONE, np.int8)

    def _same(self, steps: Steps) -> bool:
        """Return whether nothing that the answers depend on is other than in the reference."""
        same = steps.scheme is self.base.scheme and steps.arithmetic is self.base.arithmetic
        return same and not changes(self.base, steps) & self.uses

    @cached_property
    def _of_base(self) -> Grades:
        return self._graded(self.ours)

    def _graded(self, made: dict[str, Array]) -> Grades:
        found = []
        for name, theirs in self._theirs.items():
            grade = theirs.grade(made.get(name))
            if name in self.open:
                grade[~self.open[name].reshape(-1)] = EXACT
            found.append(grade)
        return np.concatenate(found)

    @cached_property
    def _theirs(self) -> dict[str, _Part]:
        return {name: _Part.of(theirs, self.ours.get(name)) for name, theirs in self.theirs.items()}

    def everything(self, steps: Steps | None) -> tuple[tuple[str, bytes], ...] | None:
        """Return all that steps make, as bytes."""
        try:
            with np.errstate(all="ignore"):
                made = {} if steps is None else self.make(steps, False)
        except ODD:
            return None
        return tuple((name, np.asarray(part).tobytes()) for name, part in made.items() if name != "shape")

    def parts(self, flags: Array) -> Iterator[tuple[str, Array]]:
        """Yield what is flat, one an answer, by the names of the answers."""
        begin = 0
        for name, theirs in self.theirs.items():
            yield name, flags[begin : begin + theirs.size]
            begin += theirs.size


@dataclass(frozen=True, eq=False)
class Evidence:
    """All pieces.

    Parameters
    ----------
    subject
        What it should have done.
    kind
        For a data type the format of its numbers, else empty.
    pieces
        In the order of the arrays.
    sample
        Given the answers of interest: few pieces that tell much, on which many explanations can be tried.
    """

    subject: Scheme | DataType
    pieces: tuple[Piece, ...]
    kind: str = ""
    sample: Callable[[Evidence, NDArray[np.bool_]], Evidence] | None = None

    def few(self, left: NDArray[np.bool_]) -> Evidence:
        """Return a sample that has some of these answers, and some that agree."""
        return self if self.sample is None else self.sample(self, left)

    @property
    def size(self) -> int:
        """Return how many answers are judged."""
        return sum(piece.size for piece in self.pieces)

    @property
    def reads_only(self) -> bool:
        """Return whether they are answers of a reader of given bytes."""
        return all(isinstance(piece.given, Stored) for piece in self.pieces)

    @cached_property
    def bases(self) -> tuple[Steps, ...]:
        """Return the references, one a format."""
        return tuple({id(piece.base): piece.base for piece in self.pieces}.values())

    @cached_property
    def ours(self) -> Grades:
        """Return how well the reference gives each answer."""
        return self._joined([piece.grades(piece.base) for piece in self.pieces])

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """Return the answers of whole arrays."""
        flags = [np.full(piece.size, not piece.picked) for piece in self.pieces]
        return np.concatenate(flags) if flags else np.zeros(0, bool)

    @cached_property
    def wrong(self) -> NDArray[np.bool_]:
        """Return where answers are not those of the reference."""
        return np.asarray(self.ours == WRONG)

    def grades(self, make: Callable[[Steps], Steps | None]) -> Grades:
        """Return how well an explanation gives each answer."""
        made = {id(base): make(base) for base in self.bases}
        return self._joined([piece.grades(made[id(piece.base)]) for piece in self.pieces])

    def everything(self, make: Callable[[Steps], Steps | None]) -> tuple[Any, ...]:
        """Return all that an explanation makes, judged or not, as bytes."""
        made = {id(base): make(base) for base in self.bases}
        return tuple(piece.everything(made[id(piece.base)]) for piece in self.pieces)

    def _joined(self, grades: list[Grades]) -> Grades:
        return np.concatenate(grades) if grades else np.zeros(0, np.int8)

    def by_piece(self, flags: Array) -> Iterator[tuple[Piece, Array]]:
        """Yield what is flat, one an answer of all pieces, piece by piece."""
        begin = 0
        for piece in self.pieces:
            yield piece, flags[begin : begin + piece.size]
            begin += piece.size

    def where(self, flags: NDArray[np.bool_]) -> tuple[Piece, ...]:
        """Return the pieces in which there are any."""
        return tuple(piece for piece, some in self.by_piece(flags) if some.any())


def changes(base: Steps, steps: Steps | None) -> set[str]:
    """Return which steps are others; all of them if there are none."""
    return set(ORDER) if steps is None else {n for n in ORDER if getattr(steps, n) is not getattr(base, n)}


@dataclass(frozen=True, eq=False)
class _Part:
    """One part of the answers, as words that are equal where the numbers are."""

    dtype: np.dtype[Any]
    theirs: Array  # [n]
    ours: Array | None  # [n]
    zero: NDArray[np.bool_]  # [n]

    @classmethod
    def of(cls, theirs: Array, ours: Array | None) -> _Part:
        """Make it of their answers and those of the reference."""
        zero = theirs.reshape(-1) == 0 if theirs.dtype.kind == "f" else np.zeros(0, bool)
        same_size = ours is not None and ours.size == theirs.size
        right = _words(ours, theirs.dtype)[0] if ours is not None and same_size else None
        return cls(theirs.dtype, _words(theirs, theirs.dtype)[0], right, zero)

    def grade(self, made: Array | None) -> Grades:
        """Grade what is made for it; narrower answers are compared in their own format."""
        if made is None or made.size != self.theirs.size:
            return np.full(self.theirs.size, OTHER, np.int8)
        words, numbers = _words(made, self.dtype)
        grades = np.where(words == self.theirs, np.int8(EXACT), np.int8(WRONG))
        wrong = np.flatnonzero(grades == WRONG)
        if not wrong.size:
            return grades
        if self.zero.size:
            grades[wrong[self.zero[wrong] & (numbers[wrong] == 0)]] = ALIKE
        if self.ours is not None:
            grades[wrong[(grades[wrong] == WRONG) & (words[wrong] != self.ours[wrong])]] = OTHER
        return grades


def _words(numbers: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """[n] words that are equal where the numbers are in a format that is as narrow as that of theirs; and these."""
    flat = numbers.reshape(-1)
    if dtype.kind != "f":
        return flat, flat
    if dtype.itemsize < flat.dtype.itemsize:
        with np.errstate(over="ignore", under="ignore"):
            flat = flat.astype(dtype)
    return identity(flat), flat


def spread_evenly(at: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Return at most n of them, evenly spread."""
    return at if at.size <= n else at[np.linspace(0, at.size - 1, max(n, 1)).astype(np.intp)]
